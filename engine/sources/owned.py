"""What a source gives becomes the engine's own.

Decides what a reader may return from `read`, and how the events of a source are copied where somebody else can still
change them.
"""

from __future__ import annotations

from typing import Any

from ...nodes.given import refuse_table, refuse_unordered, refuse_unrun
from ...nodes.ownership.ownership import Ownership
from ..codec.copying import safe_copies

_READ = "the reader's read()"
_GIVES = "it is to give a list of events, an empty one if there is none yet, None at the end"


def source_ownership() -> Ownership:
    """Return what makes the events of one source the engine's own."""
    return Ownership(safe_copies, "the source gave")


def check_read(batch: Any) -> Any:
    """Return what a reader's `read` gave if it can be a sequence of events; raises `NotGiven` for what cannot."""
    if type(batch) is not list:
        refuse_unrun(batch, _READ, _GIVES)
        refuse_table(batch, f"{_READ} gave", _GIVES)
        refuse_unordered(batch, f"{_READ} gave", _GIVES)
    return batch
