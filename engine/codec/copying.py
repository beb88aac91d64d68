"""Copies of events that may hold anything: by the codec, else by `copy.deepcopy`, else shared.

Decides what happens to an event of a fused chain that no codec can carry: it never leaves its process, so the next
handler gets the object itself rather than nothing; of a plain container only those parts that cannot be copied.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from typing import Any

from .codec import copies
from .errors import CodecError
from .shape import ATOMS


def safe_copies(events: list[Any]) -> list[Any]:
    """Return a copy of every event that can be copied, and the others as they are."""
    flat = _flat_copies(events)
    if flat is not None:
        return flat
    try:
        return copies(events)
    except CodecError:
        return [_copy(event) for event in events]


def _flat_copies(events: list[Any]) -> list[Any] | None:
    """Copy events that are dicts or lists of nothing but immutable values, or such values; return `None` for others."""
    types = set(map(type, events))
    if types <= ATOMS:
        return events
    copier = _COPIERS.get(next(iter(types))) if len(types) == 1 else None
    if copier is None or not set(map(type, gc.get_referents(*events))) <= ATOMS:
        return None
    return list(map(copier, events))


_COPIERS: dict[type, Callable[[Any], Any]] = {dict: dict.copy, list: list.copy}


def _copy(event: Any) -> Any:
    try:
        return copy.deepcopy(event)
    except Exception:  # a lock, an open file: nothing can copy it, but perhaps what is beside it
        return _rebuilt(event)


def _rebuilt(event: Any) -> Any:
    """Return a container with copies of those of its parts that can be copied; anything else as it is."""
    if type(event) is dict:
        return dict(zip(event, map(_copy, event.values()), strict=True))
    if type(event) in (list, tuple):
        return type(event)(map(_copy, event))
    return event
