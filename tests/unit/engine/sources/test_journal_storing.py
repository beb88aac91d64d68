"""When a journal stores the events of plain iterators, and what cannot be stored."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from journal_readers import CRASHING, MANY, PATIENCE_S, Numbered, Session, _Reads, path, read, stored, until
from sluiceway.engine.sources import journaled as journal
from sluiceway.engine.sources.journal_file import JournalFile
from sluiceway.engine.sources.journaled import Journaled
from sluiceway.engine.sources.read_ahead import FIRST

__all__ = ["path"]


# -- plain iterators --------------------------------------------------------------------------------------------


def test_an_event_does_not_wait_for_the_next_one(path: Path) -> None:
    gates = [threading.Event() for _ in range(5)]

    def slow() -> Iterator[int]:
        for n, gate in enumerate(gates):
            yield n
            assert gate.wait(PATIENCE_S)

    reader = Journaled(slow, path, "it", afresh=True).reader(None)
    for n, gate in enumerate(gates):
        assert read(reader, 1) == [n]
        assert reader.read(100, MANY) == []
        gate.set()
    assert read(reader) == []
    reader.close()


def test_a_read_ends_with_the_first_event(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_WAIT_S", PATIENCE_S)
    read_it = threading.Event()

    def slow() -> Iterator[str]:
        yield "first"
        assert read_it.wait(PATIENCE_S / 2), "the read waited for more"
        yield "second"

    reader = Journaled(slow, path, "it", afresh=True).reader(None)
    assert reader.read(100, MANY) == ["first"]
    read_it.set()
    assert reader.read(100, MANY) == ["second"]
    reader.close()


def test_what_comes_while_others_are_stored_is_stored_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    append = JournalFile.append

    def slow_disk(self: JournalFile, pieces: Sequence[Any], **options: Any) -> None:
        sizes.append(sum(piece.count for piece in pieces))
        pump = reader._ahead
        assert pump is not None
        until(lambda: not pump._reading or len(pump._events) >= pump.most or pump._done)
        append(self, pieces, **options)

    def flood() -> Iterator[str]:
        yield from ("a text" * 100 + str(n) for n in range(1_000))

    monkeypatch.setattr(JournalFile, "append", slow_disk)
    reader = Journaled(flood, path, "it", afresh=True).reader(None)
    assert [int(text.removeprefix("a text" * 100)) for text in read(reader)] == list(range(1_000))
    reader.close()
    assert sizes[0] <= FIRST
    assert len(sizes) < 10
    assert sum(sizes) == 1_000


def test_a_flood_comes_whole_and_in_order(path: Path) -> None:
    def flood() -> Iterator[dict[str, int]]:
        yield from ({"n": n} for n in range(50_000))

    reader = Journaled(flood, path, "it", afresh=True).reader(None)
    given = 0
    while (events := reader.read(700, MANY)) is not None:
        assert len(events) <= 700
        assert [event["n"] for event in events] == list(range(given, given + len(events)))
        given += len(events)
        reader.acknowledge(max(0, given - 2_000))
    assert given == 50_000
    reader.close()
    first, count, ended = stored(path)
    assert (count, ended) == (50_000, True)
    assert first > 0


def test_between_two_reads_only_one_event_may_be_in_memory_alone(path: Path) -> None:
    produced: list[int] = []

    def numbers() -> Iterator[int]:
        while True:
            produced.append(len(produced))
            yield len(produced) - 1

    reader = Journaled(numbers, path, "it", afresh=True).reader(None)
    for _ in range(20):
        read(reader, 1)
        for _ in range(5):
            assert len(produced) <= reader._file.count + 1
            time.sleep(0.0005)
    reader.close()
    assert len(produced) <= stored(path)[1] + 1


def test_closing_stores_what_came_last(path: Path) -> None:
    gates = [threading.Event(), threading.Event()]

    def slow() -> Iterator[str]:
        yield "first"
        gates[0].wait(PATIENCE_S)
        yield "last"
        gates[1].wait(PATIENCE_S)
        yield "never"

    reader = Journaled(slow, path, "it", afresh=True).reader(None)
    assert read(reader, 1) == ["first"]
    gates[0].set()
    until(lambda: reader._ahead is not None and reader._ahead._events)
    reader.close()
    reader.close()
    assert reader.read(1, MANY) is None
    gates[1].set()
    again = Journaled(Session(0), path, "it").reader(1)
    assert read(again) == ["last"]
    again.close()


def test_an_error_comes_behind_the_events_before_it(path: Path) -> None:
    def breaks() -> Iterator[int]:
        yield from range(10)
        raise ConnectionError("the line is dead")

    reader = Journaled(breaks, path, "it", afresh=True).reader(None)
    assert read(reader, 10) == list(range(10))
    for _ in range(2):
        with pytest.raises(ConnectionError, match="the line is dead"):
            read(reader)
    reader.close()
    assert stored(path) == (0, 10, False)


def test_an_error_of_the_clean_up_is_not_an_unfinished_source(path: Path) -> None:
    class Messages:
        """Not a generator: closed by nobody, so the reader's own close is made to fail."""

        def __init__(self) -> None:
            self.left = [1, 2]

        def reader(self, position: object) -> Any:
            return self

        one_by_one = True

        @property
        def iterator(self) -> Iterator[int]:
            return iter(self.left)

        def read(self, limit: int, max_bytes: int) -> Any:
            raise AssertionError("it is read by its iterator")

        def position(self) -> int:
            return 0

        def close(self) -> None:
            raise OSError("cannot hang up")

    reader = Journaled(Messages(), path, "it", afresh=True).reader(None)
    assert read(reader, 2) == [1, 2]
    with pytest.raises(OSError, match="cannot hang up"):
        read(reader)
    reader.close()
    assert stored(path) == (0, 2, True)


def test_an_async_generator_is_read_and_closed(path: Path) -> None:
    ended = []

    async def talk() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(0)
            yield 2
            await asyncio.sleep(PATIENCE_S)
        finally:
            ended.append(True)

    reader = Journaled(talk, path, "it", afresh=True).reader(None)
    assert read(reader, 2) == [1, 2]
    pump = reader._ahead
    assert pump is not None
    reader.close()
    until(lambda: not pump._thread.is_alive())
    assert ended == [True]
    assert stored(path) == (0, 2, False)


def test_a_generator_that_hangs_does_not_hold_up_the_end_of_its_process(path: Path) -> None:
    script = CRASHING[: CRASHING.index("while True")].replace(
        "    yield from range(10**9)", "    import threading\n    yield 1\n    threading.Event().wait()"
    )
    script += "\nwhile not reader.read(1, 1 << 20): pass\nreader.close()\nprint('closed')\n"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed\n", "")
    assert stored(path) == (0, 1, False)


# -- what cannot be stored --------------------------------------------------------------------------------------


class _Odd:
    """Can be packed, and not unpacked."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


@pytest.mark.parametrize("bad", [threading.Lock(), _Odd()], ids=["packing", "unpacking"])
def test_an_event_that_cannot_be_stored_is_a_source_error(path: Path, bad: Any) -> None:
    gate = threading.Event()

    def mixed() -> Iterator[Any]:
        yield 0
        gate.wait(PATIENCE_S)
        yield from [{1}, (2,), bad, 4]

    reader = Journaled(mixed, path, "it", afresh=True).reader(None)
    assert read(reader, 1) == [0]
    gate.set()
    assert read(reader, 2) == [{1}, (2,)]
    with pytest.raises(sw.SourceError, match=r"cannot store event 3 of source 'it', which has journal=True: .*"):
        read(reader)
    reader.close()
    assert stored(path)[:2] == (0, 3)


def test_large_events_are_stored_in_parts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_BATCH_BYTES", 100_000)
    monkeypatch.setattr(journal, "_MAX_EVENT_BYTES", 300_000)
    whole = [bytes([n]) * (30_000 * n) for n in (1, 2, 3, 9, 3)]

    class Blocks(_Reads):
        rows: Sequence[Any] = whole

    reader = Journaled(Numbered(Blocks), path, "it", afresh=True).reader(None)
    assert read(reader, 5) == whole
    assert reader._file._db.execute("SELECT count(*), max(count) FROM events").fetchone() == (4, 2)
    reader.close()

    class TooLarge(_Reads):
        rows: Sequence[Any] = [b"small", bytes(300_001), b"small"]

    reader = Journaled(Numbered(TooLarge), path, "it", afresh=True).reader(None)
    assert read(reader, 1) == [b"small"]
    with pytest.raises(sw.SourceError, match=r"cannot store event 1 .* takes 300,0.. bytes"):
        read(reader)
    reader.close()
