"""`MODULE:GRAPH`: how the command line finds a graph.

Decides where modules are looked for, how a file becomes a module that workers know too, and what is wrong usage.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from ...graphs.builder.graph import Graph
from ...nodes.errors import GraphError, kind_of
from .arguments import UsageError, arguments_of, describe_parameters

#: What user code may raise while a graph is made; a script without a guard may also end itself.
_USER_ERRORS = (Exception, SystemExit)


def load_graph(target: str, pairs: Sequence[str]) -> Graph:
    """Return the graph that `MODULE:GRAPH` or `file.py:graph` names; a function is called with the `--set` values.

    Raises `UsageError` for what cannot be found, imported or called; a `GraphError` of the user's code passes through.
    """
    subject = _find(target)
    if isinstance(subject, Graph):
        if pairs:
            raise UsageError(f"--set {pairs[0]}: {target} is a graph and takes no values; name a function that does")
        return subject
    return _call(subject, pairs, target)


def _find(target: str) -> Any:
    """Return the graph or the function that `MODULE:GRAPH` names."""
    where, colon, name = target.rpartition(":")
    if not colon or not where or not name:
        raise UsageError(f"{target!r} names no graph; write MODULE:GRAPH or path/file.py:graph")
    is_file = where.endswith(".py") or os.sep in where
    module = _import_file(Path(where)) if is_file else _import_module(where)
    subject = getattr(module, name, None)
    if subject is None:
        raise UsageError(f"{where} has no {name!r}; {_candidates(module)}")
    if not callable(subject) and not isinstance(subject, Graph):
        raise UsageError(f"{target} is {kind_of(subject)}; name a Graph or a function that returns one")
    return subject


def target_help(target: str) -> str:
    """Return which values the function that `MODULE:GRAPH` names takes, as a text; raises what `load_graph` raises."""
    subject = _find(target)
    if isinstance(subject, Graph):
        return f"{target} is a graph and takes no values."
    lines = describe_parameters(subject, f"{target.rpartition(':')[2]}()")
    doc = (inspect.getdoc(subject) or "").splitlines()
    return "\n".join([*([f"{target}: {doc[0]}"] if doc else []), f"values of {target}, as --set key=value:", *lines])


def _call(function: Any, pairs: Sequence[str], target: str) -> Graph:
    called = f"{target.rpartition(':')[2]}()"
    arguments = arguments_of(function, pairs, called)
    try:
        graph = function(**arguments)
    except GraphError:
        raise
    except _USER_ERRORS as error:
        raise UsageError(f"{called} of {target} raised {_one_line(error)}") from error
    if not isinstance(graph, Graph):
        raise UsageError(f"{called} of {target} returned {kind_of(graph)}; let it return the Graph")
    return graph


def _import_module(name: str) -> ModuleType:
    _search_in(os.getcwd())
    try:
        return importlib.import_module(name)
    except GraphError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(f"there is no module {name!r} in {os.getcwd()} or where Python looks for it") from None
        raise UsageError(f"cannot import {name}: {_one_line(error)}") from error
    except _USER_ERRORS as error:
        raise UsageError(f"cannot import {name}: {_one_line(error)}") from error


def _import_file(path: Path) -> ModuleType:
    """Import a file under its own name if that name finds it; workers then import it as well.

    If the name is taken or no identifier, the module exists in this process alone and goes to workers by value.
    """
    if path.suffix != ".py" or not path.is_file():
        raise UsageError(f"cannot open {path}: there is no such Python file; write MODULE:GRAPH or path/file.py:graph")
    path = path.resolve()
    _search_in(str(path.parent))
    if _finds(path):
        return _import_module(path.stem)
    name = f"sluiceway_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except GraphError:
        raise
    except _USER_ERRORS as error:
        raise UsageError(f"cannot import {path}: {_one_line(error)}") from error
    cloudpickle.register_pickle_by_value(module)
    return module


def _finds(path: Path) -> bool:
    """Whether importing the name of a file finds this very file."""
    if not path.stem.isidentifier():
        return False
    try:
        spec = importlib.util.find_spec(path.stem)
    except ValueError:  # a loaded module without a spec, such as __main__
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == path


def _search_in(folder: str) -> None:
    """Search `folder` for modules, after Python's own: a user's gzip.py must not hide the standard gzip."""
    if folder in sys.path or ("" in sys.path and folder == os.getcwd()):
        return
    library = Path(sysconfig.get_path("stdlib"))
    own = {str(library), str(library / "lib-dynload"), sysconfig.get_path("platstdlib")}
    sys.path.insert(max((at for at, entry in enumerate(sys.path, 1) if entry in own), default=0), folder)


def _candidates(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if not name.startswith("_") and _makes_graph(value)]
    return f"its graphs are {', '.join(names)}" if names else "name a Graph or a function that returns one"


def _makes_graph(value: object) -> bool:
    if not inspect.isfunction(value):
        return isinstance(value, Graph)
    returned = value.__annotations__.get("return")
    return returned is Graph or str(returned).rpartition(".")[2] == "Graph"


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
