"""Fake workers: they work on tasks in made-up time, cut and delay their answers, and die in every way there is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import isqrt
from typing import TYPE_CHECKING, Any

from sim_scenario import failing_index, failure_of, handle
from sluiceway.engine.core.effects import SendTask
from sluiceway.nodes.dispatch.blame import LastSeen, Phase
from sluiceway.nodes.ordering.barrier import FailureRecord
from sluiceway.nodes.ordering.segments import ExitData
from sluiceway.nodes.program.column import Column, join

if TYPE_CHECKING:
    from simulator import Simulation


class Job:
    """One task in a worker: its numbers, their events, and what its orders say."""

    def __init__(self, run: Simulation, pool: int, effect: SendTask) -> None:
        self.task, self.orders, self.answer_batch = effect.task, effect.task.orders, effect.answer_batch
        columns = [
            join([Column(s.start, s.stop - s.start, s.payload, s.counts).slice(p.lo, p.hi) for p in port for s in [p.segment]])
            for port in effect.inputs
        ]
        self.inputs: dict[int, list[int]] = {}
        self.start, self.stop = effect.task.start, effect.task.stop
        for column in columns:
            run.laws.same("the numbers of a port", (column.start, column.stop), (self.start, self.stop))
        for n in range(self.start, self.stop):
            self.inputs[n] = [event for column in columns for event in column.slice(n, n + 1).events]
            run.laws.same(f"the inputs of number {n} in pool {pool}", self.inputs[n], run.reference.inputs(pool, n))

    def call(self, run: Simulation, pool: int, number: int) -> tuple[LastSeen, tuple[str, int, int]]:
        """Return the call that does harm in a number, as a worker is last seen in it and by its name."""
        fault = run.scenario.pools[pool].faults[number]
        index = failing_index(number, len(self.inputs[number]))
        seen = LastSeen(Phase.EVENT, fault.step, number, index)
        return seen, (run.core.wiring.pools[pool].program.steps[fault.step].node, number, index)


class Worker:
    """What both kinds of workers share: the link to the core, and dying."""

    def __init__(self, run: Simulation, name: str, pool: int) -> None:
        self.run, self.name, self.pool = run, name, pool
        self.script = run.scenario.pools[pool]
        self.wiring = run.scenario.wiring.pools[pool]
        self.up = False  #: whether the core knows that it is ready
        self.gone = False  #: whether it is dead, known to the core or not
        self.told = False  #: whether the core knows that it is dead
        self.leaving = False
        self.known_to_leave = False
        self.killed_from_outside = False
        self.told_parked = 0
        self.open: dict[int, int] = {}  #: numbers in its hands as the core sees it, with their task
        self._jobs: deque[Job] = deque()
        self._answered = 0
        self._link_at = 0.0
        self._under_way: list[list[Any]] = []

    # -- the link -----------------------------------------------------------------------------------------------

    def starts(self, when: float) -> None:
        """Be ready at a time."""
        self._link_at = when
        self.run.at(when, self._ready)

    def _ready(self) -> None:
        if not self.gone:
            self.up = True
            self.run.core.record_ready(self.name)

    def send(self, what: Callable[..., None], *args: Any) -> None:
        """Send a message: it arrives after those sent before, unless the worker dies and takes it along."""
        run = self.run
        self._link_at = max(self._link_at, run.now) + run.scenario.lag_s * run.rng.random()
        message = [what, args]
        self._under_way.append(message)
        run.at(self._link_at, self._arrive, message)

    def _arrive(self, message: list[Any]) -> None:
        if message in self._under_way:
            self._under_way.remove(message)
            what, args = message
            what(*args)
            if self.run.rng.random() < self.run.scenario.repeats:
                what(*args)

    def dies(self, seen: LastSeen | None, number: int | None = None) -> None:
        """Be dead from now on; what was sent may be lost, and may arrive before or after the word of the death."""
        run = self.run
        self.gone = True
        if run.rng.random() < 0.5 and self._under_way:
            del self._under_way[run.rng.randrange(len(self._under_way)) :]
        late = run.rng.random() < 0.2
        run.at(run.now if late else max(run.now, self._link_at), self._tell_death, seen, number)

    def _tell_death(self, seen: LastSeen | None, number: int | None) -> None:
        self.told = True
        self.run.laws.death(self, seen, number)
        self.run.core.record_death(self.name, seen, "was ended by SIGKILL")
        self.open.clear()

    def stop(self) -> None:
        """Go, as the core allowed."""
        self.run.laws.same(f"{self.name}, told to go, is leaving", self.leaving and not self.open, True)
        self.leaving = False
        self.dies(None)

    # -- answers ------------------------------------------------------------------------------------------------

    def answer(self, job: Job, start: int, stop: int, cut: int) -> None:
        """Send the answer for some numbers of a job; `cut` is the number under `fail` at which the run ends, if any."""
        run, program = self.run, self.wiring.program
        failures = []
        for n in range(start, stop):
            if n in self.script.faults and job.inputs[n] and self.script.faults[n].kind != "codec":
                f = failure_of(run.scenario, self.pool, n, len(job.inputs[n]))
                failures.append(
                    FailureRecord(n, f.index, f.node, f.node_id, f.on_error, f.kind, "", 1, f.kind, None, nbytes=3)
                )
        exits = []
        for stream in self.wiring.exits:
            rows = [
                [] if n == cut else handle(run.scenario, self.pool, stream, n, job.inputs[n]) for n in range(start, stop)
            ]
            counts = None if all(len(row) == 1 for row in rows) else [len(row) for row in rows]
            events = [event for row in rows for event in row]
            exits.append(ExitData(events, len(events) * self.script.event_bytes, counts))
        worked = sum(len(job.inputs[n]) for n in range(start, stop))
        tallies = [[float(worked), 0.0, 0.0, 0.0, 0.0, 0.0] for _ in program.steps]
        seconds = self.script.each_s * (stop - start)
        self.send(self._answered_now, job, start, stop, exits, failures, tallies, seconds)
        self._answered += stop - start
        if self.script.recycle_after is not None and self._answered >= self.script.recycle_after and not self.leaving:
            self.leaving = True
            self.send(self._leaves)

    def _leaves(self) -> None:
        if not self.told:
            self.known_to_leave = True
        if (dispatcher := self.run.core.dispatcher_of(self.name)) is not None:
            dispatcher.record_leaving(self.name)

    def _answered_now(self, job: Job, start: int, stop: int, *given: Any) -> None:
        if not self.told:
            self.run.laws.answered(self, job, start, stop, given[1])
        self.run.core.record_answer(self.name, job.task.id, start, stop - start, *given, self.run.now)

    def pieces(self, start: int, stop: int, finest: int) -> list[tuple[int, int]]:
        """Cut a run of numbers as a worker may."""
        if not self.script.cuts:
            return [(start, stop)]
        found = []
        while start < stop:
            end = min(stop, start + self.run.rng.randint(1, max(1, finest)))
            found.append((start, end))
            start = end
        return found

    def harm(self, job: Job, number: int) -> str | None:
        """Return what a number does when it is worked on now: `error`, or `poison` or `slow` without a verdict."""
        fault = self.script.faults.get(number)
        if fault is None or not job.inputs[number]:
            return None
        if fault.kind == "codec":
            return "codec"
        if fault.kind != "error" and job.call(self.run, self.pool, number)[1] not in job.orders.verdicts:
            return fault.kind
        return "error"

    def receive(self, effect: SendTask) -> None:
        """Take a task."""
        job = Job(self.run, self.pool, effect)
        self.run.laws.handed(self, job)
        if not self.gone:
            self._jobs.append(job)
            self.begin()

    def begin(self) -> None:
        """Work on what is there."""
        raise NotImplementedError

    def is_quiet(self) -> bool:
        """Whether a death now is nobody's fault."""
        raise NotImplementedError

    def killed(self) -> None:
        """Be killed from outside."""
        raise NotImplementedError

    def overruns(self, seen: LastSeen) -> None:
        """Be stuck in a call until the engine ends it for that."""
        self.run.at(self.run.now + 1.0, self._end_overrun, seen)

    def _end_overrun(self, seen: LastSeen) -> None:
        if not self.gone:
            self.run.laws.overran(self, seen)
            self.run.core.record_overrun(self.name, seen, 1.0)
            self.dies(None)


class PlainWorker(Worker):
    """Works on one task after the other, step by step."""

    _now: Job | None = None
    _since = 0.0

    def begin(self) -> None:
        if self._now is not None or not self._jobs:
            return
        self._now, self._since = self._jobs.popleft(), self.run.now
        job, run = self._now, self.run
        ended, at, cut = self._course(job)
        when = run.now + self.script.each_s * (at - job.start + 1)
        run.at(when, self._comes_to, job, ended, at, cut)

    def _course(self, job: Job) -> tuple[str, int, int]:
        """Foresee how a job goes: what ends it, at which number, and where a failure under `fail` cuts it."""
        cut = job.stop
        harms = {n: self.harm(job, n) for n in range(job.start, job.stop)}
        unpacked = next((n for n, harm in harms.items() if harm == "codec"), None)
        if unpacked is not None:
            return "codec", unpacked, cut
        for number, step in enumerate(self.wiring.program.steps):
            for n, harm in harms.items():
                if harm is None or n >= cut or self.script.faults[n].step != number:
                    continue
                if harm != "error":
                    return harm, n, cut
                if step.options.on_error == "fail":
                    cut = n
        return "done", min(cut, job.stop - 1), cut

    def _comes_to(self, job: Job, ended: str, at: int, cut: int) -> None:
        if self.gone:
            return
        if ended == "done":
            stop = min(job.stop, cut + 1)
            if self.script.gives_back and not self.wiring.ordered and stop > job.start + 1 and self.run.rng.random() < 0.3:
                stop = self.run.rng.randrange(job.start + 1, stop)
            for lo, hi in self.pieces(job.start, stop, job.answer_batch or stop - job.start):
                self.answer(job, lo, hi, cut)
            if stop < job.stop:
                self.send(self._returns, job, stop)
            self._now = None
            self.begin()
        elif ended == "codec":
            self.dies(self._unpacking(job, at), at)
        elif ended == "slow":
            self.overruns(job.call(self.run, self.pool, at)[0])
        else:
            self.dies(self._seen(job, at), at)

    def _returns(self, job: Job, start: int) -> None:
        if not self.told:
            self.run.laws.returned(self, job, start)
        if (dispatcher := self.run.core.dispatcher_of(self.name)) is not None:
            dispatcher.record_return(self.name, job.task.id, start)

    def _unpacking(self, job: Job, number: int) -> LastSeen:
        """Return the last word of a worker that unpacks `number`: with care, it says which few numbers it is at."""
        if not job.orders.careful:
            return LastSeen(Phase.CODEC, 0, job.start)
        step = max(1, isqrt(job.stop - job.start))
        start = number - (number - job.start) % step
        return LastSeen(Phase.CODEC, 0, start, min(step, job.stop - start))

    def _seen(self, job: Job, number: int) -> LastSeen:
        seen = job.call(self.run, self.pool, number)[0]
        if self.script.watched or job.orders.careful:
            return seen
        return LastSeen(Phase.BATCH, seen.step, job.start)

    def is_quiet(self) -> bool:
        return self._now is None and not self.up

    def killed(self) -> None:
        self.killed_from_outside = True
        job = self._now
        if job is None:
            self.dies(LastSeen(Phase.IDLE if self.up else Phase.START))
            return
        at = min(job.stop - 1, job.start + int((self.run.now - self._since) / self.script.each_s))
        step = next(n for n, step in enumerate(self.wiring.program.steps) if step.kind.traits.calls_user_code)
        phase = self.run.rng.choice((Phase.CODEC, Phase.EVENT if self.script.watched or job.orders.careful else Phase.BATCH))
        self.dies(LastSeen(phase, step, at if phase is Phase.EVENT else job.start), at)


class LoopWorker(Worker):
    """Works on all its numbers at once."""

    def __init__(self, run: Simulation, name: str, pool: int) -> None:
        super().__init__(run, name, pool)
        self._under = 0
        self._parked = 0

    def begin(self) -> None:
        while self._jobs and not self.gone:
            job = self._jobs.popleft()
            unpacked = [n for n in range(job.start, job.stop) if self.harm(job, n) == "codec"]
            if unpacked:
                self.dies(LastSeen(Phase.CODEC, 0, job.start), unpacked[0])
                return
            if self.wiring.ordered:
                self._units(job, [(job.start, job.stop)])
            elif self.script.cuts:
                self._units(job, self.pieces(job.start, job.stop, 3))
            else:
                self._units(job, [(n, n + 1) for n in range(job.start, job.stop)])

    def _units(self, job: Job, units: list[tuple[int, int]]) -> None:
        run = self.run
        for start, stop in units:
            self._under += 1
            waits = 0.5 * run.rng.random() if self.script.parks and run.rng.random() < 0.3 else 0.0
            if waits:
                self._park(stop - start)
            run.at(run.now + self.script.each_s * (1 + run.rng.random()) + waits, self._done, job, start, stop, waits)

    def _park(self, count: int) -> None:
        self._parked += count
        self.send(self._parks, self._parked)

    def _parks(self, count: int) -> None:
        self.told_parked = count
        if (dispatcher := self.run.core.dispatcher_of(self.name)) is not None:
            dispatcher.record_parked(self.name, count)

    def _done(self, job: Job, start: int, stop: int, waited: float) -> None:
        if self.gone:
            return
        self._under -= 1
        size = stop - start
        for n in range(start, stop):
            harm = self.harm(job, n)
            if harm == "poison":
                seen = job.call(self.run, self.pool, n)[0]
                alone = self._under == 0 and stop - start == 1
                last = seen if alone else LastSeen(Phase.MANY, seen.step, self.run.rng.choice(list(self.open or [n])))
                self.dies(LastSeen(Phase.MANY, *last_call(last)), n)
                return
            if harm == "error" and self.wiring.program.steps[self.script.faults[n].step].options.on_error == "fail":
                stop, cut = n + 1, n
                break
        else:
            cut = stop
        self.answer(job, start, stop, cut)
        if cut < stop:
            self.send(self.run.failed, self)
        if waited:
            self._park(-size)

    def is_quiet(self) -> bool:
        return not self._under and not self.up

    def killed(self) -> None:
        self.killed_from_outside = True
        if not self._under:
            self.dies(LastSeen(Phase.IDLE if self.up else Phase.START))
            return
        self.dies(LastSeen(Phase.MANY, 0, self.run.rng.choice(list(self.open or [0]))), -1)


def last_call(seen: LastSeen) -> tuple[int, int, int]:
    """Return step, number and index of a last word."""
    return seen.step, seen.seq, seen.index
