"""The laws of a run with several lives, checked at every step of each life and when the last one has ended.

Nothing here trusts the core: what must come out is computed from the scenario, what is durable is looked up in the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, NoReturn

from lives_ends import Outbox, Row, World
from lives_keeping import KeepingLaws
from lives_scenario import OF_SOURCE, Scenario
from lives_workers import Truth
from sim_laws import Before, Laws
from sluiceway.engine.core.effects import Acknowledge, AskState, Deliver, DeliverLoose, Effect, Finish, Recall, SendTask
from sluiceway.nodes.dispatch.worker_name import WorkerName
from sluiceway.nodes.ordering.barrier import FailureRecord
from sluiceway.nodes.ordering.cuts import Cut
from sluiceway.nodes.ordering.retention import MAX_NUMBERS, POOL_SHARE

if TYPE_CHECKING:
    from lives import Life
    from sim_workers import Job, Worker


class LifeLaws(Laws):
    """Watches one life."""

    def __init__(self, life: Life) -> None:
        super().__init__(life)  # type: ignore[arg-type]
        self.life, self.world = life, life.world
        self.released = self.delivered = self.committed = life.first
        self._first_out = [life.first] * len(life.scenario.pools)
        self._handed_to: dict[str, int] = {}
        self.keeping = KeepingLaws(life)

    def broken(self, what: str) -> NoReturn:
        """Return up on all lives."""
        life = self.life
        self.world.broken(
            f"life {life.scenario.life}, step {life.steps}, t={life.now:.6f}: {what}; next {life.core.sequencer.next},"
            f" frontier {life.core.frontier}, released {self.released}, delivered {self.delivered}"
        )

    # -- cycles -------------------------------------------------------------------------------------------------

    def after_cycle(self, before: Before, effects: Sequence[Effect]) -> None:
        """Check what a cycle decided."""
        super().after_cycle(before, effects)
        for effect in effects:
            if type(effect) is AskState:
                self._asked(effect)
            elif type(effect) is Recall:
                self.explain(self.keeping.asked(effect))

    def explain(self, nbytes: int) -> None:
        """Note bytes that may come, or have come, without a worker."""
        self._possible += nbytes
        self._largest_task = max(self._largest_task, nbytes)
        self._most_possible = max(self._most_possible, self._possible)

    def _admitted(self, before: Before) -> None:
        core, scenario, tokens = self.life.core, self.life.scenario, self.life.reference.tokens
        slices = core.streams.stores[0].slices(before.next, core.sequencer.next)
        for part in slices:
            tokens += part.segment.payload
            self._largest_chunk = max(self._largest_chunk, part.segment.cost)
        if core.end is not None and core.end >= before.next:
            tokens.append(None)  # type: ignore[arg-type]
        if before.nbytes >= scenario.window_bytes:
            self.broken(f"{before.nbytes} bytes are in flight, the limit is reached, and a number was admitted")
        # One chunk is admitted as a whole, but a chunk above the limit only when nothing else is in flight.
        if core.in_flight > scenario.window_numbers and (len(slices) > 1 or before.next > before.consumed):
            self.broken(f"{core.in_flight} numbers are in flight, the limit is {scenario.window_numbers}")
        if scenario.limit is not None and core.events_in > scenario.limit:
            self.broken("more events were numbered than the limit allows")
        fixed = self.world.fixed
        for n in range(before.next, min(len(tokens), len(fixed))):
            if tokens[n] != fixed[n]:
                self.broken(f"number {n} went to event {tokens[n]}, and was seen with event {fixed[n]}")

    def _paced(self, before: Before, tasks: list[SendTask]) -> None:
        core = self.life.core
        if tasks and core.budget.bytes >= core.budget.limit_bytes:
            if before.waiting:
                self.broken("work was handed out above the limit while the consumer had results to take")
            for effect in tasks:
                if effect.task.start > core.frontier:
                    self.broken(f"number {effect.task.start} is worked on above the limit, before the head")

    def _asked(self, effect: AskState) -> None:
        """A state is asked for because a cut lacks it, its worker leaves, or the inputs kept for it take their share.

        How many numbers are a share is halved by every death.
        """
        core = self.life.core
        name = WorkerName.parse(effect.worker)
        pool = core.pools[name.pool]
        lacks = core.cuts._open is not None and core.cuts._open.n == effect.n
        if lacks or self.life.workers[effect.worker].known_to_leave:
            return
        assert pool.retention is not None
        upto, frontier = pool.retention.upto, pool.dispatcher.frontier
        if core.budget.bytes >= core.budget.limit_bytes and not core.in_flight:
            return  # nothing else is in the way
        kept = sum(part.cost for stream in pool.wiring.ports for part in core.streams.stores[stream].slices(upto, frontier))
        if kept * POOL_SHARE <= core.budget.limit_bytes and effect.n - upto < MAX_NUMBERS >> name.life - 1:
            self.broken(f"the state of pool {name.pool} is asked for, and only {kept} bytes are kept for it")

    def _delivered(self, effect: Deliver) -> None:
        super()._delivered(effect)
        if len(self.life.reference.tokens) != self.life.core.sequencer.next:
            self.broken("some number has no event")

    def _finished(self, finish: Finish) -> None:
        life, reference = self.life, self.life.reference
        failing = (n for n in range(life.first, life.core.sequencer.next) if _fails(reference, n))
        fatal = next(failing, None)
        if finish.failure is not None:
            self.same("the failed number that ends the run", finish.failure.seq, fatal)
            self.same("what is released at the end", self.released, fatal)
            return
        self.same("the reason to end at start-up", finish.start_up, None)
        self.same("the number that should have failed the run", fatal, None)
        self.same("what is released at the end", self.released, life.core.sequencer.next)

    # -- workers ------------------------------------------------------------------------------------------------

    def handed(self, worker: Worker, job: Job) -> None:
        """Check a task that was just given to a worker."""
        pool, task = worker.pool, job.task
        if not self.life.scenario.wiring.pools[pool].stateful:
            super().handed(worker, job)
            self.keeping.handed(worker, task.start, task.stop)
            return
        if not worker.up or worker.told or worker.known_to_leave:
            self.broken(f"{worker.name} was given a task: ready {worker.up}, dead {worker.told}")
        self.same("the next number of a worker with a state", task.start, self._handed_to.get(worker.name, task.start))
        self._handed_to[worker.name] = task.stop
        for n in range(task.start, task.stop):
            self.owner[pool][n] = worker
            worker.open[n] = task.id
        possible = sum(self._growth(pool, n, len(job.inputs[n])) for n in range(task.start, task.stop))
        self._possible += possible
        self._largest_task = max(self._largest_task, possible)
        self._most_possible = max(self._most_possible, self._possible)

    def _in_order(self, pool: int, start: int, stop: int) -> None:
        while (pool, self._first_out[pool]) in self.world.store.kept.ever:  # answered by an earlier life
            self._first_out[pool] += 1
        super()._in_order(pool, start, stop)

    def _growth(self, pool: int, number: int, events: int) -> int:
        return super()._growth(pool, number, events + self.life.scenario.final[pool])

    def answered(self, worker: Worker, job: Job, start: int, stop: int, failures: Sequence[FailureRecord]) -> None:
        """Note an answer that reaches the core now, from a worker that is not known to be dead."""
        super().answered(worker, job, start, stop, failures)
        self.keeping.answered(worker, start, stop)

    # -- what is durable ----------------------------------------------------------------------------------------

    def may_deliver(self, effect: Deliver | DeliverLoose, lo: int, hi: int) -> None:
        """Check that all that is about to be seen follows from what is durable."""
        self.may_be_seen(f"{effect!r:.80} is delivered", hi)
        self.keeping.delivered(effect, lo, hi)

    def may_be_seen(self, what: str, hi: int) -> None:
        """Check that what could be numbered or read otherwise again is in the log."""
        life, store = self.life, self.world.store
        tokens = [token for token in life.reference.tokens[:hi] if token is not None]
        if life.scenario.mode != "store":
            return
        if life.scenario.wiring.order == "arrival" and len(life.scenario.sources) > 1 and store.logged_to() < len(tokens):
            self.broken(f"{what}, and the log ends at number {store.logged_to()}")
        for at, source in enumerate(life.scenario.sources):
            numbered = sum(token // OF_SOURCE == at for token in tokens)
            if source.kind == "logged" and store.read_to(at) < numbered:
                self.broken(f"{what}, {numbered} events of source {at}, and the log ends at {store.read_to(at)}")

    def may_commit(self, cut: Cut) -> None:
        """Check a cut that is about to be committed."""
        life = self.life
        self.same("what is delivered at a cut", self.delivered, cut.n)
        if life.scenario.mode == "store":
            stateful = {at for at, pool in enumerate(life.scenario.wiring.pools) if pool.stateful}
            self.same("the pools whose states are in a cut", set(cut.states), stateful)
        for at, packed in sorted(cut.states.items()):
            self.same(f"the state of pool {at}", int(packed or 0), life.reference.state(at, cut.n))

    def acknowledged(self, effect: Acknowledge) -> None:
        """Check that what a source is told of is committed."""
        life, source = self.life, self.world.sources[effect.source]
        held = [sink.upto + 1 for sink in self.world.sinks if isinstance(sink, Outbox)]
        committed = min([*held, self.committed])
        if self.world.store.saved is not None:
            committed = min(committed, self.world.store.saved.n)
        if not source.covered(effect.position) <= set(life.reference.tokens[:committed]):
            self.broken(f"source {effect.source} is told of {effect.position}, and {committed} numbers are committed")

    # -- the end ------------------------------------------------------------------------------------------------

    def at_the_end(self) -> None:
        """Check a life that came to its end."""
        life, core = self.life, self.life.core
        self._bytes()
        assert life.finish is not None
        if life.finish.failure is not None:
            return
        for stream in life.scenario.wiring.loose:
            given = sum(1 for at, _ in self._loose if at == stream)
            self.same("the numbers given to a loose stream", given, core.sequencer.next - life.first)
        for pool in core.pools:
            self.same("the frontier of a pool", pool.dispatcher.frontier, core.sequencer.next)
        if life.finish.source_error is None:
            self.same("what is delivered at the end", self.delivered, core.sequencer.next)
            if life.scenario.mode == "store" or not any(pool.stateful for pool in life.scenario.wiring.pools):
                self.same("the bytes in flight at the end", core.budget.bytes, 0)


def check_all(world: World, truth: Truth) -> None:
    """Check what the sinks hold in the end: all events of every source once, in the order, handled as they must be."""
    scenario = world.scenario
    tokens = [token for token in truth.tokens if token is not None]
    _check_order(world, tokens)
    total = sum(sum(source.parts) for source in scenario.sources)
    expected = total if scenario.limit is None else min(total, scenario.limit)
    if len(tokens) != expected:
        world.broken(f"{len(tokens)} events were numbered, there were {expected}")
    if (len(truth.tokens) > len(tokens)) != scenario.wiring.needs_end or None in truth.tokens[:-1]:
        world.broken(f"the end of the input has a wrong number: {truth.tokens}")
    rows: list[Row] = [
        (stream, n, given)
        for n in range(len(truth.tokens))
        for stream in scenario.wiring.tail
        if (given := truth.stream(stream, n))
    ]
    for sink in world.sinks:
        if sink.rows != rows:
            at = next((at for at, pair in enumerate(zip_longest(sink.rows, rows)) if pair[0] != pair[1]), None)
            world.broken(f"a sink holds other rows than it must, from row {at} on: {sink.rows[at:]!r:.200}")


def _check_order(world: World, tokens: list[int]) -> None:
    scenario = world.scenario
    given = [[token for token in tokens if token // OF_SOURCE == at] for at in range(len(world.sources))]
    for at, source in enumerate(world.sources):
        for part in source.parts:
            there = [token for token in given[at] if token in set(part)]
            if there != part[: len(there)]:
                world.broken(f"source {at} gave {part}, numbered were {there}")
    order = scenario.wiring.order
    rest = [[-1] * (sum(source.script.parts) - len(given[at])) for at, source in enumerate(world.sources)]
    if order == "round_robin":
        turns = zip_longest(*(tokens + more for tokens, more in zip(given, rest, strict=True)))
        expected = [token for row in turns for token in row if token is not None][: len(tokens)]
        if tokens != expected:
            world.broken(f"in turn the sources give {expected}, numbered were {tokens}")
    elif order == "key":
        later = [token for source in world.sources for part in source.parts for token in part if token not in set(tokens)]
        ranks, above = ([_rank(scenario, token) for token in some] for some in (tokens, later))
        if ranks != sorted(ranks) or (ranks and above and min(above) < ranks[-1]):
            world.broken(f"merged by key, the keys and sources are {ranks}, and {above} of what has no number")


def _rank(scenario: Scenario, token: int) -> tuple[bool, int, int]:
    """Return what a merge by key goes by: events before the first key of their source come first."""
    key = scenario.key_of(token)
    return key is not None, key or 0, token // OF_SOURCE


def _fails(reference: Truth, number: int) -> bool:
    return any(failed.on_error == "fail" for failed in reference.failures(number))
