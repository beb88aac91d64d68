"""Tasks that take parts of one payload: it is unpacked once, and every part is as if it were unpacked alone."""

from __future__ import annotations

from typing import Any

import pytest
from sluiceway.engine.codec import blocks
from sluiceway.engine.codec.codec import encode
from sluiceway.engine.tasks import decoding
from sluiceway.engine.tasks.decoding import TaskDecoder
from sluiceway.engine.tasks.task import Part, TaskMessage
from sluiceway.nodes.program.kinds import NodeKind
from sluiceway.nodes.program.program import NO_ORDERS, Step, make_program

PROGRAM = make_program(
    1, 2, [Step(kind=NodeKind.MAP, node="f", node_id=0, inputs=(0,), output=1)], [1]
)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many events each call of `decode` was for."""
    seen: list[int] = []
    real = decoding.decode

    def counting(payload: Any, expected: int) -> list[Any]:
        seen.append(expected)
        return real(payload, expected)

    monkeypatch.setattr(decoding, "decode", counting)
    return seen


def columns_of(
    decoder: TaskDecoder, events: list[Any], first: int, lo: int, hi: int, counts: list[int] | None = None
) -> list[Any]:
    size = len(events) if counts is None else len(counts)
    part = Part(lo, hi, first, first + size, encode(events), counts, None)
    columns, failures = decoder.columns(TaskMessage(1, lo, hi, 0, NO_ORDERS, [[part]]))
    assert failures == []
    assert (columns[0].start, columns[0].stop) == (lo, hi)
    return columns[0].events


def test_the_parts_of_a_payload_are_unpacked_once(decoded: list[int]) -> None:
    decoder = TaskDecoder(PROGRAM, lambda number, size: None)
    events = [{"n": n} for n in range(10)]
    assert columns_of(decoder, events, 100, 100, 103) == events[:3]
    assert columns_of(decoder, events, 100, 105, 106) == events[5:6]  # another worker has what is between
    assert columns_of(decoder, events, 100, 106, 110) == events[6:]
    assert decoded == [10]
    assert decoder._leftover == {}


def test_what_a_handler_changes_is_not_seen_by_a_later_task(decoded: list[int]) -> None:
    decoder = TaskDecoder(PROGRAM, lambda number, size: None)
    events = [{"n": n} for n in range(4)]
    columns_of(decoder, events, 0, 0, 2)[1]["n"] = "changed"
    assert columns_of(decoder, events, 0, 0, 4) == events  # handed out again
    assert decoded == [4, 4]


def test_another_payload_is_unpacked(decoded: list[int]) -> None:
    decoder = TaskDecoder(PROGRAM, lambda number, size: None)
    assert columns_of(decoder, [1, 2, 3], 0, 0, 1) == [1]
    assert columns_of(decoder, [4, 5], 3, 3, 5) == [4, 5]
    assert columns_of(decoder, [1, 2, 3], 0, 1, 2) == [2]
    assert decoded == [3, 2, 3]


def test_numbers_with_several_events(decoded: list[int]) -> None:
    decoder = TaskDecoder(PROGRAM, lambda number, size: None)
    events, counts = ["a", "b", "c", "d"], [2, 0, 1, 1]
    assert columns_of(decoder, events, 7, 7, 8, counts) == ["a", "b"]
    assert columns_of(decoder, events, 7, 8, 10, counts) == ["c"]
    assert columns_of(decoder, events, 7, 10, 11, counts) == ["d"]
    assert decoded == [4]


def test_the_parts_of_a_block_are_unpacked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked: list[int] = []
    real = blocks.ormsgpack.unpackb
    monkeypatch.setattr(blocks.ormsgpack, "unpackb", lambda body: unpacked.append(len(body)) or real(body))
    decoder = TaskDecoder(PROGRAM, lambda number, size: None)
    events = [{"n": n} for n in range(blocks.MIN_BLOCK_EVENTS + 50)]
    columns_of(decoder, events, 7, 7, 100)[1]["n"] = "changed"
    assert columns_of(decoder, events, 7, 100, 200) == events[93:193]
    assert columns_of(decoder, events, 7, 900, 7 + len(events)) == events[893:]  # another worker has what is between
    assert len(unpacked) == 3  # the table and two blocks
    assert columns_of(decoder, events, 7, 7, 100) == events[:93]  # handed out again
