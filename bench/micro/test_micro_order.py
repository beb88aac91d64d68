"""What keeps the order: the sequencer, the sets of numbers behind the reorder buffer, the barrier, the dispatcher."""

from __future__ import annotations

from itertools import count
from typing import Any

from sluiceway.nodes.dispatch.dispatcher import Dispatcher
from sluiceway.nodes.ordering.barrier import Barrier
from sluiceway.nodes.ordering.budget import Pace
from sluiceway.nodes.ordering.intervals import Intervals
from sluiceway.nodes.ordering.sequencer import Chunk, Sequencer
from sluiceway.nodes.program.kinds import NodeKind
from sluiceway.nodes.program.program import Step, make_program

from bench.micro.cases import by_size, timed

PROGRAM = make_program(1, 2, [Step(kind=NodeKind.MAP, node="step", node_id=1, inputs=(0,), output=1)], [1])


@by_size
def test_sequencer(benchmark: Any, size: int) -> None:
    sequencer = Sequencer(1)

    def batch() -> Any:
        sequencer.offer(0, Chunk(size, b"", 0))
        return sequencer.number_next(size)

    assert timed(benchmark, size, batch).size == size


@by_size
def test_sequencer_merges_in_turn(benchmark: Any, size: int) -> None:
    sequencer = Sequencer(2, "round_robin")
    half = list(range(size))

    def batch() -> Any:
        for source in (0, 1):
            sequencer.offer(source, Chunk(size, items=half))
        return sequencer.number_next(2 * size)

    assert timed(benchmark, 2 * size, batch).size == 2 * size


@by_size
def test_reorder_two_swapped_batches(benchmark: Any, size: int) -> None:
    """Of each two batches the later one comes first."""
    answered, barrier, numbers = Intervals(), Barrier(), count()

    def two() -> Any:
        lo = next(numbers) * 2 * size
        answered.add(lo + size, lo + 2 * size)
        early = barrier.release(answered.frontier())
        answered.add(lo, lo + size)
        return early, barrier.release(answered.frontier())

    early, released = timed(benchmark, 2 * size, two)
    assert early is None
    assert released.hi - released.lo == 2 * size


@by_size
def test_reorder_behind_a_slow_head(benchmark: Any, size: int) -> None:
    """Sixty-four batches wait behind one: the worst that an even window sees."""

    def wait() -> int:
        answered = Intervals()
        for block in range(64, 0, -1):
            answered.add(block * size, (block + 1) * size)
        answered.add(0, size)
        return answered.frontier()

    assert timed(benchmark, 65 * size, wait) == 65 * size


@by_size
def test_dispatch(benchmark: Any, size: int) -> None:
    """One batch is made ready, handed out and accepted."""
    dispatcher, numbers = Dispatcher(PROGRAM), count()
    dispatcher.add_worker("0.0.1")
    # What one number takes decides the size of batches; this makes them as large as may be.
    dispatcher.sizer.learn(8192, 1e-6, 8192)

    def batch() -> int:
        lo = next(numbers) * size
        dispatcher.add_ready(lo, lo + size)
        (task,) = dispatcher.hand_out(Pace.FREE, lo, 0.0)
        dispatcher.accept("0.0.1", task.id, task.start, task.stop, False)
        return task.stop - task.start

    assert timed(benchmark, size, batch) == size
