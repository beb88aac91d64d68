"""Reads a journaled source as a run does, for the tests of journals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sluiceway.engine.sources.journal_file import JournalFile

MANY = 1 << 20
#: Long enough for any machine; nothing waits for it unless it is broken.
PATIENCE_S = 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db.0.events"


def read(reader: Any, count: int | None = None) -> list[Any]:
    """Read so many events, or all to the end."""
    events: list[Any] = []
    until = time.monotonic() + PATIENCE_S
    while count is None or len(events) < count:
        assert time.monotonic() < until, f"only {len(events)} events came"
        given = reader.read(100, MANY)
        if given is None:
            assert count is None, f"the end came after {len(events)} events"
            break
        events += given
    return events


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def stored(path: Path) -> tuple[int, int, bool]:
    """Return the first event that is in a journal nobody has open, the number behind the last, and whether all came."""
    file = JournalFile(path, "it")
    try:
        return file.first, file.count, file.ended
    finally:
        file.close()


class Session:
    """A generator function that gives other events each time it is opened, as a socket would."""

    def __init__(self, each: int) -> None:
        self.opened = 0
        self.each = each

    def __call__(self) -> Iterator[tuple[int, int]]:
        self.opened += 1
        yield from ((self.opened, n) for n in range(self.each))


CRASHING = """
import sys
from pathlib import Path
from sluiceway.engine.sources.journaled import Journaled

def numbers():
    yield from range(10**9)

reader = Journaled(numbers, Path(sys.argv[1]), "it", afresh=True).reader(None)
while True:
    events = reader.read(int(sys.argv[2]), 1 << 20)
    print(len(events), reader.position(), flush=True)
"""


class _Reads:
    """Gives `rows` in one read, then nothing."""

    rows: Sequence[Any] = range(10)

    def __init__(self) -> None:
        self.given = 0
        self.said: list[Any] = []

    def read(self, limit: int, max_bytes: int) -> Sequence[Any]:
        rows, self.given = self.rows[self.given :], len(self.rows)
        return rows

    def position(self) -> int:
        return 1000 + self.given

    def close(self) -> None:
        self.said.append("closed")


class Numbered:
    def __init__(self, reader: Callable[[], Any], acknowledges: bool = False) -> None:
        self.make, self.acknowledges = reader, acknowledges

    def reader(self, position: object) -> Any:
        assert position is None
        self.opened = self.make()
        return self.opened
