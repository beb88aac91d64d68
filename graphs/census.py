"""Ready-made graph: a census of the Python files below a folder, by default those of the standard library.

    sluiceway run sluiceway.graphs.census:graph --set output=census.jsonl

Every file is parsed and measured, which is real work for the processor: one record per file, in the order of the
paths. A census counts everybody, so a file that does not parse is a record too, with an "error" in the place of the
measures. Equal files give equal bytes, whatever the number of workers.

To make it your own, copy it and write `from sluiceway import Graph, jsonl` in the place of its relative imports
(or `import sluiceway as sw`, and `sw.` before both).
"""

from __future__ import annotations

import ast
import hashlib
import sysconfig
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from ..nodes.files.api import jsonl
from .builder.graph import Graph

#: Folders that hold what others installed, not the library itself.
FOREIGN = frozenset({"site-packages", "dist-packages"})

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_IMPORTS = (ast.Import, ast.ImportFrom)
_BRANCHES = (
    ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.BoolOp, ast.comprehension,
    ast.match_case, ast.Assert,
)
_BLOCKS = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.If, ast.For, ast.AsyncFor, ast.While, ast.With,
    ast.AsyncWith, ast.Try, ast.TryStar, ast.Match,
)


def graph(*, root: str | None = None, output: str = "census.jsonl") -> Graph:
    """Wire the graph: every `.py` file below the folder `root` (`None`: the standard library) into `output`."""
    folder = sysconfig.get_path("stdlib") if root is None else root
    census = Graph("census")
    census.source(python_files(folder), name="paths").map(partial(measure, root=folder)).sink(jsonl(output))
    return census


def python_files(root: str) -> list[str]:
    """Return the `.py` files below a folder, relative to it, sorted; without what is installed in it.

    Raises `NotADirectoryError` for what is not a folder.
    """
    if not Path(root).is_dir():
        raise NotADirectoryError(f"cannot count the files in {root}: it is not a folder; name a folder as root")
    below = [(path, path.relative_to(root)) for path in Path(root).rglob("*.py")]
    return sorted(name.as_posix() for path, name in below if FOREIGN.isdisjoint(name.parts) and path.is_file())


def measure(path: str, *, root: str) -> dict[str, Any]:
    """Measure one file, named relative to `root`."""
    source = Path(root, path).read_bytes()
    record: dict[str, Any] = {
        "path": path,
        "bytes": len(source),
        "sha256": hashlib.sha256(source).hexdigest(),
        "lines": source.count(b"\n") + (not source.endswith(b"\n") and source != b""),
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the files' style, which is not ours to judge
            tree = ast.parse(source, filename=path)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two: nested too deep
        return record | {"error": f"{type(error).__name__}: {error}".removesuffix(": ")}
    return record | _count(tree)


def _count(tree: ast.Module) -> dict[str, int]:
    """Count what a file is made of; `nesting` is how deep its blocks stand in each other."""
    functions = classes = imports = branches = deepest = 0
    waiting: list[tuple[ast.AST, int]] = [(tree, 0)]  # a stack: deep trees would exhaust recursion
    while waiting:
        node, depth = waiting.pop()
        functions += isinstance(node, _FUNCTIONS)
        classes += isinstance(node, ast.ClassDef)
        imports += isinstance(node, _IMPORTS)
        branches += isinstance(node, _BRANCHES)
        depth += isinstance(node, _BLOCKS)
        deepest = max(deepest, depth)
        waiting.extend((child, depth) for child in ast.iter_child_nodes(node))
    return {
        "functions": functions,
        "classes": classes,
        "imports": imports,
        "branches": branches,
        "nesting": deepest,
    }
