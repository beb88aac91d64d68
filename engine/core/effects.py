"""What the core asks to be done: plain values, carried out by the hub. Decides nothing, knows no socket and no process."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ...nodes.dispatch.task import Task
from ...nodes.ordering.barrier import FailureRecord, Release
from ...nodes.ordering.cuts import Cut
from ...nodes.ordering.kept_answers import KeptAnswer
from ...nodes.ordering.order_log import Entries
from ...nodes.ordering.segments import Slice
from ...nodes.ordering.source_positions import SourcePosition


class Spawn(Struct, frozen=True):
    """Start a worker, after a pause in seconds."""

    worker: str
    pool: int
    index: int
    pause_s: float


class SendTask(Struct, frozen=True):
    """Send a run of numbers to a worker; `inputs` are the slices of each port.

    `answer_batch` is how many numbers it is to answer at once (0: as many as it likes)."""

    worker: str
    task: Task
    inputs: list[list[Slice]]
    answer_batch: int


class StopWorker(Struct, frozen=True):
    """Stop a worker that asked to be replaced and has answered everything."""

    worker: str


class Pull(Struct, frozen=True):
    """Ask a source for up to `count` events or `nbytes` bytes, without waiting for more than it has."""

    source: int
    count: int
    nbytes: int


class StopSource(Struct, frozen=True):
    """Tell a source to send what it has read and to end."""

    source: int


class Deliver(Struct, frozen=True):
    """Pass a released run to the ordered sinks; `streams` are the slices of each stream of the tail."""

    release: Release
    streams: list[list[Slice]]
    log: Entries | None = None  #: to be made durable first


class Commit(Struct, frozen=True):
    """Commit a cut: everything below it is delivered before this effect, nothing above."""

    cut: Cut


class Acknowledge(Struct, frozen=True):
    """Tell a source that everything before a position is committed."""

    source: int
    position: object


class AskState(Struct, frozen=True):
    """Ask a worker for its state behind the numbers below `n`, all of which it was handed before."""

    worker: str
    n: int


class Restore(Struct, frozen=True):
    """Send a worker the state to begin with, before its first task."""

    worker: str
    packed: bytes


class DeliverLoose(Struct, frozen=True):
    """Pass numbers of a stream to its unordered sinks."""

    stream: int
    lo: int
    hi: int
    slices: list[Slice]
    log: Entries | None = None  #: to be made durable first


class Keep(Struct, frozen=True):
    """Make answers durable, each with the index of its pool, and with them entries of the order log, all at once or nothing.

    Those of a lower `group` are durable before. `positions` are those of the sources behind all that is numbered.
    """

    group: int
    answers: tuple[tuple[int, KeptAnswer], ...]
    log: Entries | None
    positions: tuple[SourcePosition, ...]


class Recall(Struct, frozen=True):
    """Return the answers that an earlier run of this pool has kept for `lo .. hi - 1`, or for the first of them."""

    pool: int
    lo: int
    hi: int


#: This many skipped events are logged; the others are only counted.
MAX_SKIP_WARNINGS = 3


class Warn(Struct, frozen=True):
    """Log a skipped event; the core asks for the first few only."""

    failure: FailureRecord


class Finish(Struct, frozen=True):
    """The run is over: everything below the end is released."""

    ended_by: str
    failure: FailureRecord | None = None
    source_error: Any = None
    start_up: tuple[str, str, str] | None = None
    lost_state: FailureRecord | None = None  #: of a number without which a state cannot be made again


Effect = (
    Spawn
    | SendTask
    | StopWorker
    | Pull
    | StopSource
    | Deliver
    | DeliverLoose
    | Commit
    | Acknowledge
    | AskState
    | Restore
    | Keep
    | Recall
    | Warn
    | Finish
)
