"""sluiceway runs Python event pipelines on all cores of one machine and keeps their order.

The public names, nothing else. `__init__.pyi` lists each of them once with its home, for type checkers and for this
file. They are loaded on first use, so that a worker process, which needs few of them, starts fast.
"""

import os
import sys
from importlib import import_module
from typing import Any


def _read_homes() -> dict[str, str]:
    """Return the module of every public name, as the lines of the stub say."""
    stub = os.path.splitext(os.path.realpath(__file__))[0] + ".pyi"
    with open(stub, encoding="utf-8") as file:
        words = [line.split() for line in file if line.startswith("from .")]
    return {name: home for _, home, _, name, *_ in words}


_HOMES = _read_homes()

#: The folder of `__main__.py`, which `python -m sluiceway` looks for; there is no other module in it.
__path__.append(os.path.join(__path__[0], "engine", "cli", "as_module"))

__all__ = [name for name in _HOMES if not name.startswith("_")]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_ours(name)}")
    if sys.getrecursionlimit() < 100:
        raise RecursionError(
            f"cannot load sluiceway.{name}: the recursion limit is {sys.getrecursionlimit()}, and imports need 100 at least;"
            " set it higher by sys.setrecursionlimit"
        )
    value = globals()[name] = getattr(import_module(_HOMES[name], __name__), name)
    return value


def _ours(name: str) -> str:
    """Return which of our calls does what a name of another library does, as the end of a text."""
    if name.startswith("_"):
        return ""  # something looks at modules
    ours = import_module(".graphs.builder.option_names", __name__).FOREIGN_NAMES.get(name)
    return f"; use {ours}" if ours else ""


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
