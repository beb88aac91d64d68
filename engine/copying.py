"""Copies of events that may hold anything: by the codec, else by `copy.deepcopy`, else shared.

Decides what happens to an event inside a fused chain that no codec can carry: it never leaves its process, so a
handler behind it is better served with the object itself than not at all.
"""

from __future__ import annotations

import copy
from typing import Any

from .codec import copies
from .codec_errors import CodecError


def safe_copies(events: list[Any]) -> list[Any]:
    """Give a copy of every event that can be copied, and the others as they are."""
    try:
        return copies(events)
    except CodecError:
        return [_copy(event) for event in events]


def _copy(event: Any) -> Any:
    try:
        return copy.deepcopy(event)
    except Exception:  # a generator, a lock, an open file: it cannot be copied by anyone
        return event
