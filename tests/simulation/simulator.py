"""A whole run in one thread and in made-up time: the real core, with fake workers, sources and sinks around it.

Everything is drawn from the seed of a scenario, so a run that breaks a law does so again. `simulate` raises
`LawBroken` with the seed and what was found; `SIMULATE_SEED=n pytest tests/simulation` repeats one run.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from sim_laws import LawBroken, Laws
from sim_scenario import MAX_DEATHS, Reference, Scenario, make_scenario
from sim_workers import LoopWorker, PlainWorker, Worker
from sluiceway.engine.core.core import Core
from sluiceway.engine.core.effects import (
    Deliver,
    DeliverLoose,
    Effect,
    Finish,
    Pull,
    SendTask,
    Spawn,
    StopSource,
    StopWorker,
    Warn,
)
from sluiceway.nodes.dispatch.batch_sizing import TARGET_S
from sluiceway.nodes.ordering.budget import Budget
from sluiceway.nodes.ordering.sequencer import Chunk

#: More events than this in one small run are a livelock.
MOST_EVENTS = 20_000


class Packing:
    """Payloads are lists of events."""

    def __init__(self, scenario: Scenario) -> None:
        self._each = scenario.sources[0].event_bytes

    def pack(self, items: list[Any]) -> tuple[Any, int]:
        """Return the events themselves."""
        return list(items), len(items) * self._each

    def head(self, payload: Any, count: int) -> tuple[Any, int]:
        """Return the first events."""
        return self.pack(payload[:count])


class Source:
    """A source in another process or thread, as the core sees it."""

    def __init__(self, run: Simulation, at: int) -> None:
        self.run, self.at = run, at
        self.script = run.scenario.sources[at]
        self.given = 0
        self.ended = False
        self._free_at = 0.0
        self._pulls: deque[int] = deque()

    def pull(self, count: int) -> None:
        """Answer later with some of what was asked for."""
        self._pulls.append(count)
        rng, script = self.run.rng, self.script
        pause = script.delay_s * rng.random() + (2.0 if rng.random() < script.silent else 0.0)
        self._free_at = max(self._free_at, self.run.now + pause)
        self.run.at(self._free_at, self._reply)

    def _reply(self) -> None:
        if self.ended:
            return
        count = self._pulls.popleft()
        script = self.script
        self._give(min(script.items - self.given, self.run.rng.randint(1, max(1, min(count, script.largest)))))
        if self.given == script.items and (script.fails or self.run.rng.random() < 0.5 or not count):
            self._end("broken" if script.fails else None)

    def _give(self, count: int) -> None:
        if count <= 0:
            if self.given == self.script.items:
                self._end("broken" if self.script.fails else None)
            return
        first, self.given = self.given, self.given + count
        tokens = [1000 * self.at + item for item in range(first, self.given)]
        core = self.run.core
        if core.sequencer.merges:
            keys = self.script.keys[first : self.given] if self.script.keys is not None else None
            core.record_chunk(self.at, Chunk(count, items=tokens, keys=keys))
        else:
            core.record_chunk(self.at, Chunk(count, tokens, count * self.script.event_bytes))

    def _end(self, error: Any) -> None:
        if not self.ended:
            self.ended = True
            self.run.core.record_source_end(self.at, error)

    def stop(self) -> None:
        """Return what was read ahead, later, and end."""
        self.run.at(self.run.now + self.script.delay_s * self.run.rng.random(), self._stop)

    def _stop(self) -> None:
        if not self.ended:
            self._give(min(self.script.items - self.given, self.run.rng.randrange(6)))
            self._end(None)


class Simulation:
    """One run. `core` makes the core, so that a planted bug can be put in."""

    def __init__(self, scenario: Scenario, make_core: Callable[..., Core] = Core) -> None:
        self.scenario = scenario
        self.rng = Random(scenario.seed ^ 0x5EED)
        self.now = 0.0
        self.budget = Budget(scenario.window_bytes, scenario.window_numbers)
        self.core = make_core(
            scenario.wiring, Packing(scenario), budget=self.budget, limit=scenario.limit, max_deaths=MAX_DEATHS
        )
        for pool, script in zip(self.core.pools, scenario.pools, strict=True):
            if script.taught:
                pool.dispatcher.sizer.learn(script.taught, TARGET_S * 0.99, script.taught)
        self.reference = Reference(scenario)
        self.laws = Laws(self)
        self.workers: dict[str, Worker] = {}
        self.finish: Finish | None = None
        self.steps = 0
        self._sources = [Source(self, at) for at in range(len(scenario.sources))]
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._ack_at = 0.0
        self._at_failure = scenario.kills_at_failure

    def at(self, when: float, what: Callable[..., None], *args: Any) -> None:
        """Do something at a time, after all that was planned for the same time before."""
        self._count += 1
        heapq.heappush(self._events, (when, self._count, what, args))

    def run(self) -> Simulation:
        """Run to the end and check the laws all the way."""
        self.core.start()
        self._plan_harm()
        self._cycle()
        events, lazy, rng = self._events, self.scenario.lazy, self.rng
        acks = (self.core.record_consumed, self.core.record_loose_consumed)
        while events:
            self.now, _, what, args = heapq.heappop(events)
            if self.finish is not None and what not in acks:
                continue
            what(*args)
            self.steps += 1
            if self.steps > MOST_EVENTS:
                self.laws.broken("the run does not end: something is done again and again")
            if self.finish is None and not (events and lazy and rng.random() < lazy):
                self._cycle()
        if self.finish is None:
            self.laws.broken("the run stands still and has not ended")
        self.laws.at_the_end()
        return self

    def _plan_harm(self) -> None:
        for kind in ["blamed"] * self.scenario.blamed_kills + ["quiet"] * self.scenario.quiet_kills:
            self.at(self.rng.choice((0.001, 0.05, 0.5)) * self.rng.random(), self._kill, kind)
        if self.scenario.stop_after is not None:
            self.at(0.001 * self.scenario.stop_after, self.core.stop_reading, "stop")

    def _kill(self, kind: str) -> None:
        wanted = [w for w in self.workers.values() if not w.gone and w.is_quiet() == (kind == "quiet")]
        if wanted:
            self.rng.choice(wanted).killed()

    def failed(self, worker: Worker) -> None:
        """Note that the failure that may end the run is in: its worker may die before it sends the rest."""
        if self._at_failure and not worker.gone and not worker.is_quiet():
            self._at_failure -= 1
            worker.killed()

    def _cycle(self) -> None:
        if self.finish is not None:
            return
        before = self.laws.before_cycle()
        effects = self.core.cycle(self.now)
        self.laws.after_cycle(before, effects)
        left = self.core.cycle(self.now)
        if left:  # the hub asks again only where the core was told something meanwhile
            self.laws.broken(f"a cycle has left something to do: {left}")
        for effect in effects:
            self._do(effect)

    def _do(self, effect: Effect) -> None:
        kind = type(effect)
        if kind is SendTask:
            self.workers[effect.worker].receive(effect)
        elif kind is Deliver:
            self._delivered(effect)
        elif kind is DeliverLoose:
            self._loose(effect)
        elif kind is Pull:
            self._sources[effect.source].pull(effect.count)
        elif kind is Spawn:
            self._spawn(effect)
        elif kind is StopSource:
            self._sources[effect.source].stop()
        elif kind is StopWorker:
            self.workers[effect.worker].stop()
        elif kind is Finish:
            self.finish = effect
        else:
            assert kind is Warn

    def _spawn(self, effect: Spawn) -> None:
        cls = LoopWorker if self.scenario.pools[effect.pool].loop else PlainWorker
        worker = cls(self, effect.worker, effect.pool)
        self.workers[effect.worker] = worker
        worker.starts(self.now + effect.pause_s + self.rng.choice((0.0, 0.01, 0.2)) * self.rng.random())

    def _delivered(self, effect: Deliver) -> None:
        release = effect.release
        upto = release.lo
        while upto < release.hi:
            upto = self.rng.randint(upto + 1, release.hi)
            self._ack_at = max(self._ack_at, self.now) + self.scenario.ack_s * self.rng.random()
            self.at(self._ack_at, self.core.record_consumed, upto)

    def _loose(self, effect: DeliverLoose) -> None:
        when = self.now + self.scenario.ack_s * self.rng.random()
        middle = self.rng.randint(effect.lo, effect.hi)
        for lo, hi in ((effect.lo, middle), (middle, effect.hi)):
            if lo < hi:
                self.at(when, self.core.record_loose_consumed, effect.stream, lo, hi)


def simulate(seed: int, make_core: Callable[..., Core] = Core) -> Simulation:
    """Run the scenario of a seed; raises `LawBroken` when it breaks a law or the core trips over itself."""
    scenario = make_scenario(seed)
    simulation = Simulation(scenario, make_core)
    try:
        return simulation.run()
    except LawBroken:
        raise
    except Exception as error:
        raise LawBroken(f"seed {seed}: {type(error).__name__}: {error}; {scenario.describe()}") from error
