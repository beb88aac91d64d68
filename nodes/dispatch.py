"""The dispatcher of one pool: hands runs of numbers to workers that have room, lowest number first.

Decides who works on what and what is handed out again. It retains the knowledge of every task until its numbers are
accepted; only acceptance makes a number answered.
"""

from __future__ import annotations

import heapq
import sys
from bisect import bisect_right, insort
from collections import deque
from dataclasses import dataclass, field

from .blame import Blame, LastSeen, Phase
from .intervals import Intervals
from .pacing import Pacer
from .program import Orders, Program, Verdict
from .window import Pace

#: While only the head may grow, a task is this fraction of a usual one.
HEAD_SHARE = 8


@dataclass(slots=True, eq=False)
class Task:
    """The numbers `start .. stop - 1` in the hands of one worker; `open` are those it has not answered."""

    id: int
    start: int
    stop: int
    worker: str
    orders: Orders
    since: float
    open: Intervals


@dataclass(slots=True, eq=False)
class Worker:
    """A worker as its dispatcher sees it."""

    name: str
    tasks: dict[int, Task] = field(default_factory=dict)
    held: int = 0  #: numbers in its hands, without those that wait for a retry
    parked: int = 0
    answered: int = 0
    leaving: bool = False
    told: bool = False


class Dispatcher:
    """Hands out the numbers of one pool that are ready, and takes the first answer for each."""

    def __init__(
        self, program: Program, *, ordered: bool = False, max_deaths: int | None = 3
    ) -> None:
        self.program = program
        self.workers: dict[str, Worker] = {}
        self.accepted = Intervals()
        self.pacer = Pacer()
        self.blame = Blame(program.steps, max_deaths)
        self.stop_at: int | None = None
        self._ready: list[tuple[int, int]] = []
        self._ready_numbers = 0
        #: Numbers that no task may reach across: the suspects of a death stay apart.
        self._bounds: list[int] = []
        self._careful: set[int] = set()
        #: Numbers whose verdict no worker can carry out; whoever calls `left` answers for them.
        self.condemned: list[tuple[int, Verdict]] = []
        self._next_task = 0
        self._lists = [step.batch_size for step in program.steps if step.batch_size]
        self._in_flight_cap = max((step.concurrency for step in program.steps), default=1) if program.needs_loop else 0
        self._in_flight_cap = 2 if self._in_flight_cap and ordered else self._in_flight_cap

    @property
    def frontier(self) -> int:
        """The lowest number without an accepted answer."""
        return self.accepted.frontier()

    @property
    def backlog(self) -> int:
        """How many numbers are ready and in nobody's hands."""
        return self._ready_numbers

    @property
    def batch(self) -> int:
        """How many numbers the next task may hold."""
        size = self.pacer.size()
        if self._lists:
            size = max(size, max(self._lists))
        if self._in_flight_cap:
            size = min(size, max(1, self._in_flight_cap // 2))
        return size

    def wanted(self, lookahead: int) -> int:
        """Give how many more numbers should be made ready to keep the workers busy, `lookahead` tasks ahead."""
        if not self.workers:
            return 0
        room = sum(self._room(worker) for worker in self.workers.values())
        return max(0, (room + lookahead * len(self.workers)) * self.batch - self._ready_numbers)

    def ready(self, start: int, stop: int) -> None:
        """Take in that the inputs of these numbers have arrived."""
        if start < stop:
            heapq.heappush(self._ready, (start, stop))
            self._ready_numbers += stop - start

    def joined(self, name: str) -> None:
        """Take in that a worker is there and asks for work."""
        self.workers[name] = Worker(name)

    def hand_out(self, pace: Pace, head: int, now: float) -> list[Task]:
        """Give the tasks to send now: at most what the workers have room for, lowest numbers first."""
        tasks: list[Task] = []
        while self._ready and pace is not Pace.HOLD:
            start, stop = self._ready[0]
            if self.stop_at is not None and start > self.stop_at:
                self._drop_ready()
                break
            if pace is Pace.HEAD and start != head:
                break
            worker = self._roomiest()
            if worker is None:
                break
            tasks.append(self._task(worker, self._size(pace), now))
            if pace is Pace.HEAD:
                break
        return tasks

    def _drop_ready(self) -> None:
        self._ready.clear()
        self._ready_numbers = 0

    def _room(self, worker: Worker) -> int:
        if worker.leaving or (self._careful and not self._careful.isdisjoint(worker.tasks)):
            return 0  # a suspect has its worker to itself, so that a death points at it
        if self._in_flight_cap:
            return max(0, -(-(2 * self._in_flight_cap - worker.held) // self.batch))
        return max(0, self.pacer.depth() - len(worker.tasks))

    def _roomiest(self) -> Worker | None:
        best = None
        for worker in self.workers.values():
            if self._room(worker) and (best is None or worker.held < best.held):
                best = worker
        return best

    def _size(self, pace: Pace) -> int:
        size = self.batch
        if pace is Pace.HEAD:
            return max(1, size // HEAD_SHARE)
        # What is there is shared among those who could take it, unless it is hardly any work.
        hands = sum(1 for worker in self.workers.values() if self._room(worker))
        share = -(-self._ready_numbers // max(1, hands))
        least = min(size, max(1, size // 8)) if self.pacer.seconds_each else 1
        return max(min(size, share), least)

    def _task(self, worker: Worker, size: int, now: float) -> Task:
        start, stop = heapq.heappop(self._ready)
        most = min(start + size, self._bound_above(start))
        end = min(stop, most)
        while end == stop and end < most and self._ready and self._ready[0][0] == end:
            _, stop = heapq.heappop(self._ready)
            end = min(stop, most)
        if end < stop:
            heapq.heappush(self._ready, (end, stop))
        self._ready_numbers -= end - start
        self._next_task += 1
        opened = Intervals()
        opened.add(start, end)
        task = Task(self._next_task, start, end, worker.name, self._orders(start, end), now, opened)
        worker.tasks[task.id] = task
        worker.held += end - start
        if task.orders.careful:
            self._careful.add(task.id)
        return task

    def _bound_above(self, number: int) -> int:
        at = bisect_right(self._bounds, number)
        return self._bounds[at] if at < len(self._bounds) else sys.maxsize

    def _keep_apart(self, *bounds: int) -> None:
        frontier = self.frontier
        self._bounds = [bound for bound in self._bounds if bound > frontier]
        for bound in bounds:
            if bound not in self._bounds:
                insort(self._bounds, bound)

    def _orders(self, start: int, stop: int) -> Orders:
        blame = self.blame
        if not blame.concerns(start, stop):
            return Orders()
        verdicts = {call: v for call, v in blame.verdicts.items() if start <= call[1] < stop}
        used = {call: n for call, n in blame.used.items() if start <= call[1] < stop}
        return Orders(True, verdicts, used)

    def accept(self, name: str, task_id: int, start: int, stop: int, cut: bool) -> list[tuple[int, int]]:
        """Take in an answer for `start .. stop - 1` and give the parts that are the first answer for their numbers.

        `cut` says that the worker will not answer the rest of its task, because the run ends inside this answer.
        """
        worker = self.workers.get(name)
        task = worker.tasks.get(task_id) if worker is not None else None
        if worker is not None and task is not None:
            worker.held -= task.open.remove(start, stop)
            if cut:
                worker.held -= len(task.open)
            if cut or not task.open:
                del worker.tasks[task_id]
                self._careful.discard(task_id)
            worker.answered += stop - start
        return self.accepted.add(start, stop)

    def parked(self, name: str, count: int) -> None:
        """Take in how many numbers of a worker wait for a retry: they are no load."""
        worker = self.workers.get(name)
        if worker is not None:
            worker.held += worker.parked - count
            worker.parked = count

    def holder_of(self, number: int) -> str | None:
        """Give the worker that has a number in its hands, if any."""
        for worker in self.workers.values():
            if any(number in task.open for task in worker.tasks.values()):
                return worker.name
        return None

    def leaving(self, name: str) -> None:
        """Take in that a worker is to be replaced: it gets nothing more."""
        if name in self.workers:
            self.workers[name].leaving = True

    def idle_leavers(self) -> list[str]:
        """Give the workers that are to be replaced and owe nothing any more; each is given once."""
        idle = [worker for worker in self.workers.values() if worker.leaving and not worker.tasks and not worker.told]
        for worker in idle:
            worker.told = True
        return [worker.name for worker in idle]

    def left(self, name: str, seen: LastSeen | None, cause: str) -> Worker | None:
        """Take in that a worker is gone: hand out again what it had not answered, and blame whom `seen` shows.

        `seen` is `None` when the engine itself ended it and nobody is to blame.
        """
        worker = self.workers.pop(name, None)
        if worker is None:
            return None
        self._careful.difference_update(worker.tasks)
        open_ = sorted(part for task in worker.tasks.values() for part in task.open)
        # What was accepted from elsewhere in the meantime needs no second answer.
        open_ = [gap for lo, hi in open_ for gap in self.accepted.gaps(lo, hi)]
        if seen is not None and open_:
            open_ = self._blamed(open_, worker, seen, cause)
        for lo, hi in open_:
            self.ready(lo, hi)
        return worker

    def _blamed(
        self, parts: list[tuple[int, int]], worker: Worker, seen: LastSeen, cause: str
    ) -> list[tuple[int, int]]:
        if seen.phase is Phase.EVENT:
            self.blame.died_on(self.blame.call_of(seen), cause)
            self._keep_apart(seen.seq, seen.seq + 1)
            return parts
        if seen.phase in (Phase.START, Phase.CLOSE):
            return parts
        task = self._worked_on(worker, seen)
        many = seen.phase is Phase.MANY
        suspects = parts if many else [part for part in parts if task.start <= part[0] < task.stop]
        if sum(hi - lo for lo, hi in suspects) == 1 and task.orders.careful:
            return self._alone(parts, suspects[0], seen, cause)
        for lo, hi in suspects:
            self.blame.suspect(lo, hi)
            if seen.phase is not Phase.BATCH or task.orders.careful:
                self._keep_apart(lo, (lo + hi) // 2, hi)
            # Else the careful second run names the culprit, so one part is enough.
        return parts

    def _alone(
        self, parts: list[tuple[int, int]], suspect: tuple[int, int], seen: LastSeen, cause: str
    ) -> list[tuple[int, int]]:
        """Blame the one number that a worker had in its hands; gives the parts to hand out again."""
        if seen.phase is Phase.MANY:
            # Handled carefully its calls came one by one: the last that began is the culprit.
            self.blame.died_on(self.blame.call_of(seen), cause)
            return parts
        verdict = self.blame.died_with(suspect[0], cause)
        if verdict is None:
            self._keep_apart(*suspect)
            return parts
        self.condemned.append((suspect[0], verdict))
        return [part for part in parts if part != suspect]

    def _worked_on(self, worker: Worker, seen: LastSeen) -> Task:
        """Give the task that a worker was last seen on: its first unfinished one where no number says more."""
        tasks = list(worker.tasks.values())
        if seen.phase in (Phase.CODEC, Phase.BATCH):
            return next((task for task in tasks if task.start <= seen.seq < task.stop), tasks[0])
        return tasks[0]


def merge_ready(ports: list[Intervals], port: int, lo: int, hi: int) -> list[tuple[int, int]]:
    """Note that `port` now covers `lo .. hi - 1`; give the parts that every port covers."""
    parts = deque(ports[port].add(lo, hi))
    for other, covered in enumerate(ports):
        if other != port:
            parts = deque(shared for a, b in parts for shared in covered.shared(a, b))
    return list(parts)
