"""Who is to blame when a worker dies: which events are suspect, and when one has killed often enough.

Decides verdicts. A death on a known call counts against that call. If no single event explains a death, every number of
the run becomes a suspect; the run is then handed out in halves until one number is alone. Once found, the culprit is
charged with the earlier deaths and the other suspects are cleared. Who gets the numbers is not known here.
"""

from __future__ import annotations

from collections import Counter
from enum import IntEnum

from msgspec import Struct

from ..program.program import CallName, Step, Verdict
from ..program.retries import TIMED_OUT, may_retry
from .task import Task, WorkerLoad


class Phase(IntEnum):
    """What a worker was doing when its status was last read."""

    START = 0
    IDLE = 1
    CODEC = 2
    BATCH = 3  #: somewhere in a column, without marks per event
    EVENT = 4  #: in the handler, on one known event
    MANY = 5  #: several events under way at once
    CLOSE = 6


class LastSeen(Struct, frozen=True):
    """The last status of a worker: its phase and, for `EVENT`, the call it was in."""

    phase: Phase
    step: int = 0
    seq: int = 0
    index: int = 0


class Blame:
    """The deaths and time-outs of one pool's events."""

    def __init__(self, steps: tuple[Step, ...], max_deaths: int | None) -> None:
        self._steps = steps
        self._max_deaths = max_deaths
        self._deaths: Counter[CallName] = Counter()
        #: Deaths that no single event explains: for each the runs of numbers, one of which is to blame.
        self._suspicions: list[list[tuple[int, int]]] = []
        self._numbers: Counter[int] = Counter()
        self.used: dict[CallName, int] = {}
        self.verdicts: dict[CallName, Verdict] = {}
        #: Calls whose verdict no worker can carry out: the core answers for their numbers. A call
        #: without a node stands for the whole number.
        self.condemned: list[tuple[CallName, Verdict]] = []
        #: The numbers of those calls: no worker gets them again.
        self._hopeless: set[int] = set()

    def call_of(self, seen: LastSeen) -> CallName:
        """Return the name of the call that a worker was last seen in."""
        return self._steps[seen.step].node, seen.seq, seen.index

    def record_call_death(self, call: CallName, cause: str) -> None:
        """Record a death during one call; the call fails from `max_deaths` deaths on.

        A worker that had the verdict and still died on the call could not answer for it: no worker can.
        """
        if call in self.verdicts:
            self._condemn(call, self.verdicts[call])
            return
        self._deaths[call] += 1 + self._take_charges(call[1])
        self._judge(call, cause)

    def _judge(self, call: CallName, cause: str) -> None:
        deaths = self._deaths[call] + self._numbers[call[1]]
        if self._is_enough(deaths):
            self.verdicts[call] = Verdict("died", f"WorkerDied: {cause}", deaths)

    def _is_enough(self, deaths: int) -> bool:
        return self._max_deaths is not None and deaths >= self._max_deaths

    def record_lone_death(self, number: int, cause: str) -> Verdict | None:
        """Record a death for a number that was alone, outside its handlers; return the verdict when it is due.

        No worker can carry out this verdict, because it dies before or after the handlers: the core answers instead. So it
        does for a number that has killed often enough in its handlers, and whose worker had the verdict not to call them.
        """
        standing = next((verdict for call, verdict in self.verdicts.items() if call[1] == number), None)
        if standing is not None:
            return standing
        self._numbers[number] += 1 + self._take_charges(number)
        for call in [call for call in self._deaths if call[1] == number]:
            self._judge(call, cause)
        deaths = self._numbers[number]
        return Verdict("died", f"WorkerDied: {cause}", deaths) if self._is_enough(deaths) else None

    def record_death(
        self, parts: list[tuple[int, int]], worker: WorkerLoad, seen: LastSeen, cause: str
    ) -> list[tuple[int, int]]:
        """Record the death of a worker that owed `parts`; return the parts, split as they are to be handed out again."""
        if seen.phase is Phase.START:
            return parts
        if seen.phase is Phase.EVENT and any(lo <= seen.seq < hi for lo, hi in parts):
            self.record_call_death(self.call_of(seen), cause)
            return _split_at(parts, seen.seq, seen.seq + 1)
        if seen.phase is Phase.CODEC and seen.index:
            return self._record_codec_death(parts, worker, seen, cause)
        task = self._task_seen(worker, seen)
        suspects = parts if task is None else list(task.open)
        careful = worker.isolated and next(iter(worker.tasks.values())).orders.careful
        if careful and sum(hi - lo for lo, hi in suspects) == 1:
            self._record_death_on(suspects[0][0], worker, seen, cause)
            return parts
        self.suspect(suspects)
        if len(suspects) > 1 or (seen.phase is Phase.BATCH and not careful):
            return parts  # the next death tells more: the suspects are isolated or handled carefully, which names the call
        lo, hi = suspects[0]
        return _split_at(parts, lo, (lo + hi) // 2, hi)

    def _record_codec_death(
        self, parts: list[tuple[int, int]], worker: WorkerLoad, seen: LastSeen, cause: str
    ) -> list[tuple[int, int]]:
        """Record a death while a careful worker decoded or encoded the `seen.index` numbers from `seen.seq` on."""
        lo, hi = seen.seq, seen.seq + seen.index
        parts = _split_at(parts, lo, hi)
        suspects = [part for part in parts if lo <= part[0] < hi]
        if not suspects:
            return parts
        if sum(b - a for a, b in suspects) > 1:
            self.suspect(suspects)
        else:
            self._record_death_on(lo, worker, seen, cause)
        return parts

    def _record_death_on(self, number: int, worker: WorkerLoad, seen: LastSeen, cause: str) -> None:
        """Record the death of a worker that had one number only."""
        call = self.call_of(seen)
        task = next(iter(worker.tasks.values()))
        if seen.phase is Phase.MANY and seen.seq == number and call not in task.orders.verdicts:
            self.record_call_death(call, cause)
            return
        verdict = self.record_lone_death(number, cause)
        if verdict is not None:
            self._condemn(("", number, 0), verdict)

    def _condemn(self, call: CallName, verdict: Verdict) -> None:
        self._hopeless.add(call[1])
        self.condemned.append((call, verdict))

    def without_hopeless(self, parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return runs of numbers without those that no worker gets again."""
        for number in self._hopeless:
            parts = [part for part in _split_at(parts, number, number + 1) if part != (number, number + 1)]
        return parts

    def _task_seen(self, worker: WorkerLoad, seen: LastSeen) -> Task | None:
        """Return the task that a worker was last seen on, or `None` if it may have been any."""
        tasks = worker.tasks.values()
        if seen.phase in (Phase.CODEC, Phase.BATCH):
            return next((task for task in tasks if task.start <= seen.seq < task.stop), None)
        return None

    def suspect(self, parts: list[tuple[int, int]]) -> None:
        """Make the numbers of these runs suspects of one death."""
        self._suspicions.append(parts)

    def _take_charges(self, number: int) -> int:
        """Return the unexplained deaths charged to `number` and stop charging them to others."""
        others = [parts for parts in self._suspicions if not any(lo <= number < hi for lo, hi in parts)]
        explained = len(self._suspicions) - len(others)
        self._suspicions = others
        return explained

    def record_timeout(self, call: CallName, limit_s: float) -> None:
        """Record a time-out as an attempt; the call fails when it is not retried any more.

        A call that runs although its worker had a verdict for it cannot be answered by any worker.
        """
        if call in self.verdicts:
            self._condemn(call, self.verdicts[call])
            return
        step = next(step for step in self._steps if step.node == call[0])
        self.used[call] = self.used.get(call, 0) + 1
        if not may_retry(step.options, self.used[call], *TIMED_OUT):
            text = f"HandlerTimeout: still running after timeout_s={limit_s:g}"
            self.verdicts[call] = Verdict("timeout", text, self.used[call])

    def forget(self, below: int) -> None:
        """Forget the numbers below `below`: they are released."""
        if not (self._suspicions or self._deaths or self._numbers or self.used or self.verdicts):
            return
        for number in [number for number in self._numbers if number < below]:
            del self._numbers[number]
        self._suspicions = [parts for parts in self._suspicions if any(hi > below for _, hi in parts)]
        for known in (self._deaths, self.used, self.verdicts):
            for call in [call for call in known if call[1] < below]:
                del known[call]

    def deaths_in(self, start: int, stop: int) -> tuple[dict[CallName, int], tuple[tuple[int, int], ...]]:
        """Return the deaths during calls of a run of numbers, and the suspects of each death that no call explains."""
        died = {call: n for call, n in self._deaths.items() if start <= call[1] < stop}
        runs = [run for parts in self._suspicions for run in parts if run[0] < stop and start < run[1]]
        return died, tuple(runs)

    def concerns(self, start: int, stop: int) -> bool:
        """Whether any number of the run is under suspicion, so that it must be handled carefully."""
        return (
            any(lo < stop and start < hi for parts in self._suspicions for lo, hi in parts)
            or any(start <= number < stop for number in self._numbers)
            or any(start <= call[1] < stop for known in (self._deaths, self.used, self.verdicts) for call in known)
        )


def _split_at(parts: list[tuple[int, int]], *numbers: int) -> list[tuple[int, int]]:
    """Split runs of numbers before each of `numbers` that is inside."""
    for at in numbers:
        parts = [piece for lo, hi in parts for piece in (((lo, at), (at, hi)) if lo < at < hi else ((lo, hi),))]
    return parts
