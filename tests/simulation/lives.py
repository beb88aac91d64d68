"""A run with checkpoints from its first life to its last, in one thread and in made-up time.

The real core, order log, rereading, checkpoints and set of sinks, with fake workers, sources, sinks and a store around
them. `live` raises `LawBroken` with the seed and what was found; `SIMULATE_SEED=n` repeats one run.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any

from lives_delivery import Caller
from lives_ends import Crash, World
from lives_keeping import KeepingThread
from lives_laws import LifeLaws, check_all
from lives_scenario import make_scenario
from lives_sources import Intake
from lives_workers import StateWorker, Truth
from sim_laws import LawBroken
from sim_workers import LoopWorker, PlainWorker, Worker
from simulator import Packing
from sluiceway.engine.checkpoints.checkpoints import Checkpoints
from sluiceway.engine.core.core import Core
from sluiceway.engine.core.effects import (
    Acknowledge,
    AskState,
    Commit,
    Deliver,
    DeliverLoose,
    Effect,
    Finish,
    Keep,
    Pull,
    Recall,
    Restore,
    SendTask,
    Spawn,
    StopSource,
    StopWorker,
    Warn,
)
from sluiceway.nodes.dispatch.batch_sizing import TARGET_S
from sluiceway.nodes.ordering.budget import Budget
from sluiceway.nodes.ordering.order_log import OrderLog
from sluiceway.nodes.ordering.source_positions import SourcePosition

#: More events than this in one small life are a livelock.
MOST_EVENTS = 20_000


class Life:
    """One life. What the fake workers of `sim_workers` ask for is named as there."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.first = world.store.saved.n if world.store.saved is not None else 0
        self.scenario = scenario = world.scenario.of_life(number, self.first, world.store.kept.ever)
        self.end = scenario.ends[number]
        self.rng: Random = world.rng
        self.now = 0.0
        self.steps = 0
        self.finish: Finish | None = None
        self.workers: dict[str, Worker] = {}
        self._checkpoints = self._open_checkpoints() if scenario.mode == "store" else None
        self.core = self._make_core()
        self.reference = Truth(scenario, list(world.fixed[: self.first]))  # type: ignore[arg-type]
        self.laws = LifeLaws(self)
        self._caller = Caller(self, self._checkpoints)
        self._keeper = KeepingThread(self)
        self._intakes = [self._intake(at) for at in range(len(scenario.sources))]
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    # -- the beginning ------------------------------------------------------------------------------------------

    def _open_checkpoints(self) -> Checkpoints:
        store = self.world.store
        saved = store.open({}, "auto")
        runs, reads = store.logged() if saved is not None else ([], [])
        log = OrderLog(saved.n if saved is not None else 0, runs, reads)
        pools = tuple(at for at, pool in enumerate(self.scenario.wiring.pools) if pool.stateful)
        announced = store.announced() if saved is not None else -1
        return Checkpoints(store, saved, log, tuple(f"pool {at}" for at in pools), pools, announced=announced)

    def _make_core(self) -> Core:
        scenario, checkpoints = self.scenario, self._checkpoints
        core = Core(
            scenario.wiring,
            Packing(scenario),  # type: ignore[arg-type]
            budget=Budget(scenario.window_bytes, scenario.window_numbers),
            limit=scenario.limit,
            max_deaths=None,
            commits=scenario.mode == "commits",
            log=checkpoints.order_log if checkpoints is not None else None,
        )
        if checkpoints is not None and checkpoints.saved is not None:
            saved = checkpoints.saved
            kept = {at: self.world.store.kept.known(at) for at in range(len(scenario.pools))}
            core.resume(saved.n, checkpoints.places, saved.turn, checkpoints.packed())
            core.keeping.resume(saved.n, kept)
            self.world.recalled += bool(any(kept.values()))
            self.world.restored += bool(checkpoints.packed())
            self.world.repeated += checkpoints.order_log.next_run is not None
        for pool, script in zip(core.pools, scenario.pools, strict=True):
            if script.taught:
                pool.dispatcher.sizer.learn(script.taught, TARGET_S * 0.99, script.taught)
        return core

    def _intake(self, at: int) -> Intake:
        place, reads = None, []
        if self._checkpoints is not None:
            saved = self._checkpoints.saved
            place = self._checkpoints.places[at] if saved is not None else SourcePosition()
            reads = [read for read in self.world.store.reads if read.source == at]
        failing = self.end.source
        fails = failing[1] if failing is not None and failing[0] == at else None
        return Intake(self, at, place, reads, fails)

    def at(self, when: float, what: Callable[..., None], *args: Any) -> None:
        """Do something at a time, after all that was planned for the same time before."""
        self._count += 1
        heapq.heappush(self._events, (when, self._count, what, args))

    # -- the whole life -----------------------------------------------------------------------------------------

    def run(self) -> str:
        """Live; gives how it ended."""
        self.world.crash_at(self.end.point, self.end.passes)
        try:
            self._caller.sinks.open()
            self.core.start()
            self._plan()
            self._cycle()
            while self._events:
                self._step()
                if self.end.steps is not None and self.steps > self.end.steps:
                    raise Crash
            self._end()
        except Crash:
            return "crash"
        assert self.finish is not None
        return self.finish.ended_by

    def _plan(self) -> None:
        for kind in [self._kill] * self.end.kills + [self._sweep] * self.end.sweeps:
            self.at(self.rng.choice((0.001, 0.05, 0.5)) * self.rng.random(), kind)
        if self.end.stop_s is not None:
            self.at(self.end.stop_s, self.core.stop_reading, self.rng.choice(("stop", "time_limit", "interrupt")))
        if self.scenario.cut_s is not None:
            self.at(0.0, self._want, self.scenario.cut_s)

    def _want(self, pause_s: float) -> None:
        if not self._events:
            self._cycle()
        if not self._events and self.finish is None:
            self.laws.broken("nothing goes on before the next cut is due")
        self.core.cuts.request()
        if self._events:
            self.at(self.now + pause_s * (0.5 + self.rng.random()), self._want, pause_s * 1.4)

    def _step(self) -> None:
        self.now, _, what, args = heapq.heappop(self._events)
        if self.finish is not None and what not in self._caller.afterwards:
            return
        what(*args)
        self.steps += 1
        if self.steps > MOST_EVENTS:
            self.laws.broken("the run does not end: something is done again and again")
        if self.finish is None and not (self._events and self.scenario.lazy and self.rng.random() < self.scenario.lazy):
            self._cycle()

    def _cycle(self) -> None:
        told = True
        while told and self.finish is None:
            before = self.laws.before_cycle()
            effects = self.core.cycle(self.now)
            self.laws.after_cycle(before, effects)
            left = self.core.cycle(self.now)
            if left:  # the hub asks again only where the core was told something meanwhile
                self.laws.broken(f"a cycle has left something to do: {left}")
            told = False
            for effect in effects:
                told |= self._do(effect)

    def _end(self) -> None:
        if self.finish is None:
            self.laws.broken("the run stands still and has not ended")
        self.laws.at_the_end()
        assert self.finish is not None
        self._caller.sinks.close(failed=self.finish.ended_by not in ("source", "limit"))

    # -- workers ------------------------------------------------------------------------------------------------

    def _kill(self) -> None:
        wanted = [worker for worker in self.workers.values() if not worker.gone]
        if wanted:
            self.rng.choice(wanted).killed()

    def _sweep(self) -> None:
        for worker in list(self.workers.values()):
            if not worker.gone:
                worker.killed_from_outside = True
                worker.dies(None)

    def failed(self, worker: Worker) -> None:
        """Take in that the failure which ends the run is in."""

    def _spawn(self, effect: Spawn) -> None:
        loop, stateful = self.scenario.pools[effect.pool].loop, self.scenario.wiring.pools[effect.pool].stateful
        cls = StateWorker if stateful else LoopWorker if loop else PlainWorker
        worker = cls(self, effect.worker, effect.pool)  # type: ignore[arg-type]
        self.workers[effect.worker] = worker
        worker.starts(self.now + effect.pause_s + self.rng.choice((0.0, 0.01, 0.2)) * self.rng.random())

    # -- effects ------------------------------------------------------------------------------------------------

    def _do(self, effect: Effect) -> bool:
        """Carry an effect out; gives whether the core was told something by it."""
        kind = type(effect)
        if isinstance(effect, SendTask):
            self.workers[effect.worker].receive(effect)
        elif isinstance(effect, (Deliver, DeliverLoose, Commit)):
            self._caller.put(effect)
        elif isinstance(effect, (Keep, Recall)):
            self._keeper.put(effect)
        elif isinstance(effect, Pull):
            self._intakes[effect.source].pull(effect.count)
        elif isinstance(effect, Spawn):
            self._spawn(effect)
        elif isinstance(effect, StopSource):
            return self._intakes[effect.source].stop()
        elif isinstance(effect, StopWorker):
            self.workers[effect.worker].stop()
        elif isinstance(effect, (AskState, Restore)):
            worker = self.workers[effect.worker]
            assert isinstance(worker, StateWorker)
            worker.ask(effect.n) if isinstance(effect, AskState) else worker.restore(effect.packed)
        elif isinstance(effect, Acknowledge):
            self.world.point("before an acknowledgement")
            if self.scenario.sources[effect.source].acknowledges:
                self.laws.acknowledged(effect)
                self._intakes[effect.source].acknowledge(effect.position)
        elif isinstance(effect, Finish):
            self.finish = effect
        else:
            assert kind is Warn
        return False


def live(seed: int) -> World:
    """Live all lives of the scenario of a seed; raises `LawBroken` when a law is broken or the core trips over itself."""
    world = World(make_scenario(seed))
    try:
        for number in range(len(world.scenario.ends)):
            life = Life(world, number)
            if life._checkpoints is not None and life._checkpoints.finished:
                break
            world.lives.append(life.run())
            last = life
        saved = world.store.saved
        if not (world.lives[-1] in ("source", "limit") or (saved is not None and saved.finished)):
            world.broken(f"the last life ended by {world.lives[-1]}")
        check_all(world, Truth(world.scenario, last.reference.tokens))
    except LawBroken:
        raise
    except Exception as error:
        raise LawBroken(
            f"seed {seed}: {type(error).__name__}: {error}; after {world.lives}, {world.scenario.describe()}"
        ) from error
    return world
