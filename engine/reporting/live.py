"""What a run shows while it goes on, beside its report: the head of the line, its workers, the budget, its last dead letters.

Decides which values there are and takes those of the core. Nothing here acts; who looks, and how often, is not known.
"""

from __future__ import annotations

import reprlib
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, field

from ...nodes.events import DeadLetter
from ..core.core import Core
from .report import RunReport

#: How many dead letters are kept to be shown, and how many characters of the error and the event of each.
MAX_LETTERS = 50
MAX_TEXT = 300


class WorkerView(Struct, frozen=True):
    """What a worker does: `pid` is 0 where it runs on another machine, whose status page is not seen here.

    `doing` is a word, `node` and `number` what it is on, `for_s` the seconds since that began, `numbers` how many it has.
    """

    name: str
    pool: str
    pid: int
    doing: str
    node: str | None
    number: int | None
    for_s: float
    numbers: int
    life: int


class BackendView(Struct, frozen=True):
    """What a backend shows of its processes; `sources_open` says that every source outside the calling process is read."""

    workers: tuple[WorkerView, ...] = ()
    sources_open: bool = True


class FlowView(Struct, frozen=True):
    """Where the numbers of a run are, as its core counts them.

    `head` is the lowest number that is not consumed, `answered` says that its results wait for the sinks; `holder` is the
    worker that has it. `waiting` are the numbers that each pool has ready and not handed out, `stays` the distribution of
    the times inside each pool (see `QueueStats.counts`), by the name of the pool.
    """

    head: int = 0
    answered: bool = False
    holder: str | None = None
    in_flight: int = 0
    held: int = 0
    nbytes: int = 0
    limit_bytes: int = 0
    limit_numbers: int = 0
    workers_ready: bool = True
    waiting: Mapping[str, int] = field(default_factory=dict)
    stays: Mapping[str, Mapping[int, int]] = field(default_factory=dict)


class LetterView(Struct, frozen=True):
    """A dead letter as it is shown; `event` is empty unless events may be shown."""

    number: int
    index: int
    node: str
    error: str
    attempts: int
    at: str
    event: str = ""


class LiveRun(Struct, frozen=True):
    """One look at a run. `open` says that its sinks and sources are open and its workers take work.

    `answers` is false where the engine itself did not answer in time. `committed` is the number below which everything is
    committed, `None` where nothing was.
    """

    report: RunReport
    open: bool
    flow: FlowView
    workers: Sequence[WorkerView] = ()
    letters: Sequence[LetterView] = ()
    committed: int | None = None
    answers: bool = True

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return bool(self.report.ended_by)


def flow_of(core: Core) -> FlowView:
    """Return where the numbers are. For the thread that drives the core: nothing of it may change meanwhile."""
    frontier, consumed = core.frontier, core.consumed
    waiting: dict[str, int] = {}
    stays: dict[str, dict[int, int]] = {}
    for pool in core.pools:
        name = pool.wiring.name
        waiting[name] = waiting.get(name, 0) + pool.dispatcher.waiting
        counts = stays.setdefault(name, {})
        for bucket, count in pool.queue_stats.counts().items():
            counts[bucket] = counts.get(bucket, 0) + count
    return FlowView(
        head=consumed,
        answered=frontier > consumed,
        holder=core.holder_of(frontier) if core.in_flight and frontier == consumed else None,
        in_flight=core.in_flight,
        held=core.waiting_results(),
        nbytes=core.budget.bytes,
        limit_bytes=core.budget.limit_bytes,
        limit_numbers=core.budget.limit_numbers,
        workers_ready=all(pool.proven for pool in core.pools),
        waiting=waiting,
        stays=stays,
    )


class LetterLog:
    """The last dead letters of a run, as texts; with `show_events` also their events, abridged."""

    def __init__(self, *, show_events: bool) -> None:
        self._show_events = show_events
        self._last: deque[LetterView] = deque(maxlen=MAX_LETTERS)

    def record(self, letters: Sequence[DeadLetter]) -> None:
        """Record dead letters that are delivered now."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        for letter in letters[-MAX_LETTERS:]:
            event = _abridged(letter.event) if self._show_events else ""
            self._last.append(
                LetterView(letter.seq, letter.index, letter.node, letter.error[:MAX_TEXT], letter.attempts, at, event)
            )

    @property
    def last(self) -> tuple[LetterView, ...]:
        """The last ones, the newest last."""
        return tuple(self._last)


def _abridged(event: Any) -> str:
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = shown.maxlong = 120
    return shown.repr(event)[:MAX_TEXT]
