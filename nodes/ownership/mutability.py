"""What of an object can change: which types never do, which hold only what the collector sees, and which are a view.

Decides by type alone, but for the memory of numpy arrays; who else refers to an object is asked elsewhere. What is not
known here may hold anything.
"""

from __future__ import annotations

import array
import gc
import re
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, auto
from fractions import Fraction
from functools import partial
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from sys import getrefcount
from types import BuiltinFunctionType, FunctionType, ModuleType, SimpleNamespace
from typing import Any
from uuid import UUID

from ..given import is_unrun, is_view
from . import reference_counts as counts

#: Types whose objects cannot be changed and hold nothing that can.
IMMUTABLE = frozenset({
    str, bytes, int, float, bool, type(None), complex, range, date, datetime, time, timedelta, timezone, Decimal, Fraction,
    UUID, PosixPath, PurePosixPath, WindowsPath, PureWindowsPath, type(Ellipsis), type(NotImplemented),
    BuiltinFunctionType, ModuleType, re.Pattern, type,
})  # fmt: skip
_ONE_PER_PROCESS = (type, Enum)
#: Types of packages that may not be imported; their objects do not change, and pickle does not know all of them.
_IMMUTABLE_ELSEWHERE = {
    "sqlite3": ("Row",),
    "pandas": ("Timestamp", "Timedelta", "Period", "Interval", "NaT", "NA"),
    "zoneinfo": ("ZoneInfo",),
}
_FROZEN = (tuple, frozenset)
_CONTAINERS = frozenset({
    dict, list, tuple, set, frozenset, slice, OrderedDict, defaultdict, deque, SimpleNamespace, partial,
})  # fmt: skip
_OF_C = frozenset({"wrapper_descriptor", "method_descriptor", "getset_descriptor", "builtin_function_or_method"})
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class made by a class statement


class Mutability(Enum):
    """What of an object of a type can change."""

    LEAF = auto()  #: nothing, and nothing below it
    FROZEN = auto()  #: only what it holds
    HOLDER = auto()  #: it, and what it holds, all of which the collector sees
    BUFFER = auto()  #: what it has, which is its own: bytes, or the traceback of an exception
    ARRAY = auto()  #: a numpy array, which may show the memory of another object
    FUNCTION = auto()  #: what it has captured
    MATCH = auto()  #: the text that a pattern was found in, unless that is one that cannot
    VIEW = auto()  #: it shows another object, or reads what its iterator gives next
    UNRUN = auto()  #: it has yet to be awaited
    OTHER = auto()  #: nobody knows


_SPECIAL = {FunctionType: Mutability.FUNCTION, re.Match: Mutability.MATCH}


def is_record(cls: type) -> bool:
    """Whether what objects of a type hold is given with them: containers, named tuples, dataclasses, not other objects."""
    return cls in _CONTAINERS or issubclass(cls, tuple) or "__dataclass_fields__" in vars(cls)


def captures(function: Any) -> bool:
    """Whether a function sees variables of the function that made it, and is not one that a module has by its name."""
    if function.__closure__ is None:
        return False
    return getattr(sys.modules.get(function.__module__), function.__qualname__, None) is not function


def kind_of(cls: type) -> Mutability:
    """Return what of the objects of a type can change."""
    if _is_leaf(cls):
        return Mutability.LEAF
    if is_unrun(cls):
        return Mutability.UNRUN
    if is_view(cls):
        return Mutability.VIEW
    if cls in _SPECIAL:
        return _SPECIAL[cls]
    if cls is _numpy("ndarray"):
        return Mutability.ARRAY
    if cls in (bytearray, array.array) or issubclass(cls, BaseException):
        return Mutability.BUFFER
    if cls in _FROZEN:
        return Mutability.FROZEN
    if not _is_seen_through(cls):
        return Mutability.OTHER
    return Mutability.FROZEN if _is_by_value(cls) else Mutability.HOLDER


def _is_by_value(cls: type) -> bool:
    """Whether a class means a value that nobody fills again: frozen dataclasses, named tuples, texts, numbers and times."""
    if issubclass(cls, _FROZEN):
        return not cls.__dictoffset__
    frozen = getattr(getattr(cls, "__dataclass_params__", None), "frozen", False)
    return frozen or any(base in IMMUTABLE for base in cls.__mro__)


def _is_leaf(cls: type) -> bool:
    if cls in IMMUTABLE or issubclass(cls, _ONE_PER_PROCESS):
        return True
    generic = _numpy("generic")
    if generic is not None and issubclass(cls, (generic, _numpy("dtype"))) and not issubclass(cls, _numpy("void")):
        return True
    for module, names in _IMMUTABLE_ELSEWHERE.items():
        known = [getattr(sys.modules.get(module), name, None) for name in names]
        if cls in [one if isinstance(one, type) else type(one) for one in known]:
            return True
    return False


def _is_seen_through(cls: type) -> bool:
    """Whether the collector sees all that objects of a type hold: classes written in Python, over plain Python types."""
    return all(
        base is object or base in _CONTAINERS or base in IMMUTABLE or _is_of_python(base) for base in cls.__mro__
    )


def _is_of_python(cls: type) -> bool:
    """Whether a class is written in Python: one of C has methods or attributes of C."""
    return bool(cls.__flags__ & _HEAP_TYPE) and not any(
        type(value).__name__ in _OF_C and name not in ("__dict__", "__weakref__") for name, value in vars(cls).items()
    )


def is_frozen(thing: Any, kind: Callable[[type], Mutability]) -> bool:
    """Whether a frozen thing holds nothing but frozen things, all through."""
    rest, seen = [thing], {id(thing)}
    while rest:
        whole = rest.pop()
        for part in gc.get_referents(whole):
            if id(part) in seen or kind(type(part)) is Mutability.LEAF:
                continue
            if kind(type(part)) is not Mutability.FROZEN and part is not getattr(whole, "__dict__", None):
                return False
            seen.add(id(part))
            rest.append(part)
    return True


def has_own_memory(array: Any) -> bool:
    """Whether the memory of a numpy array is shown by nothing else: its own, or that of an array it is the only view of."""
    if array.dtype.hasobject:
        return False
    base = array.base
    if base is None:
        return bool(array.flags.owndata)
    if type(base) is bytes:
        return True
    return type(base) is type(array) and base.base is None and getrefcount(base) <= counts.ATTRIBUTE


def _numpy(name: str) -> Any:
    """Return a type of numpy, or `None` in a process that has not imported it."""
    return getattr(sys.modules.get("numpy"), name, None)
