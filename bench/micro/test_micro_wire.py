"""The wire: a task and an answer into frames and back; payloads are not touched, so only batches count."""

from __future__ import annotations

from typing import Any

from sluiceway.engine.codec.codec import Encoder
from sluiceway.engine.local.transport import messages as wire
from sluiceway.engine.tasks.task import AnswerMessage
from sluiceway.nodes.ordering.segments import ExitData, Segment, Slice
from sluiceway.nodes.program.program import Orders, Tally

from bench.micro.cases import by_size, dicts, timed


def task(size: int) -> list[Any]:
    """Write a task of `size` numbers."""
    payload = Encoder().encode(dicts(size))
    segment = Segment(0, size, payload, payload.nbytes)
    return wire.pack_task(1, 0, size, 0, Orders(), [[Slice(segment, 0, size)]])


@by_size
def test_task(benchmark: Any, size: int) -> None:
    payload = Encoder().encode(dicts(size))
    segment = Segment(0, size, payload, payload.nbytes)
    inputs, orders = [[Slice(segment, 0, size)]], Orders()
    frames = timed(benchmark, size, lambda: wire.pack_task(1, 0, size, 0, orders, inputs))
    assert frames == task(size)


@by_size
def test_read_task(benchmark: Any, size: int) -> None:
    frames = task(size)
    message = timed(benchmark, size, lambda: wire.unpack_task(wire.unpack(frames, "hub")))
    assert message.stop == size


@by_size
def test_answer(benchmark: Any, size: int) -> None:
    payload = Encoder().encode(dicts(size))
    exits = [ExitData(payload, payload.nbytes)]
    answer = AnswerMessage(1, 0, size, 0.001, [Tally(size, size, 0.001).as_list()], exits, [])
    read = timed(benchmark, size, lambda: wire.unpack_answer(wire.unpack(wire.pack_answer(answer), "0.0.1")))
    assert read.size == size
