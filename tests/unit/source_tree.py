"""The files of the package, parsed, and what each imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Each folder may import from itself and from those before it.
LAYERS = ("nodes", "graphs", "engine")
PACKAGE = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
MODULES = [path for path in PACKAGE if path.name != "__init__.py"]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=name_of(path))


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Return every module that a file imports, also inside functions, under its full name, with the line."""
    package = ["sluiceway", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = [*above, *([node.module] if node.module else [])]
            yield ".".join(base), node.lineno
            # A name that is imported from a package may be a module of it.
            yield from ((".".join([*base, alias.name]), node.lineno) for alias in node.names)
