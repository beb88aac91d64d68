"""What the core asks to be done: plain values, carried out by the hub. Decides nothing, knows no socket and no process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...nodes.dispatch.task import Task
from ...nodes.ordering.barrier import FailureRecord, Release
from ...nodes.ordering.cuts import Cut
from ...nodes.ordering.kept_answers import KeptAnswer
from ...nodes.ordering.order_log import Entries
from ...nodes.ordering.segments import Slice
from ...nodes.ordering.source_positions import SourcePosition


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker, after a pause in seconds."""

    worker: str
    pool: int
    index: int
    pause_s: float


@dataclass(frozen=True, slots=True)
class SendTask:
    """Send a run of numbers to a worker; `inputs` are the slices of each port.

    `answer_batch` is how many numbers it is to answer at once (0: as many as it likes)."""

    worker: str
    task: Task
    inputs: list[list[Slice]]
    answer_batch: int


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Stop a worker that asked to be replaced and has answered everything."""

    worker: str


@dataclass(frozen=True, slots=True)
class Pull:
    """Ask a source for up to `count` events or `nbytes` bytes, without waiting for more than it has."""

    source: int
    count: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class StopSource:
    """Tell a source to send what it has read and to end."""

    source: int


@dataclass(frozen=True, slots=True)
class Deliver:
    """Pass a released run to the ordered sinks; `streams` are the slices of each stream of the tail."""

    release: Release
    streams: list[list[Slice]]
    log: Entries | None = None  #: to be made durable first


@dataclass(frozen=True, slots=True)
class Commit:
    """Commit a cut: everything below it is delivered before this effect, nothing above."""

    cut: Cut


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Tell a source that everything before a position is committed."""

    source: int
    position: object


@dataclass(frozen=True, slots=True)
class AskState:
    """Ask a worker for its state behind the numbers below `n`, all of which it was handed before."""

    worker: str
    n: int


@dataclass(frozen=True, slots=True)
class Restore:
    """Send a worker the state to begin with, before its first task."""

    worker: str
    packed: bytes


@dataclass(frozen=True, slots=True)
class DeliverLoose:
    """Pass numbers of a stream to its unordered sinks."""

    stream: int
    lo: int
    hi: int
    slices: list[Slice]
    log: Entries | None = None  #: to be made durable first


@dataclass(frozen=True, slots=True)
class Keep:
    """Make answers durable, each with the index of its pool, and with them entries of the order log, all at once or nothing.

    Those of a lower `group` are durable before. `positions` are those of the sources behind all that is numbered.
    """

    group: int
    answers: tuple[tuple[int, KeptAnswer], ...]
    log: Entries | None
    positions: tuple[SourcePosition, ...]


@dataclass(frozen=True, slots=True)
class Recall:
    """Return the answers that an earlier run of this pool has kept for `lo .. hi - 1`, or for the first of them."""

    pool: int
    lo: int
    hi: int


#: This many skipped events are logged; the others are only counted.
MAX_SKIP_WARNINGS = 3


@dataclass(frozen=True, slots=True)
class Warn:
    """Log a skipped event; the core asks for the first few only."""

    failure: FailureRecord


@dataclass(frozen=True, slots=True)
class Finish:
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
