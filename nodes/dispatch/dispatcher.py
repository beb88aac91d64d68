"""The dispatcher of one pool: hands runs of numbers to workers that have room, lowest number first.

Decides who works on what and what is handed out again. It knows every task until its numbers are accepted; only
acceptance makes a number answered. It knows neither payloads nor processes.
"""

from __future__ import annotations

import heapq
from collections import deque

from ..ordering.budget import Pace
from ..ordering.intervals import Intervals
from ..program.program import Orders, Program
from .batch_sizing import TARGET_BYTES, BatchSizer
from .blame import Blame, LastSeen
from .task import Task, WorkerLoad, WorkerLoads

#: While only the head may grow, a task has this fraction of its usual size.
HEAD_SHARE = 8


class Dispatcher:
    """Hands out the numbers of one pool that are ready, and accepts the first answer for each."""

    def __init__(
        self,
        program: Program,
        *,
        ordered: bool = False,
        max_deaths: int | None = 3,
        batch_bytes: int = TARGET_BYTES,
        all_workers: int = 1,
        durable: bool = False,
        max_events: int | None = None,
    ) -> None:
        self.program = program
        self.accepted = Intervals()
        self.sizer = BatchSizer(batch_bytes, all_workers)
        self.blame = Blame(program.steps, max_deaths)
        self.stop_at: int | None = None
        self._ready: list[tuple[int, int]] = []
        #: Ready too, but suspects of a death: never joined, and each for a worker that has nothing else.
        self._isolated: list[tuple[int, int]] = []
        self._ready_numbers = 0
        self._leavers: list[WorkerLoad] = []
        self._next_task = 0
        #: In a pool that keeps a state: a new worker begins at this number, from which on the inputs are retained.
        self.replay_from: int | None = None
        #: Nothing from this number on is handed out yet.
        self.hold_at: int | None = None
        self._lists = [step.options.batch_size for step in program.steps if step.options.batch_size]
        self._in_flight_cap = max((step.options.concurrency for step in program.steps), default=1) if program.needs_loop else 0
        if self._in_flight_cap:
            # A loop that works on lists must be able to hold one whole list and the next.
            self._in_flight_cap = 2 if ordered else max(self._in_flight_cap, 2 * max(self._lists, default=0))
        #: Where answers outlive the run, the most numbers that a worker may have whose answers are not durable: that is
        #: what a crash may cost. A list of `map_batches` and the next one must fit.
        self._most_undurable = 0
        if durable:
            calls = max(step.options.concurrency for step in program.steps if step.options.durable)
            self._most_undurable = max(calls, 2 * max(self._lists, default=0))
        most, full = 2 * self._in_flight_cap, None
        if durable:
            most, full = min(most, self._most_undurable), self._most_undurable - max(self._lists, default=1) + 1
        self._loads = WorkerLoads(most, full, max_events)
        self.workers = self._loads.by_name

    @property
    def frontier(self) -> int:
        """The lowest number without an accepted answer."""
        return self.accepted.frontier()

    @property
    def waiting(self) -> int:
        """How many numbers are ready and not handed out."""
        return self._ready_numbers

    @property
    def batch(self) -> int:
        """How many numbers the next task may hold."""
        size = self.sizer.size
        if self._lists:
            size = max(size, *self._lists)
        if self._in_flight_cap:
            size = min(size, max(1, self._in_flight_cap // 2))
        if self._most_undurable:
            size = min(size, max(1, self._most_undurable // 2))
        return size

    def wanted(self, lookahead: int) -> int:
        """Return how many more numbers should be made ready to keep the workers busy, `lookahead` tasks ahead."""
        if not self.workers:
            return 0
        room = self._loads.room(self._unit)
        return max(0, (room + lookahead * len(self.workers)) * self.batch - self._ready_numbers)

    def add_ready(self, start: int, stop: int) -> None:
        """Record that the inputs of `start .. stop - 1` have arrived."""
        if start < stop:
            heapq.heappush(self._ready, (start, stop))
            self._ready_numbers += stop - start

    def add_worker(self, name: str) -> None:
        """Add a worker that asks for work."""
        self._loads.add(name)

    def hand_out(self, pace: Pace, head: int, now: float) -> list[Task]:
        """Return the tasks to send now: at most what the workers have room for, lowest numbers first."""
        if pace is Pace.HOLD or not self._ready_numbers:
            return []
        tasks: list[Task] = []
        unit = self._unit
        spared: WorkerLoad | None = None
        while True:
            self._drop_above_end()
            apart = spared is None and bool(self._isolated) and (not self._ready or self._isolated[0] < self._ready[0])
            queue = self._isolated if apart else self._ready
            if not queue or (pace is Pace.HEAD and queue[0][0] > head):
                return tasks
            if self.hold_at is not None and queue[0][0] >= self.hold_at:
                return tasks
            worker = self._idle() if apart else self._roomiest(unit, spared)
            if worker is not None:
                size = self._size(pace, unit)
                if self._most_undurable:
                    size = min(size, self._most_undurable - worker.load)
                tasks.append(self._task(worker, apart, size, now))
                continue
            if apart:
                # The suspect waits until this worker has finished its tasks; the others go on meanwhile.
                spared = next((w for w in self.workers.values() if not w.leaving and not w.isolated), None)
            if not apart or spared is None:
                return tasks

    def _drop_above_end(self) -> None:
        if self.stop_at is None:
            return
        for queue in (self._ready, self._isolated):
            if queue and queue[0][0] > self.stop_at:
                self._ready_numbers -= sum(stop - start for start, stop in queue)
                queue.clear()

    @property
    def _unit(self) -> int:
        """What the room of a worker is computed from, the same for all: the size of a task, or how many tasks each may hold."""
        return self.batch if self._in_flight_cap else self.sizer.depth

    def _roomiest(self, unit: int, spared: WorkerLoad | None) -> WorkerLoad | None:
        return self._loads.roomiest(unit) if spared is None else self._loads.roomiest_but(unit, spared)

    def _idle(self) -> WorkerLoad | None:
        idle = (worker for worker in self.workers.values() if not worker.tasks and not worker.leaving)
        return next((worker for worker in idle if self._loads.allowance(worker, 1) > 0), None)

    def _size(self, pace: Pace, unit: int) -> int:
        size = self.batch
        if pace is Pace.HEAD:
            return max(1, size // HEAD_SHARE)
        if self._ready_numbers >= size * len(self.workers):
            return size
        # What is ready is shared among the workers with room, unless it is hardly any work.
        share = -(-self._ready_numbers // max(1, self._loads.with_room(unit)))
        least = min(size, max(1, size // 8)) if self.sizer.seconds_each else 1
        return max(min(size, share), least)

    def _task(self, worker: WorkerLoad, apart: bool, size: int, now: float) -> Task:
        queue = self._isolated if apart else self._ready
        start, stop = heapq.heappop(queue)
        again = self.replay_from is not None and start < self.frontier
        if again:
            size = min(size, self.frontier - start)  # numbers that are handled again are not mixed with new ones
        else:
            size = self._loads.allowance(worker, size)  # suspects stay together all the same
        if self.hold_at is not None:
            size = min(size, self.hold_at - start)
        # Suspects stay together, because the next death must be due to one of the same numbers; others are joined and split.
        end = stop if apart and self.replay_from is None else min(stop, start + size)
        while not apart and end == stop and end - start < size and queue and queue[0][0] == end:
            _, stop = heapq.heappop(queue)
            end = min(stop, start + size)
        if end < stop:
            heapq.heappush(queue, (end, stop))
        self._ready_numbers -= end - start
        self._next_task += 1
        opened = Intervals()
        opened.add(start, end)
        task = Task(self._next_task, start, end, worker.name, self._orders(start, end), now, opened)
        worker.tasks[task.id] = task
        worker.load += end - start
        worker.given += 0 if again else end - start
        worker.isolated = apart
        self._loads.update(worker)
        return task

    def handed_out_below(self, upto: int) -> int:
        """Return the number below which everything was handed out, of what is ready up to `upto`."""
        return min([upto, *(queue[0][0] for queue in (self._ready, self._isolated) if queue)])

    def _orders(self, start: int, stop: int) -> Orders:
        blame = self.blame
        if not blame.concerns(start, stop):
            return Orders()
        verdicts = {call: v for call, v in blame.verdicts.items() if start <= call[1] < stop}
        used = {call: n for call, n in blame.used.items() if start <= call[1] < stop}
        return Orders(True, verdicts, used, None, *blame.deaths_in(start, stop))

    def accept(self, name: str, task_id: int, start: int, stop: int, ends_here: bool) -> list[tuple[int, int]]:
        """Accept an answer for `start .. stop - 1`; return the parts for which it is the first answer.

        `ends_here` says that the run ends inside this answer, so that the numbers of its task above it need none.
        """
        worker = self.workers.get(name)
        task = worker.tasks.get(task_id) if worker is not None else None
        if worker is None or task is None:
            return []
        owed = task.open.shared(start, stop)
        answered = task.open.remove(start, task.stop if ends_here else stop)
        if self._most_undurable:
            worker.undurable += answered
        else:
            worker.load -= answered
        if not task.open:
            del worker.tasks[task_id]
            worker.isolated = False
        worker.answered += stop - start
        self._loads.update(worker)
        return [part for lo, hi in owed for part in self.accepted.add(lo, hi)]

    def take_undurable(self) -> list[tuple[str, int]]:
        """Return how many numbers each worker has answered since the last call, if their answers are to outlive the run."""
        taken = []
        for worker in self.workers.values():
            if worker.undurable:
                taken.append((worker.name, worker.undurable))
                worker.undurable = 0
        return taken

    def record_durable(self, name: str, count: int) -> None:
        """Record that the answers of a worker for `count` numbers are durable, or need not be."""
        worker = self.workers.get(name)
        if worker is not None:
            worker.load -= count
            self._loads.update(worker)

    def record_return(self, name: str, task_id: int, start: int) -> None:
        """Record that a worker returns the numbers of a task from `start` on, which it has not begun."""
        worker = self.workers.get(name)
        task = worker.tasks.get(task_id) if worker is not None else None
        if worker is None or task is None:
            return
        parts = task.open.shared(start, task.stop)
        returned = task.open.remove(start, task.stop)
        worker.load -= returned
        worker.given -= returned
        if not task.open:
            del worker.tasks[task_id]
            worker.isolated = False
        self._loads.update(worker)
        self._hand_out_again(parts)

    def record_parked(self, name: str, count: int) -> None:
        """Record how many numbers of a worker wait for a retry: they do not count as load."""
        worker = self.workers.get(name)
        if worker is not None:
            worker.load += worker.parked - count
            worker.parked = count
            self._loads.update(worker)

    def holder_of(self, number: int) -> str | None:
        """Return the worker that works on a number, if any."""
        for worker in self.workers.values():
            if any(number in task.open for task in worker.tasks.values()):
                return worker.name
        return None

    def record_leaving(self, name: str) -> None:
        """Record that a worker is to be replaced: it gets no more tasks."""
        worker = self.workers.get(name)
        if worker is not None and not worker.leaving:
            worker.leaving = True
            self._leavers.append(worker)
            self._loads.update(worker)

    def idle_leavers(self) -> list[str]:
        """Return the workers that are to be replaced and have answered everything, each of them once."""
        if not self._leavers:
            return []
        idle = [worker.name for worker in self._leavers if not worker.tasks and worker.name in self.workers]
        self._leavers = [worker for worker in self._leavers if worker.tasks]
        return idle

    def record_exit(self, name: str, seen: LastSeen | None, cause: str) -> WorkerLoad | None:
        """Record that a worker has exited: what it had not answered is handed out again, split by what `seen` shows.

        `seen` is `None` if the engine itself ended it and no event is to blame. Returns what is known of the worker, if any.
        """
        worker = self._loads.remove(name)
        if worker is None:
            return None
        parts = sorted(part for task in worker.tasks.values() for part in task.open)
        if seen is not None and parts:
            parts = self.blame.record_death(parts, worker, seen, cause)
        if self.replay_from is not None:
            # Its state is lost: the next worker begins at the last snapshot and handles again what was answered since.
            begun = self.handed_out_below(min([lo for lo, _ in parts], default=self.frontier))
            parts += [(self.replay_from, begun)] if begun > self.replay_from else []
        self._hand_out_again(parts)
        return worker

    def forget(self, below: int) -> None:
        """Forget who died on the numbers below `below`: they are released, and no worker with a state repeats them."""
        self.blame.forget(below if self.replay_from is None else min(below, self.replay_from))

    def _hand_out_again(self, parts: list[tuple[int, int]]) -> None:
        for lo, hi in self.blame.without_hopeless(parts):
            heapq.heappush(self._isolated if self.blame.concerns(lo, hi) else self._ready, (lo, hi))
            self._ready_numbers += hi - lo


def merge_ready(ports: list[Intervals], port: int, lo: int, hi: int) -> list[tuple[int, int]]:
    """Record that `port` now covers `lo .. hi - 1`; return the parts that every port covers."""
    parts = deque(ports[port].add(lo, hi))
    for other, covered in enumerate(ports):
        if other != port:
            parts = deque(shared for a, b in parts for shared in covered.shared(a, b))
    return list(parts)
