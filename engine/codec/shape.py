"""What can be seen of a batch before it is encoded: whether MessagePack may carry it, and whether its events share.

Decides two things with one walk that stays in C. *Plain*: every object is exactly of a type of MessagePack and is
in one place only, so that MessagePack loses neither type nor identity. *Tree*: no object below the events that can be
changed is in two places, so one pickle memo may serve distinct events and still give independent ones. Both are on
the safe side: an object that the walk does not know makes a batch neither.

Knows nothing of formats and bytes.
"""

from __future__ import annotations

import copyreg
import gc
import sys
from collections import OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PosixPath, PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

#: Types whose objects cannot be changed and hold nothing else: sharing them is harmless, MessagePack carries them.
ATOMS = frozenset({str, bytes, int, float, bool, type(None)})
#: Types that MessagePack carries exactly, as far as their values allow it (size of an int, keys of a dict).
PLAIN = ATOMS | {dict, list}

_LEAVES = ATOMS | {
    complex, range, date, datetime, time, timedelta, timezone, Decimal, Fraction, UUID, PosixPath, PurePosixPath,
    type(Ellipsis), type(NotImplemented),
}  # fmt: skip
_FROZEN = frozenset({tuple, frozenset})
_CONTAINERS = _FROZEN | {dict, list, set, bytearray, OrderedDict, defaultdict, deque}
_ONE_PER_PROCESS = (type, Enum)  # never copied
_LONG = 256  # characters or bytes
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class made by a class statement


class Shape(NamedTuple):
    """What the walk saw; the head of this file defines the two words."""

    plain: bool
    tree: bool


FLAT = Shape(plain=True, tree=True)
_UNKNOWN = Shape(plain=False, tree=False)


def shape_of(events: list[Any]) -> Shape:
    """Return whether `events` are plain and a tree, walking them level by level; the events themselves may repeat."""
    plain, unshared, level = True, False, events
    while True:
        types = set(map(type, level))
        plain = plain and types <= PLAIN
        holders = _holders(types - _LEAVES)
        if holders is None:
            return _UNKNOWN
        if not holders:
            return Shape(plain, tree=True)
        inner = _select(level, holders)
        if _hides_references(inner, holders):
            return _UNKNOWN
        # An object with one reference besides those of this walk is in one place: cheaper to see than all ids.
        if not unshared and level is not events and max(map(sys.getrefcount, inner)) > _ALONE:
            if _shares(events):
                return _UNKNOWN
            unshared = True
        level = gc.get_referents(*inner)


def are_flat(events: list[Any], types: set[type]) -> bool:
    """Whether events of these types are plain and a tree, as far as that is seen without a walk: the common cases.

    They are atoms, or dicts of atoms. Until Python 3.13 the garbage collector does not track a dict that has only ever
    held objects without references, and whether it does is a flag (later versions track every dict: they are walked).
    MessagePack itself refuses every object in such a dict that it would not carry exactly, except a bytearray, which
    has no hash: hashing all objects at once is the quickest way to see that there is none. So what is flat may still be
    refused by MessagePack.
    """
    if types <= ATOMS:
        return True
    if types != {dict} or any(map(gc.is_tracked, events)):
        return False
    inside = gc.get_referents(*events)
    if _is_long(events[0]) or _is_long(events[-1]):  # hashing a long text takes longer than comparing its type
        return set(map(type, inside)) <= ATOMS
    try:
        hash(tuple(inside))
    except Exception:  # whatever a __hash__ raises
        return False
    return True


def _is_long(event: dict[Any, Any]) -> bool:
    return any(type(value) in (str, bytes) and len(value) > _LONG for value in event.values())


def are_distinct(events: list[Any]) -> bool:
    """Whether no event is in the list twice."""
    return len(set(map(id, events))) == len(events)


def _select(level: list[Any], holders: set[type]) -> list[Any]:
    return [item for item in level if type(item) in holders]


def _count_alone() -> int:
    """Return the reference count of an object in one place as `shape_of` would see it."""
    owner: list[list[Any]] = [[]]
    level = gc.get_referents(owner)
    inner = _select(level, {list})
    return max(map(sys.getrefcount, inner))


_ALONE = _count_alone()


def _shares(events: list[Any]) -> bool:
    """Whether an object below `events` that can be changed is reached in two ways; looks at every object."""
    level = list({id(event): event for event in events}.values())
    seen: set[int] = set()
    while level:
        holders = _holders(set(map(type, level)) - _LEAVES)
        if holders is None:
            return True
        fresh = []
        for item in level:
            if type(item) in holders and id(item) not in seen:
                seen.add(id(item))
                fresh.append(item)
            elif type(item) in holders and not _is_frozen_through(item):
                return True
        level = gc.get_referents(*fresh)
    return False


def _is_frozen_through(item: Any) -> bool:
    """Whether `item` is a tuple or frozenset of things that hold nothing."""
    is_frozen = type(item) in _FROZEN or _is_named_tuple(type(item))
    return is_frozen and not _holders(set(map(type, gc.get_referents(item))) - _LEAVES)


def _holders(types: set[type]) -> set[type] | None:
    """Return those of `types` that must be walked or must not be shared; `None` if a type is not known."""
    holders = set()
    for cls in types:
        if cls in _CONTAINERS or _is_ordinary(cls) or _is_named_tuple(cls) or cls is _numpy("ndarray"):
            holders.add(cls)
        elif not issubclass(cls, _ONE_PER_PROCESS) and not _is_numpy_scalar(cls):
            return None
    return holders


def _hides_references(inner: list[Any], holders: set[type]) -> bool:
    """Whether an array holds Python objects, which the walk cannot follow."""
    ndarray = _numpy("ndarray")
    return ndarray in holders and any(item.dtype.hasobject for item in inner if type(item) is ndarray)


def _is_ordinary(cls: type) -> bool:
    """Whether pickle takes instances of `cls` apart by their attributes alone, which is what the walk follows."""
    return (
        all(base is object or base.__flags__ & _HEAP_TYPE for base in cls.__mro__)
        and _is_default(cls, "__reduce_ex__")
        and _is_default(cls, "__reduce__")
        and (_is_default(cls, "__getstate__") or cls.__getstate__.__module__ == "dataclasses")
        and not any(hasattr(cls, name) for name in ("__getnewargs__", "__getnewargs_ex__"))
        and not issubclass(cls, _ONE_PER_PROCESS)
        and cls not in copyreg.dispatch_table
    )


def _is_default(cls: type, name: str) -> bool:
    return getattr(cls, name) is getattr(object, name)


def _is_named_tuple(cls: type) -> bool:
    return cls.__mro__ == (cls, tuple, object) and hasattr(cls, "_fields") and cls not in copyreg.dispatch_table


def _numpy(name: str) -> Any:
    """Return a type of numpy, or `None` in a process that has not imported it."""
    return getattr(sys.modules.get("numpy"), name, None)


def _is_numpy_scalar(cls: type) -> bool:
    return _numpy("generic") is not None and issubclass(cls, _numpy("generic")) and not issubclass(cls, _numpy("void"))
