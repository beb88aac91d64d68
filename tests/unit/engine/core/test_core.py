"""The core's own decisions: what sources are asked for, how a pool is kept alive, and what a cycle costs."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from sluiceway.engine.core.core import Core
from sluiceway.engine.core.effects import Deliver, Finish, Pull, SendTask, Spawn
from sluiceway.engine.core.topology import PoolWiring, Wiring
from sluiceway.nodes.dispatch.blame import LastSeen, Phase
from sluiceway.nodes.ordering.barrier import FailureRecord
from sluiceway.nodes.ordering.budget import Budget
from sluiceway.nodes.ordering.segments import ExitData
from sluiceway.nodes.ordering.sequencer import Chunk, Order
from sluiceway.nodes.program.kinds import NodeKind
from sluiceway.nodes.program.options import Options
from sluiceway.nodes.program.program import Step, make_program


class _Packing:
    def pack(self, items: list[Any]) -> tuple[Any, int]:
        return items, len(items)

    def head(self, payload: Any, count: int) -> tuple[Any, int]:
        return payload[:count], count


def _core(
    *, sources: int = 1, order: Order = "arrival", workers: int = 1, numbers: int = 1 << 20, on_error: Any = "fail"
) -> Core:
    step = Step(kind=NodeKind.MAP, node="work", node_id=1, inputs=(0,), output=1, options=Options(on_error=on_error))
    pool = PoolWiring("work", make_program(1, 2, [step], [1]), workers, False, (0,), (1,))
    wiring = Wiring((pool,), (1,), (), (True,) * sources, order)
    core = Core(wiring, _Packing(), budget=Budget(1 << 40, numbers))
    core.start()
    return core


class _Driver:
    """Answers every task at once, and keeps what the core asked for."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.asked: list[tuple[int, int]] = []
        self.tasks: list[SendTask] = []
        self.delivered = 0
        self.spawned: list[Spawn] = []
        self.finish: Finish | None = None
        self.now = 0.0

    def cycle(self) -> None:
        self.now += 0.001
        while effects := self.core.cycle(self.now):
            for effect in effects:
                if isinstance(effect, Pull):
                    self.asked.append((effect.source, effect.count))
                elif isinstance(effect, SendTask):
                    self.tasks.append(effect)
                elif isinstance(effect, Deliver):
                    self.delivered = effect.release.hi
                    self.core.record_consumed(effect.release.hi)
                elif isinstance(effect, Spawn):
                    self.spawned.append(effect)
                elif isinstance(effect, Finish):
                    self.finish = effect

    def answer(self, effect: SendTask, failures: list[FailureRecord] | None = None, seconds: float = 0.5) -> None:
        task = effect.task
        size = task.stop - task.start
        exits = [ExitData([0] * size, 8 * size)]
        self.core.record_answer(effect.worker, task.id, task.start, size, exits, failures or [], [[0.0] * 6], seconds, self.now)

    def join_all(self) -> None:
        while self.spawned:
            self.core.record_ready(self.spawned.pop().worker)


def _give(core: Core, source: int, count: int) -> None:
    if core.sequencer.merges:
        core.record_chunk(source, Chunk(count, items=[0] * count, keys=[0] * count))
    else:
        core.record_chunk(source, Chunk(count, [0] * count, 8 * count))


@pytest.mark.parametrize("numbers", [1, 2, 3, 1 << 20])
def test_a_source_that_stays_silent_does_not_hold_up_the_others(numbers: int) -> None:
    driver = _Driver(_core(sources=3, numbers=numbers))
    driver.cycle()
    driver.join_all()
    for _ in range(50):
        driver.cycle()
        busy = [count for source, count in driver.asked if source == 1]
        driver.asked = [pull for pull in driver.asked if pull[0] != 1]
        for _ in busy:
            _give(driver.core, 1, 1)
        driver.cycle()
        while driver.tasks:
            driver.answer(driver.tasks.pop(0))
            driver.cycle()
    assert driver.delivered >= 40


@pytest.mark.parametrize("order", ["round_robin", "key"])
@pytest.mark.parametrize("numbers", [1, 4])
def test_a_merge_gets_the_event_it_waits_for_whatever_waits_of_the_others(order: Order, numbers: int) -> None:
    driver = _Driver(_core(sources=2, order=order, numbers=numbers))
    driver.cycle()
    driver.join_all()
    for _ in range(60):
        driver.cycle()
        for source, count in driver.asked:
            # The first gives all it was asked for, the second one event at a time.
            _give(driver.core, source, count if source == 0 else 1)
        driver.asked.clear()
        while driver.tasks:
            driver.answer(driver.tasks.pop(0))
            driver.cycle()
    assert driver.delivered >= 30


def test_no_number_is_admitted_beyond_the_limit_by_what_a_stopped_source_had_read() -> None:
    driver = _Driver(_core(numbers=10))
    driver.cycle()
    driver.join_all()
    driver.cycle()
    _give(driver.core, 0, 4)
    driver.core.stop_reading("stop")
    _give(driver.core, 0, 25)
    driver.core.record_source_end(0)
    admitted, before = [], driver.core.sequencer.next
    while driver.finish is None:
        driver.cycle()
        if driver.core.sequencer.next > before:
            admitted.append(driver.core.in_flight)
            before = driver.core.sequencer.next
        driver.answer(driver.tasks.pop(0))
        driver.cycle()
    assert admitted == [4, 25], "a chunk above the limit is admitted only when nothing else is in flight"
    assert (driver.delivered, driver.finish.ended_by) == (29, "stop")


def test_a_pool_whose_workers_all_die_before_the_first_event_is_started_again() -> None:
    driver = _Driver(_core(workers=3))
    driver.cycle()
    driver.join_all()
    driver.cycle()
    for worker in list(driver.core.pools[0].dispatcher.workers):
        driver.core.record_death(worker, LastSeen(Phase.IDLE), "was ended by SIGKILL")
    driver.cycle()
    assert len(driver.spawned) == 3
    assert driver.core.counts.worker_deaths == 3
    _give(driver.core, 0, 1)
    driver.cycle()
    assert driver.tasks == []
    driver.join_all()
    driver.cycle()
    assert [task.task.start for task in driver.tasks] == [0]


def test_a_pool_that_cannot_start_ends_the_run_with_its_name() -> None:
    driver = _Driver(_core())
    for _ in range(10):
        driver.cycle()
        if driver.finish is not None:
            break
        driver.core.record_death(driver.spawned.pop().worker, LastSeen(Phase.START), "exited with code 3")
    assert driver.finish is not None
    assert driver.finish.start_up is not None
    assert driver.finish.start_up[0] == "work"
    assert driver.finish.start_up[2] == "exited with code 3"


@pytest.mark.parametrize("killed", [False, True])
def test_a_pool_that_can_start_goes_on_however_many_die_at_their_start(killed: bool) -> None:
    """Also one that has nothing to do yet: whoever is ready shows that its place can be taken."""
    driver = _Driver(_core())
    for _ in range(20):
        for phase in (Phase.START, Phase.START, Phase.IDLE):
            driver.cycle()
            worker = driver.spawned.pop().worker
            if phase is Phase.IDLE:
                driver.core.record_ready(worker)
            driver.core.record_death(worker, LastSeen(phase), "was ended", killed=killed)
    driver.cycle()
    assert driver.finish is None


def _starts(driver: _Driver, *, killed: bool) -> int:
    """Let every worker die at its start until that ends the run; gives how many did."""
    for deaths in range(1, 100):
        driver.core.record_death(driver.spawned.pop().worker, LastSeen(Phase.START), "was ended", killed=killed)
        driver.cycle()
        if driver.finish is not None:
            return deaths
    raise AssertionError("it is started for ever")


@pytest.mark.parametrize("stood", [False, True])
def test_kills_from_outside_at_the_start_are_borne_for_longer_and_not_for_ever(stood: bool) -> None:
    deaths = {}
    for killed in (False, True):
        driver = _Driver(_core())
        driver.cycle()
        if stood:
            worker = driver.spawned.pop().worker
            driver.core.record_ready(worker)
            driver.core.record_death(worker, LastSeen(Phase.IDLE), "was ended by SIGKILL", killed=True)
            driver.cycle()
        deaths[killed] = _starts(driver, killed=killed)
    assert deaths == ({False: 8, True: 40} if stood else {False: 5, True: 10})


def test_pauses_before_restarts_grow_and_end_with_an_answer() -> None:
    driver = _Driver(_core(on_error="skip"))
    pauses = []
    for deaths in range(6):
        driver.cycle()
        spawn = driver.spawned.pop()
        pauses.append(spawn.pause_s)
        driver.core.record_ready(spawn.worker)
        driver.cycle()
        driver.core.record_death(spawn.worker, LastSeen(Phase.IDLE), f"death {deaths}")
    assert pauses == sorted(pauses)
    assert pauses[:2] == [0.0, 0.0]
    assert pauses[-1] > pauses[2] > 0
    driver.cycle()
    driver.join_all()
    _give(driver.core, 0, 1)
    driver.cycle()
    worker = driver.tasks[0].worker
    driver.answer(driver.tasks.pop())
    driver.core.record_death(worker, LastSeen(Phase.IDLE), "once more")
    driver.cycle()
    assert driver.spawned[0].pause_s == 0.0


def test_what_a_dead_worker_still_had_on_the_way_is_dropped() -> None:
    driver = _Driver(_core())
    driver.cycle()
    driver.join_all()
    _give(driver.core, 0, 1)
    driver.cycle()
    late = driver.tasks.pop()
    driver.core.record_death(late.worker, LastSeen(Phase.IDLE), "was ended by SIGKILL")
    driver.answer(late)
    driver.cycle()
    assert driver.delivered == 0
    driver.join_all()
    driver.cycle()
    driver.answer(driver.tasks.pop())
    driver.cycle()
    assert driver.delivered == 1


@pytest.mark.parametrize(("on_error", "letters"), [("dead_letter", 1), ("skip", 0)])
def test_a_number_that_no_worker_can_unpack_is_answered_by_the_engine(on_error: str, letters: int) -> None:
    driver = _Driver(_core(on_error=on_error))
    driver.cycle()
    driver.join_all()
    _give(driver.core, 0, 1)
    driver.core.record_source_end(0)
    deaths = 0
    while driver.finish is None:
        driver.cycle()
        driver.join_all()
        for task in driver.tasks:
            deaths += 1
            driver.core.record_death(task.worker, LastSeen(Phase.CODEC, 0, 0), "was ended by SIGSEGV")
        driver.tasks.clear()
    assert deaths == 3
    assert driver.delivered == 1
    assert driver.core.counts.dead_letters == letters
    assert driver.core.budget.bytes == 0


def _calls(action: Any) -> int:
    """Return how many functions an action calls."""
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("failing", [False, True])
def test_a_cycle_costs_the_same_however_much_is_held_behind_a_straggler(failing: bool) -> None:
    driver = _Driver(_core(workers=2, on_error="dead_letter"))
    driver.cycle()
    driver.join_all()
    driver.cycle()
    costs = {}
    straggler = None
    for round_ in range(2002):
        while not driver.tasks:
            while driver.asked:
                driver.asked.pop()
                _give(driver.core, 0, 1)
            driver.cycle()
        if straggler is None:
            straggler = driver.tasks.pop(0)
            continue
        effect, failure = driver.tasks.pop(0), []
        if failing:
            seq = effect.task.start
            failure = [FailureRecord(seq, 0, "work", 1, "dead_letter", "x", "", 1, "error", None, 3)]
        driver.answer(effect, failure)
        if round_ in (100, 2000):
            costs[round_] = _calls(lambda: driver.core.cycle(driver.now))
    assert len(driver.core.streams.stores[1]) > 1900
    assert costs[2000] <= costs[100] + 20
