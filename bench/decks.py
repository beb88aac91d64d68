"""A run on many decks, simulated: the very core decides, while workers and their machines are only a clock.

What the core takes is measured; what a batch costs beside it (socket, keys, packing) is a constant, and so is the way to a
worker and back. The calling process is one server: while it is busy, answers queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from time import thread_time
from typing import Any

from sluiceway.engine.core.core import Core
from sluiceway.engine.core.effects import Deliver, Pull, SendTask, Spawn
from sluiceway.engine.core.topology import PoolWiring, Wiring
from sluiceway.nodes.ordering.budget import Budget
from sluiceway.nodes.ordering.segments import ExitData
from sluiceway.nodes.ordering.sequencer import Chunk
from sluiceway.nodes.program.kinds import NodeKind
from sluiceway.nodes.program.program import Step, make_program

WORKERS_PER_DECK = 8
#: What a batch costs the calling process beside the core, in seconds: measured on one machine, see docs/decisions.md.
BATCH_S = 4e-4
#: The way to a worker and back, in seconds.
WAY_S = 1e-3
PROGRAM = make_program(1, 2, [Step(kind=NodeKind.MAP, node="step", node_id=1, inputs=(0,), output=1)], [1])
BYTES_EACH = 100


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a run of some decks came to; `busy` is the share of the time that workers were in handlers, 0..1."""

    batch: float  #: events of a batch, on average
    core_us: float  #: of the core, for a batch
    in_flight: int  #: numbers, at most
    rate: float  #: events a second
    busy: float
    caller: float  #: the share of the time that the calling process was busy


class NoPacking:
    """Nothing has to be packed: one source, no limit."""

    def pack(self, items: list[Any]) -> tuple[Any, int]:
        """Refuse: it is never called."""
        raise AssertionError("a single source needs no packing")

    def head(self, payload: Any, count: int) -> tuple[Any, int]:
        """Refuse: it is never called."""
        raise AssertionError("without a limit nothing is cut")


def simulate(decks: int, event_s: float, batches: int) -> Simulated:
    """Run until so many batches are answered by each worker, after as many to settle; an event takes `event_s` seconds."""
    workers = decks * WORKERS_PER_DECK
    wiring = Wiring((PoolWiring("pool", PROGRAM, workers, False, (0,), (1,)),), (1,), (), (False,))
    core = Core(wiring, NoPacking(), budget=Budget(64 << 20, 1 << 18))
    core.start()
    for effect in core.cycle(0.0):
        if isinstance(effect, Spawn):
            core.record_ready(effect.worker)
    due: list[tuple[float, int, SendTask]] = []
    free_at: dict[str, float] = {}
    now, sent, answered, wanted = 0.0, 0, 0, batches * workers
    began = spent = handled = worked = in_flight = 0.0

    def act(at: float) -> None:
        """Carry out what the core asks, until it asks for nothing more."""
        nonlocal sent
        again = True
        while again:
            again = False
            for effect in core.cycle(at):
                if isinstance(effect, SendTask):
                    task = effect.task
                    begins = max(at + WAY_S / 2, free_at.get(task.worker, 0.0))
                    free_at[task.worker] = begins + (task.stop - task.start) * event_s
                    heappush(due, (free_at[task.worker] + WAY_S / 2, sent, effect))
                    sent += 1
                elif isinstance(effect, Pull):
                    core.record_chunk(0, Chunk(effect.count, b"", effect.count * BYTES_EACH))
                    again = True
                elif isinstance(effect, Deliver):
                    core.record_consumed(effect.release.hi)
                    again = True

    act(0.0)
    while answered < 2 * wanted:
        if answered == wanted:
            began, spent, handled, worked = now, 0.0, 0.0, 0.0
        at, _, effect = heappop(due)
        task, started = effect.task, thread_time()
        numbers = task.stop - task.start
        now = max(now, at)
        tallies = [[float(numbers), float(numbers), numbers * event_s, 0.0, 0.0, 0.0]]
        exits = [ExitData(b"", numbers * BYTES_EACH)]
        core.record_answer(task.worker, task.id, task.start, numbers, exits, [], tallies, numbers * event_s, now)
        act(now)
        took = thread_time() - started
        now += took + BATCH_S
        spent, handled, worked = spent + took, handled + numbers, worked + numbers * event_s
        in_flight = max(in_flight, core.in_flight)
        answered += 1
    passed = now - began
    return Simulated(
        handled / wanted,
        spent / wanted * 1e6,
        int(in_flight),
        handled / passed,
        worked / passed / workers,
        (spent + wanted * BATCH_S) / passed,
    )
