"""A journaled source by itself: what another reader gets of it, also after a crash, and what is removed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import sluiceway as sw
from journal_readers import CRASHING, MANY, PATIENCE_S, Session, _Reads, path, read, stored
from sluiceway.engine.sources.journal_file import JournalFile, StoredBatch, create_journal
from sluiceway.engine.sources.journaled import Journaled

__all__ = ["path"]


# -- what another reader gets -----------------------------------------------------------------------------------


def test_the_next_reader_gives_what_is_stored_and_then_what_is_new(path: Path) -> None:
    gate = threading.Event()
    opened = 0

    def endless() -> Iterator[tuple[int, int]]:
        nonlocal opened
        opened += 1
        yield from ((opened, n) for n in range(250))
        gate.wait(PATIENCE_S)

    first = Journaled(endless, path, "it", afresh=True).reader(None)
    assert read(first, 250) == [(1, n) for n in range(250)]
    assert first.position() == 250
    first.close()
    again = Journaled(endless, path, "it").reader(60)
    assert opened == 1
    assert read(again, 190 + 250) == [*((1, n) for n in range(60, 250)), *((2, n) for n in range(250))]
    assert again.position() == 500
    gate.set()
    again.close()


def test_the_first_events_come_again_for_the_beginning(path: Path) -> None:
    first = Journaled(Session(7), path, "it", afresh=True).reader(None)
    assert first.read(3, MANY) == [(1, 0), (1, 1), (1, 2)]
    first.close()
    with closing(Journaled(Session(7), path, "it").reader(None)) as again:
        assert read(again) == [(1, n) for n in range(7)]


def test_a_source_that_has_ended_is_not_opened_again(path: Path) -> None:
    source = Session(5)
    first = Journaled(source, path, "it", afresh=True).reader(None)
    read(first)
    first.close()
    again = Journaled(source, path, "it").reader(3)
    assert read(again) == [(1, 3), (1, 4)]
    assert again.read(1, MANY) is None
    again.close()
    assert source.opened == 1
    assert stored(path) == (0, 5, True)


def test_a_new_run_begins_with_an_empty_journal(path: Path) -> None:
    source = Session(5)
    for opened in (1, 2):
        reader = Journaled(source, path, "it", afresh=True).reader(None)
        assert read(reader) == [(opened, n) for n in range(5)]
        reader.close()


def test_events_are_given_as_a_resumed_run_gets_them(path: Path) -> None:
    shared = [1]
    events = [(1, (2,)), {3}, bytearray(b"4"), 5 << 70, {"six": shared}, {"seven": shared}, None, range(8), b"", "nine"]
    first = Journaled(lambda: iter(events), path, "it", afresh=True).reader(None)
    given = read(first)
    first.close()
    shared.append(2)
    with closing(Journaled(list, path, "it").reader(None)) as reader:
        again = read(reader)
    expected = [*events[:4], {"six": [1]}, {"seven": [1]}, *events[6:]]
    assert given == again == expected
    assert list(map(type, given)) == list(map(type, again)) == list(map(type, events))


def test_it_goes_to_another_process(path: Path) -> None:
    made = cloudpickle.loads(cloudpickle.dumps(Journaled(Session(3), path, "it", afresh=True)))
    assert (made.replay, made.acknowledges, made.in_caller, made.size_hint()) == ("exact", True, False, None)
    reader = made.reader(None)
    assert len(read(reader)) == 3
    reader.close()


def test_what_the_source_says_of_itself_is_passed_on(path: Path) -> None:
    class Mine:
        in_caller = True

        def size_hint(self) -> int:
            return 17

        def reader(self, position: object) -> Any:
            return Reader()

    class Reader(_Reads):
        idled = 0

        def progress(self) -> float:
            return 0.5

        def idle(self) -> None:
            Reader.idled += 1

    made = Journaled(Mine(), path, "it", afresh=True)
    assert (made.in_caller, made.size_hint()) == (True, 17)
    reader = made.reader(None)
    assert reader.progress() is None
    reader.idle()
    reader.read(1, MANY)
    reader.idle()
    assert (reader.progress(), Reader.idled) == (0.5, 1)
    reader.close()


# -- crashes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "reads"), [(1, 3), (50, 40), (100_000, 6)])
def test_all_that_was_given_is_stored_when_its_process_is_killed(path: Path, limit: int, reads: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", CRASHING, str(path), str(limit)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    given = 0
    for _ in range(reads):
        size, position = map(int, process.stdout.readline().split())
        given += size
        assert given == position
    process.kill()
    rest = process.stdout.read().splitlines()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    given = max([given, *(int(words[1]) for words in map(str.split, rest) if len(words) == 2)])  # the last may be cut
    reader = Journaled(Session(0), path, "it").reader(None)
    events = read(reader)
    reader.close()
    assert len(events) >= given
    assert events == list(range(len(events)))


def test_a_transaction_that_was_not_ended_leaves_nothing(path: Path) -> None:
    create_journal(path)
    file = JournalFile(path, "it")
    file.append([StoredBatch(3, 0, b"first")])
    file._db.execute("BEGIN IMMEDIATE")
    file._db.execute("INSERT INTO events VALUES (3, 2, 0, x'00', x'00')")
    copy = path.with_name("copy")
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    file._db.execute("ROLLBACK")
    file.close()
    assert stored(copy) == (0, 3, False)


def test_of_a_torn_transaction_nothing_is_there(path: Path) -> None:
    """The end of what was written is cut off, as by a disk that lost its power in the middle of a write."""
    create_journal(path)
    file = JournalFile(path, "it")
    ends = []
    for n in range(4):
        file.append([StoredBatch(1, 0, bytes(10_000)), StoredBatch(1, 0, b"%d" % n)])
        ends.append(os.path.getsize(f"{path}-wal"))
    counts = set()
    for at, size in enumerate(range(ends[0], ends[-1], 1500)):
        copy = path.with_name(f"copy{at}")
        shutil.copy(path, copy)
        shutil.copy(f"{path}-wal", f"{copy}-wal")
        os.truncate(f"{copy}-wal", size)
        _, count, _ = stored(copy)
        assert count == 2 * sum(end <= size for end in ends)
        counts.add(count)
    file.close()
    assert counts == {2, 4, 6}


def test_a_reader_waits_for_a_process_that_is_about_to_end(path: Path) -> None:
    script = CRASHING.replace("while True:", "while sys.stdin.readline():")
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path), "10"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    process.stdout.readline()
    threading.Timer(0.3, process.kill).start()
    reader = Journaled(Session(0), path, "it").reader(None)  # would raise "another process uses it"
    assert process.wait() == -signal.SIGKILL
    process.stdin.close()
    process.stdout.close()
    assert reader.read(1, MANY) == [0]
    reader.close()


# -- what is committed ------------------------------------------------------------------------------------------


def test_what_is_committed_is_removed(path: Path) -> None:
    create_journal(path)
    file = JournalFile(path, "it")
    for _ in range(4):
        file.append([StoredBatch(10, 0, b"ten")])
    for position, first in ((0, 0), (9, 0), (10, 10), (15, 10), (29, 20), (12, 20), (40, 40)):
        file.forget(position)
        assert file.first == first
    assert file._db.execute("SELECT count(*) FROM events").fetchone() == (0,)
    file.append([StoredBatch(1, 0, b"one")])
    file.close()
    assert stored(path) == (40, 41, False)


def test_an_acknowledged_event_does_not_come_again(path: Path) -> None:
    source = Session(500)
    reader = Journaled(source, path, "it", afresh=True).reader(None)
    read(reader)
    reader.acknowledge(300)
    reader.close()
    first, count, ended = stored(path)
    assert (count, ended) == (500, True)
    assert first <= 300
    again = Journaled(source, path, "it").reader(300)
    assert read(again) == [(1, n) for n in range(300, 500)]
    again.acknowledge(500)
    again.close()
    assert stored(path) == (500, 500, True)
    with closing(Journaled(source, path, "it").reader(500)) as at_the_end:
        assert read(at_the_end) == []
    assert source.opened == 1


@pytest.mark.parametrize("position", [2, 11, "5", (5,)])
def test_a_position_that_is_not_in_the_journal_is_refused(path: Path, position: Any) -> None:
    create_journal(path)
    file = JournalFile(path, "it")
    file.append([StoredBatch(5, 0, b"a"), StoredBatch(5, 0, b"b")])
    file.forget(5)
    file.close()
    with pytest.raises(sw.CheckpointError, match=r"do not belong together"):
        Journaled(Session(1), path, "it").reader(position)
    assert stored(path) == (5, 10, False)  # and it is free again
