"""The core's whole cycle and the executor: all that a batch costs between the sockets and the handlers."""

from __future__ import annotations

from itertools import count
from typing import Any

from sluiceway.engine.core.core import Core
from sluiceway.engine.core.effects import Deliver, Pull, SendTask
from sluiceway.engine.core.topology import PoolWiring, Wiring
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


@by_size
def test_executor(benchmark: Any, size: int) -> None:
    """A batch goes through one handler that does nothing."""
    executor = Executor(PROGRAM, [lambda event: event], lambda events: events)
    column = Column(0, size, ints(size))
    answer = timed(benchmark, size, lambda: executor.run([column]))
    assert answer.exits[0].events == ints(size)
