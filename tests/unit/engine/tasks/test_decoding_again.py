"""A payload that a worker died on is taken apart once, however many tasks are about it."""

from __future__ import annotations

from typing import Any

import pytest
from sluiceway.engine.codec import partial_pickle
from sluiceway.engine.codec.codec import Encoder
from sluiceway.engine.tasks import decoding
from sluiceway.engine.tasks.decoding import TaskDecoder
from sluiceway.engine.tasks.task import Part
from sluiceway.nodes.program.program import Program


class Event:
    """An event that is pickled."""

    def __init__(self, n: int) -> None:
        self.n = n


def test_a_suspect_payload_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []

    class Counted(partial_pickle.PartialPickle):
        def __init__(self, body: Any) -> None:
            parsed.append(len(body))
            super().__init__(body)

    monkeypatch.setattr(decoding, "PartialPickle", Counted)
    payload = Encoder().encode([Event(n) for n in range(300)])
    marks: list[tuple[int, int]] = []
    decoder = TaskDecoder(Program(1, 1, (), (0,)), lambda number, size: marks.append((number, size)))
    found: list[int] = []
    for lo in range(0, 300, 30):
        part = Part(lo, lo + 30, 0, 300, payload, None, None)
        found += [event.n for event in decoder._column(0, part, True, []).events]
    assert found == list(range(300))
    assert len(parsed) == 1
    other = Encoder().encode([Event(n + 1) for n in range(300)])
    assert decoder._column(0, Part(0, 1, 0, 300, other, None, None), True, []).events[0].n == 1
    assert len(parsed) == 2
