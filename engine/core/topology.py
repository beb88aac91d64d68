"""The topology of a run: which pools read and write which streams, as plain data for the core.

It decides nothing; the compiler writes it.
"""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import Struct

from ...nodes.ordering.sequencer import Order
from ...nodes.program.program import Program

#: The stream that the sequencer writes.
SOURCE_STREAM = 0


class PoolWiring(Struct, frozen=True):
    """One pool: what it runs, how many workers, which streams it reads and writes."""

    name: str
    program: Program
    workers: int
    ordered: bool
    ports: tuple[int, ...]
    exits: tuple[int, ...]
    in_order: bool = False  #: whether a number is ready only once all below it are
    stateful: bool = False  #: whether its handlers keep a state that is saved and rebuilt
    durable: str | None = None  #: the node whose answers outlive the run, alone with its joins in this pool; if it has one


class Wiring(Struct, frozen=True):
    """The whole run: `remote[i]` says whether source i is in another process; streams are numbered from 0.

    `tail` are the streams that are released in order, `loose` those that unordered sinks read at once.
    """

    pools: tuple[PoolWiring, ...]
    tail: tuple[int, ...]
    loose: tuple[int, ...]
    remote: tuple[bool, ...]
    order: Order = "arrival"
    needs_end: bool = False  #: whether a handler emits results at the end of the input, under a number of its own


class Packing(Protocol):
    """How events become payloads; the core only needs it for merged sources and for a limit inside a chunk."""

    def pack(self, items: list[Any]) -> tuple[Any, int]:
        """Return the payload of these events and its size in bytes."""

    def head(self, payload: Any, count: int) -> tuple[Any, int]:
        """Return the payload of the first `count` events of a payload, and its size in bytes."""


#: The ends without an error after which a run with checkpoints can be resumed: files are committed, and not put in place yet.
PAUSES = ("time_limit", "stop")


def closes(ended_by: str | None, *, resumes: bool = False) -> bool:
    """Whether the end of the reading is the end of the input, at which final results and windows are emitted.

    `ended_by` is what ended the reading, `None` for the sources themselves. A run that was interrupted closes
    nothing. With `resumes` another run goes on from here, so only the sources' end and a limit are ends.
    """
    if ended_by in (None, "source", "limit"):
        return True
    return ended_by in PAUSES and not resumes
