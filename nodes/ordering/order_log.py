"""The order log: what a run must do again exactly where reading again could interleave differently.

Decides what the log holds. A `Run` says whose events got which numbers, if sources are numbered as they arrive; a `Read`
says what one read returned, if a source could split or order its events differently. Both are durable before any of
their numbers is released, and both are deleted when a checkpoint has passed them. Where they are stored is not known here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msgspec import Struct


class Run(Struct, frozen=True):
    """The numbers `number .. number + count - 1` went to the next events of a source."""

    number: int
    source: int
    count: int


class Read(Struct, frozen=True):
    """One read of a source: its events from `start` on, counted from the beginning of the run, and their extent."""

    source: int
    start: int
    count: int
    extent: object


class Entries(Struct, frozen=True):
    """What is to be made durable, in the order in which it happened."""

    runs: tuple[Run, ...]
    reads: tuple[Read, ...]


class OrderLog:
    """The log of one run: the runs of an earlier one that are to be repeated, and what is new."""

    def __init__(self, number: int = 0, runs: Sequence[Run] = (), reads: Sequence[Read] = ()) -> None:
        self._script: deque[Run] = deque()
        for run in runs:  # the first may begin below the cut
            gone = max(0, number - run.number)
            if run.count > gone:
                self._script.append(Run(run.number + gone, run.source, run.count - gone))
        self._known: dict[int, int] = {}  # of each source, up to which event its reads are in the log
        for read in reads:
            self._known[read.source] = read.start + read.count
        self._runs: list[Run] = []
        self._reads: list[Read] = []

    @property
    def next_run(self) -> Run | None:
        """What is to be repeated next."""
        return self._script[0] if self._script else None

    def count_to_repeat(self, source: int) -> int:
        """Return how many events of a source are to be repeated."""
        return sum(run.count for run in self._script if run.source == source)

    def record_repeated(self, count: int) -> None:
        """Record that `count` events of the next run have got their numbers again."""
        run = self._script.popleft()
        if count < run.count:
            self._script.appendleft(Run(run.number + count, run.source, run.count - count))

    def record_numbered(self, number: int, source: int, count: int) -> None:
        """Record whose events got the numbers `number .. number + count - 1`."""
        last = self._runs[-1] if self._runs else None
        if last is not None and last.source == source and last.number + last.count == number:
            self._runs[-1] = Run(last.number, source, last.count + count)
        else:
            self._runs.append(Run(number, source, count))

    def record_read(self, source: int, start: int, count: int, extent: object) -> None:
        """Record a read, unless it repeats one that is in the log."""
        if start >= self._known.get(source, 0):
            self._reads.append(Read(source, start, count, extent))

    def take_new(self) -> Entries | None:
        """Return what is new since the last call, or `None` if nothing is."""
        if not self._runs and not self._reads:
            return None
        entries = Entries(tuple(self._runs), tuple(self._reads))
        self._runs.clear()
        self._reads.clear()
        return entries
