"""Tasks and workers as the dispatcher of a pool knows them; finds the worker with the most room without a search.

Decides who counts as having room. Who gets which numbers is decided in `dispatcher`.
"""

from __future__ import annotations

import heapq
from collections import Counter

from msgspec import Struct, field

from ..ordering.intervals import Intervals
from ..program.program import Orders

#: A heap with more than twice as many entries as workers, and this many, is built again.
_SPARE_ENTRIES = 16


class Task(Struct, eq=False):
    """The numbers `start .. stop - 1` for one worker; `open` are those it has not answered."""

    id: int
    start: int
    stop: int
    worker: str
    orders: Orders
    since: float
    open: Intervals


class WorkerLoad(Struct, eq=False):
    """A worker as its dispatcher sees it; call `WorkerLoads.update` after a change."""

    name: str
    tasks: dict[int, Task] = field(default_factory=dict)
    #: Numbers it works on, without those that wait for a retry; where answers outlive the run, until they are durable.
    load: int = 0
    undurable: int = 0  #: of these, those answered that nobody has been asked to keep yet
    parked: int = 0
    answered: int = 0
    given: int = 0  #: numbers handed to it so far, without those that it returned
    leaving: bool = False
    isolated: bool = False  #: whether it has a suspect, and nothing else until that is answered
    rank: int = 0  #: the order in which the workers were added
    level: int = -1  #: how full it is, in tasks or, in a loop, in numbers; -1 if it gets none


_Entry = tuple[int, int, WorkerLoad]


class WorkerLoads:
    """The workers of a pool by how full they are.

    `max_numbers` is how many numbers a worker with a loop may hold; 0 where workers hold tasks one behind the other. From
    `full_from` numbers on a worker gets none, if it is given, and none once it was given `most_given` in all.

    What is asked takes time for the levels in use, of which there are few, and not for each worker.
    """

    def __init__(self, max_numbers: int = 0, full_from: int | None = None, most_given: int | None = None) -> None:
        self.by_name: dict[str, WorkerLoad] = {}
        self._max_numbers = max_numbers
        self._full_from = full_from
        self._most_given = most_given
        self._added = 0
        self._counts: Counter[int] = Counter()
        #: For each level the workers by load, lowest first. An entry counts while the worker's level and load are the same.
        self._heaps: dict[int, list[_Entry]] = {}

    def add(self, name: str) -> None:
        """Add a worker that holds nothing, unless it is known."""
        if name not in self.by_name:
            self._added += 1
            worker = self.by_name[name] = WorkerLoad(name, rank=self._added)
            self.update(worker)

    def remove(self, name: str) -> WorkerLoad | None:
        """Remove a worker and return it, or `None` if it is not known."""
        worker = self.by_name.pop(name, None)
        if worker is not None:
            self._set_level(worker, -1)
        return worker

    def allowance(self, worker: WorkerLoad, size: int) -> int:
        """Return how many of `size` numbers a worker may still be given before it is to be replaced."""
        return size if self._most_given is None else min(size, self._most_given - worker.given)

    def update(self, worker: WorkerLoad) -> None:
        """Record that what a worker holds has changed, or whether it gets more."""
        full = self._full_from is not None and worker.load >= self._full_from
        if full or worker.leaving or worker.isolated or self.allowance(worker, 1) < 1:
            self._set_level(worker, -1)
            return
        level = max(0, worker.load) if self._max_numbers else len(worker.tasks)
        if level != worker.level:
            self._set_level(worker, level)
        heap = self._heaps.setdefault(level, [])
        heapq.heappush(heap, (worker.load, worker.rank, worker))
        if len(heap) > 2 * len(self.by_name) + _SPARE_ENTRIES:
            heap[:] = sorted((w.load, w.rank, w) for w in self.by_name.values() if w.level == level)

    def _set_level(self, worker: WorkerLoad, level: int) -> None:
        if worker.level >= 0:
            self._counts[worker.level] -= 1
            if not self._counts[worker.level]:
                del self._counts[worker.level]
                self._heaps.pop(worker.level, None)
        worker.level = level
        if level >= 0:
            self._counts[level] += 1

    def _limit(self, unit: int) -> int:
        """Return the level from which on a worker has no room."""
        return self._max_numbers or unit

    def room(self, unit: int) -> int:
        """Return how many more tasks the workers may get.

        `unit` is how many tasks each may hold; in a loop, how many numbers make a task.
        """
        most = self._max_numbers
        if most:
            return sum([-((level - most) // unit) * count for level, count in self._counts.items() if level < most])
        return sum([(unit - level) * count for level, count in self._counts.items() if level < unit])

    def with_room(self, unit: int) -> int:
        """Return how many workers may get another task."""
        limit = self._limit(unit)
        return sum([count for level, count in self._counts.items() if level < limit])

    def roomiest(self, unit: int) -> WorkerLoad | None:
        """Return the worker with room that holds the fewest numbers, the one added first among equals."""
        limit = self._limit(unit)
        best: _Entry | None = None
        for level, heap in self._heaps.items():
            if level >= limit:
                continue
            while heap[0][2].level != level or heap[0][2].load != heap[0][0]:
                heapq.heappop(heap)
            if best is None or heap[0] < best:
                best = heap[0]
        return best[2] if best is not None else None

    def roomiest_but(self, unit: int, spared: WorkerLoad) -> WorkerLoad | None:
        """Return the same without one worker, which is to run empty; it goes through all of them."""
        limit = self._limit(unit)
        others = (worker for worker in self.by_name.values() if 0 <= worker.level < limit and worker is not spared)
        return min(others, key=lambda worker: (worker.load, worker.rank), default=None)
