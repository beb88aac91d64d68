"""The core's whole cycle and the executor: all that a batch costs between the sockets and the handlers."""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import Any

import pytest
from sluiceway.engine.core.core import Core
from sluiceway.engine.core.effects import Deliver, Pull, SendTask
from sluiceway.engine.core.topology import PoolWiring, Wiring
from sluiceway.nodes.dispatch.task import Task
from sluiceway.nodes.execution.executor import Executor
from sluiceway.nodes.ordering.budget import Budget
from sluiceway.nodes.ordering.segments import ExitData
from sluiceway.nodes.ordering.sequencer import Chunk
from sluiceway.nodes.program.column import Column
from sluiceway.nodes.program.kinds import NodeKind
from sluiceway.nodes.program.program import Step, make_program

from bench.micro.cases import by_size, ints, timed

PROGRAM = make_program(1, 2, [Step(kind=NodeKind.MAP, node="step", node_id=1, inputs=(0,), output=1)], [1])


class NoPacking:
    """Nothing has to be packed: one source, no limit."""

    def pack(self, items: list[Any]) -> tuple[Any, int]:
        raise AssertionError("a single source needs no packing")

    def head(self, payload: Any, count: int) -> tuple[Any, int]:
        raise AssertionError("without a limit nothing is cut")


@by_size
def test_core_cycle(benchmark: Any, size: int) -> None:
    """A batch is read, numbered, handed out, answered, released and consumed."""
    wiring = Wiring((PoolWiring("pool", PROGRAM, 1, False, (0,), (1,)),), (1,), (), (False,))
    core = Core(wiring, NoPacking(), budget=Budget(64 << 20, 1 << 18))
    core.start()
    core.cycle(0.0)
    core.record_ready("0.0.1")
    core.pools[0].dispatcher.sizer.learn(8192, 1e-6, 8192)
    clock = count(1)
    core.cycle(0.0)

    def batch() -> int:
        now = next(clock) * 1e-3
        core.record_chunk(0, Chunk(size, b"", size))
        effects = core.cycle(now)
        done = 0
        for effect in effects:
            if isinstance(effect, SendTask):
                task = effect.task
                numbers = task.stop - task.start
                tallies = [[float(numbers), float(numbers), 1e-6, 0.0, 0.0, 0.0]]
                exits = [ExitData(b"", numbers)]
                core.record_answer("0.0.1", task.id, task.start, numbers, exits, [], tallies, 1e-6, now)
        for effect in core.cycle(now):
            if isinstance(effect, Deliver):
                done += effect.release.hi - effect.release.lo
                core.record_consumed(effect.release.hi)
            else:
                assert isinstance(effect, (Pull, SendTask))
        return done

    assert timed(benchmark, size, batch) == size


@pytest.mark.parametrize("workers", [1, 16, 128, 1000])
def test_core_with_many_workers(benchmark: Any, workers: int) -> None:
    """One batch is answered and the next handed out, while all workers hold what they may."""
    wiring = Wiring((PoolWiring("pool", PROGRAM, workers, False, (0,), (1,)),), (1,), (), (False,))
    core = Core(wiring, NoPacking(), budget=Budget(64 << 20, 1 << 22))
    core.start()
    core.cycle(0.0)
    for worker in range(workers):
        core.record_ready(f"0.{worker}.{worker + 1}")
    core.pools[0].dispatcher.sizer.learn(8192, 8.192, 8192)
    clock, sent = count(1), deque[Task]()

    def cycle() -> None:
        for effect in core.cycle(next(clock) * 1e-3):
            if isinstance(effect, SendTask):
                sent.append(effect.task)
            elif isinstance(effect, Pull):
                core.record_chunk(0, Chunk(effect.count, b"", effect.count))
            elif isinstance(effect, Deliver):
                core.record_consumed(effect.release.hi)

    def batch() -> None:
        task = sent.popleft()
        numbers = task.stop - task.start
        tallies = [[float(numbers), float(numbers), 1e-3, 0.0, 0.0, 0.0]]
        core.record_answer(
            task.worker, task.id, task.start, numbers, [ExitData(b"", numbers)], [], tallies, numbers * 1e-3, next(clock) * 1e-3
        )
        while not sent or len(sent) < workers:
            cycle()
        cycle()

    while len(sent) < workers:
        cycle()
    timed(benchmark, 1, batch)


@by_size
def test_executor(benchmark: Any, size: int) -> None:
    """A batch goes through one handler that does nothing."""
    executor = Executor(PROGRAM, [lambda event: event], lambda events: events)
    column = Column(0, size, ints(size))
    answer = timed(benchmark, size, lambda: executor.run([column]))
    assert answer.exits[0].events == ints(size)
