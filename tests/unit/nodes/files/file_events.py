"""What a file gives from every position, and what a sink writes, for the tests of files."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from sluiceway.nodes.files import line_blocks
from sluiceway.nodes.sinks import Batch

MANY = 1 << 20


def everything(source: Any, limit: int = 1000, max_bytes: int = MANY, position: object = None) -> list[Any]:
    reader = source.reader(position)
    events: list[Any] = []
    try:
        while (batch := reader.read(limit, max_bytes)) is not None:
            assert 0 <= len(batch) <= limit
            events.extend(batch)
    finally:
        reader.close()
    return events


def until_error(source: Any, limit: int = 1000) -> tuple[list[Any], Exception, object]:
    reader = source.reader(None)
    events: list[Any] = []
    while True:
        try:
            batch = reader.read(limit, MANY)
        except Exception as error:
            with pytest.raises(type(error)):
                reader.read(limit, MANY)
            reader.close()
            return events, error, reader.position()
        assert batch is not None, "the source ended without an error"
        events.extend(batch)


def written(sink: Any, *batches: list[Any]) -> None:
    sink.open()
    for batch in batches:
        sink.write(Batch(batch, list))
    sink.close()


def positions_agree(source: Any, events: list[Any], limit: int) -> None:
    """Go on from every position that a reader gives, and find exactly the rest."""
    reader = source.reader(None)
    count = 0
    while True:
        position = pickle.loads(pickle.dumps(reader.position()))
        assert everything(source, position=position) == events[count:]
        assert everything(source, position=list(position)) == events[count:]
        batch = reader.read(limit, MANY)
        if batch is None:
            break
        count += len(batch)
    reader.close()
    assert count == len(events)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a few bytes at once, so that lines and rows span blocks."""
    real = line_blocks.LineBlocks.next
    monkeypatch.setattr(line_blocks.LineBlocks, "next", lambda self, size: real(self, 7))
