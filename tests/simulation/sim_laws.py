"""The laws as a simulated run must keep them, checked at every step and at the end.

Nothing here trusts the core: what must come out is computed from the scenario, who holds which number is kept here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from sim_scenario import MAX_DEATHS, Failed
from sluiceway.engine.core.effects import Deliver, DeliverLoose, Effect, Finish, SendTask
from sluiceway.nodes.dispatch.blame import LastSeen
from sluiceway.nodes.ordering.barrier import FailureRecord, Release
from sluiceway.nodes.ordering.segments import SEGMENT_OVERHEAD, Slice
from sluiceway.nodes.program.column import Column, join

if TYPE_CHECKING:
    from sim_workers import Job, Worker
    from simulator import Simulation

#: A number that cannot be unpacked, or is one of many, stands alone after so many deaths at most.
MOST_DEATHS = 16
FAILURE_BYTES = 3


class LawBroken(AssertionError):
    """A simulated run broke a law; the text names the seed."""


class Before(NamedTuple):
    """What a cycle starts from."""

    next: int
    consumed: int
    nbytes: int
    waiting: bool


class Laws:
    """Watches one simulation."""

    def __init__(self, run: Simulation) -> None:
        self.run = run
        pools = run.scenario.wiring.pools
        self.owner: list[dict[int, Worker]] = [{} for _ in pools]
        self.answered_by: list[set[int]] = [set() for _ in pools]
        self.released = 0
        self._first_out = [0] * len(pools)
        self._deaths: Counter[tuple[int, int]] = Counter()
        self._shaken: set[tuple[int, int]] = set()
        self._timed_out: Counter[tuple[int, int]] = Counter()
        self._loose: Counter[tuple[int, int]] = Counter()
        self._possible = self._most_possible = self._largest_task = self._largest_chunk = 0

    def broken(self, what: str) -> NoReturn:
        """Return up on the run."""
        run = self.run
        raise LawBroken(
            f"seed {run.scenario.seed}, step {run.steps}, t={run.now:.6f}: {what}; next {run.core.sequencer.next},"
            f" frontier {run.core.frontier}, released {self.released}, consumed {run.core.consumed};"
            f" {run.scenario.describe()}"
        )

    def same(self, what: str, got: Any, expected: Any) -> None:
        """Require that two values are equal."""
        if got != expected:
            self.broken(f"{what}: got {got!r:.300}, must be {expected!r:.300}")

    # -- cycles -------------------------------------------------------------------------------------------------

    def before_cycle(self) -> Before:
        """Note what a cycle starts from."""
        core = self.run.core
        waiting = core.barrier.released > core.consumed or core.flow.loose_out > 0
        return Before(core.sequencer.next, core.consumed, core.budget.bytes, waiting)

    def after_cycle(self, before: Before, effects: Sequence[Effect]) -> None:
        """Check what a cycle decided."""
        if self.run.core.sequencer.next > before.next:
            self._admitted(before)
        self._paced(before, [effect for effect in effects if type(effect) is SendTask])
        for effect in effects:
            if type(effect) is Deliver:
                self._delivered(effect)
            elif type(effect) is DeliverLoose:
                self._loosely(effect)
            elif type(effect) is Finish:
                self._finished(effect)
        if self.run.steps % 8 == 0:
            self._bytes()

    def _admitted(self, before: Before) -> None:
        core, scenario = self.run.core, self.run.scenario
        slices = core.streams.stores[0].slices(before.next, core.sequencer.next)
        for part in slices:
            self.run.reference.tokens += part.segment.payload
            self._largest_chunk = max(self._largest_chunk, part.segment.cost)
        if before.nbytes >= scenario.window_bytes:
            self.broken(f"{before.nbytes} bytes are in flight, the limit is reached, and a number was admitted")
        # One chunk is admitted as a whole, but a chunk above the limit only when nothing else is in flight.
        if core.in_flight > scenario.window_numbers and (len(slices) > 1 or before.next > before.consumed):
            self.broken(f"{core.in_flight} numbers are in flight, the limit is {scenario.window_numbers}")
        if scenario.limit is not None and core.sequencer.next > scenario.limit:
            self.broken("more numbers were given than the limit allows")

    def _paced(self, before: Before, tasks: list[SendTask]) -> None:
        core = self.run.core
        if tasks and core.budget.bytes >= core.budget.limit_bytes:
            if before.waiting:
                self.broken("work was handed out above the limit while the consumer had results to take")
            for effect in tasks:
                self.same("the number that is worked on above the limit", effect.task.start, core.frontier)

    def _bytes(self) -> None:
        core = self.run.core
        kept = sum(segment.cost for store in core.streams.stores for segment in store._segments.values())
        self.same("the bytes in flight", core.budget.bytes, kept + sum(core.streams.failure_bytes.values()))
        most = core.budget.limit_bytes + self._largest_chunk + self._most_possible
        if core.budget.bytes > most + len(core.pools) * self._largest_task:
            self.broken(f"{core.budget.bytes} bytes are in flight, which no outstanding work explains")

    # -- what comes out -----------------------------------------------------------------------------------------

    def _rows(self, slices: Sequence[Slice], lo: int, hi: int) -> list[list[int]]:
        columns = [
            Column(s.segment.start, s.segment.stop - s.segment.start, s.segment.payload, s.segment.counts).slice(s.lo, s.hi)
            for s in slices
        ]
        column = join(columns)
        self.same("the numbers delivered", (column.start, column.stop), (lo, hi))
        return [column.slice(n, n + 1).events for n in range(lo, hi)]

    def _delivered(self, effect: Deliver) -> None:
        release = effect.release
        self.same("the first number released", release.lo, self.released)
        self.released = release.hi
        reference = self.run.reference
        for stream, slices in zip(self.run.scenario.wiring.tail, effect.streams, strict=True):
            for n, events in enumerate(self._rows(slices, release.lo, release.hi), release.lo):
                if events != reference.stream(stream, n):
                    self.same(f"number {n} of stream {stream}", events, reference.stream(stream, n))
        self._letters(release)

    def _letters(self, release: Release) -> None:
        expected = []
        for n in range(release.lo, release.hi):
            failures = self.run.reference.failures(n)
            if any(f.on_error == "fail" for f in failures):
                self.broken(f"number {n}, which fails the run, was released")
            expected += [f for f in failures if f.on_error == "dead_letter"]
        if expected or release.letters:
            self.same("the dead letters", [_failed(letter) for letter in release.letters], expected)

    def _loosely(self, effect: DeliverLoose) -> None:
        for n, events in enumerate(self._rows(effect.slices, effect.lo, effect.hi), effect.lo):
            self._loose[effect.stream, n] += 1
            self.same(f"number {n} of stream {effect.stream}", events, self.run.reference.stream(effect.stream, n))

    def _finished(self, finish: Finish) -> None:
        run, reference = self.run, self.run.reference
        fatal = next((n for n in range(run.core.sequencer.next) if _fails(reference.failures(n))), None)
        if finish.failure is not None:
            first = next(f for f in reference.failures(finish.failure.seq) if f.on_error == "fail")
            self.same("the failure that ends the run", _failed(finish.failure), first)
            self.same("the lowest failed number", finish.failure.seq, fatal)
            self.same("what is released at the end", self.released, fatal)
            return
        self.same("the reason to end at start-up", finish.start_up, None)
        self.same("the number that should have failed the run", fatal, None)
        self.same("what is released at the end", self.released, run.core.sequencer.next)
        reasons = {"source", "limit", "stop"} if finish.source_error is None else {"error"}
        if finish.ended_by not in reasons:
            self.broken(f"the run ended by {finish.ended_by}")

    # -- workers ------------------------------------------------------------------------------------------------

    def handed(self, worker: Worker, job: Job) -> None:
        """Check a task that was just given to a worker."""
        pool, task = worker.pool, job.task
        if not worker.up or worker.told or worker.known_to_leave:
            self.broken(f"{worker.name} was given a task: ready {worker.up}, dead {worker.told}")
        self._in_order(pool, task.start, task.stop)
        for n in range(task.start, task.stop):
            if n in self.answered_by[pool] or n in self.owner[pool]:
                self.broken(f"number {n} was handed to {worker.name} and is with {self.owner[pool].get(n)} or answered")
            self.owner[pool][n] = worker
            worker.open[n] = task.id
        self._room(worker)
        for call, verdict in job.orders.verdicts.items():
            self._deserved(pool, call, verdict.kind)
        possible = sum(self._growth(pool, n, len(job.inputs[n])) for n in range(task.start, task.stop))
        self._possible += possible
        self._largest_task = max(self._largest_task, possible)
        self._most_possible = max(self._most_possible, self._possible)

    def _growth(self, pool: int, number: int, events: int) -> int:
        wiring, script = self.run.scenario.wiring.pools[pool], self.run.scenario.pools[pool]
        each = events * max(script.growths) * script.event_bytes + SEGMENT_OVERHEAD
        return len(wiring.exits) * each + FAILURE_BYTES

    def _in_order(self, pool: int, start: int, stop: int) -> None:
        first, wiring = self._first_out[pool], self.run.scenario.wiring.pools[pool]
        if wiring.in_order and stop > first:
            self.same("the next number of a pool that gets them in order", min(start, first), start)
            self._first_out[pool] = stop
        if wiring.ordered and self.owner[pool] and max(self.owner[pool]) > start:
            self.broken(f"number {start} was handed to an ordered pool after {max(self.owner[pool])}")

    def _room(self, worker: Worker) -> None:
        dispatcher = self.run.core.pools[worker.pool].dispatcher
        if worker.script.loop:
            most = 2 * dispatcher._in_flight_cap - 1 + max(1, dispatcher._in_flight_cap // 2)
            if len(worker.open) - worker.told_parked > most:
                self.broken(f"{worker.name} holds {len(worker.open)} numbers, at most {most} are allowed")
        elif len(set(worker.open.values())) > dispatcher.sizer.depth:
            self.broken(f"{worker.name} holds {len(set(worker.open.values()))} tasks")

    def _deserved(self, pool: int, call: tuple[str, int, int], kind: str) -> None:
        number = call[1]
        script = self.run.scenario.pools[pool]
        fault = script.faults.get(number)
        inputs = self.run.reference.inputs(pool, number)
        if fault is None or not inputs or fault.kind == "error":
            self.broken(f"{call} was given a verdict ({kind}) without having done harm")
        step = self.run.scenario.wiring.pools[pool].program.steps[fault.step]
        expected = (step.node, number, 0 if fault.kind == "codec" else number % len(inputs))
        self.same("the call that a verdict names", call, expected)
        if fault.kind == "slow":
            self.same("the time-outs before a verdict", self._timed_out[pool, number], step.options.retries + 1)
        elif self._is_exact(pool) and (pool, number) not in self._shaken:
            self.same(f"the deaths by number {number} before a verdict", self._deaths[pool, number], MAX_DEATHS)

    def _is_exact(self, pool: int) -> bool:
        """Whether every death in a pool can be told to be one number's."""
        script = self.run.scenario.pools[pool]
        return not script.loop and not any(fault.kind == "codec" for fault in script.faults.values())

    def overran(self, worker: Worker, seen: LastSeen) -> None:
        """Note that a call ran past its limit."""
        self._timed_out[worker.pool, seen.seq] += 1

    def death(self, worker: Worker, seen: LastSeen | None, number: int | None) -> None:
        """Note a death that the core is told of now; `number` is the one that did it, -1 for one from outside."""
        pool = worker.pool
        for n in worker.open:
            del self.owner[pool][n]
            if worker.killed_from_outside:
                self._shaken.add((pool, n))
            self._possible -= self._growth(pool, n, len(self.run.reference.inputs(pool, n)))
        if seen is not None and number is not None and not worker.killed_from_outside:
            self._deaths[pool, number] += 1
            most = MAX_DEATHS if self._is_exact(pool) else MOST_DEATHS
            if self._deaths[pool, number] > most + self.run.scenario.blamed_kills + self.run.scenario.kills_at_failure:
                self.broken(f"number {number} of pool {pool} killed {self._deaths[pool, number]} workers")

    def answered(self, worker: Worker, job: Job, start: int, stop: int, failures: Sequence[FailureRecord]) -> None:
        """Note an answer that reaches the core now, from a worker that is not known to be dead."""
        pool, cut = worker.pool, any(f.on_error == "fail" for f in failures)
        for n in [n for n, task in worker.open.items() if task == job.task.id and (start <= n < stop or (cut and n >= stop))]:
            if n < stop:
                self.answered_by[pool].add(n)
            del worker.open[n], self.owner[pool][n]
            self._possible -= self._growth(pool, n, len(job.inputs[n]))

    def returned(self, worker: Worker, job: Job, start: int) -> None:
        """Note that a worker, not known to be dead, gives back its job from a number on."""
        for n in [n for n, task in worker.open.items() if task == job.task.id and n >= start]:
            del worker.open[n], self.owner[worker.pool][n]
            self._possible -= self._growth(worker.pool, n, len(job.inputs[n]))

    # -- the end ------------------------------------------------------------------------------------------------

    def at_the_end(self) -> None:
        """Check what only the whole run shows."""
        run, core = self.run, self.run.core
        self._bytes()
        self._numbering()
        if max(self._loose.values(), default=1) > 1:
            self.broken("a loose stream was given a number twice")
        assert run.finish is not None
        if run.finish.failure is not None:
            return
        last = core.sequencer.next
        self.same("the bytes in flight at the end", core.budget.bytes, 0)
        for stream in run.scenario.wiring.loose:
            self.same("the numbers given to a loose stream", sum(1 for at, _ in self._loose if at == stream), last)
        for at, pool in enumerate(core.pools):
            self.same("the frontier of a pool", pool.dispatcher.frontier, last)
            faults = run.scenario.pools[at].faults
            if any((at, n) in self._shaken for n in faults):
                continue  # killed from outside as well, such a number may have been answered by the engine
            whole = [n for n in range(last) if n not in faults or faults[n].kind != "codec"]
            worked = sum(len(run.reference.inputs(at, n)) for n in whole)
            self.same("the events that the answers count", pool.tallies[0].events_in, worked)

    def _numbering(self) -> None:
        run, tokens = self.run, self.run.reference.tokens
        given = [list(range(1000 * at, 1000 * at + source.given)) for at, source in enumerate(run._sources)]
        order = run.scenario.wiring.order
        if order == "arrival":
            for at, expected in enumerate(given):
                got = [token for token in tokens if token // 1000 == at]
                self.same(f"the numbering of source {at}", got, expected[: len(got)])
            expected_all = tokens
        elif order == "round_robin":
            expected_all = [token for row in zip_longest(*given) for token in row if token is not None]
        else:
            keyed = [(run._sources[at].script.keys[token % 1000], at, token) for at, row in enumerate(given) for token in row]
            expected_all = [token for _, _, token in sorted(keyed)]
        self.same("the numbering", tokens, expected_all[: len(tokens)])
        whole = run.finish is not None and run.finish.failure is None and run.finish.ended_by != "limit"
        if whole and run.scenario.limit is None:
            self.same("how many events got a number", len(tokens), sum(map(len, given)))


def _fails(failures: Sequence[Failed]) -> bool:
    return any(f.on_error == "fail" for f in failures)


def _failed(record: FailureRecord) -> Failed:
    return Failed(record.seq, record.node_id, record.index, record.node, record.on_error, record.kind)
