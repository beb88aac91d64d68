"""A journaled source by itself: what is stored when, what another reader gets of it, and what the source is told."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import sluiceway as sw
from sluiceway.engine.sources import journal_file as journalfile
from sluiceway.engine.sources import journaled as journal
from sluiceway.engine.sources.journal_file import JournalFile, StoredBatch, create_journal, journal_path, remove_journal
from sluiceway.engine.sources.journaled import Journaled
from sluiceway.engine.sources.read_ahead import FIRST

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


# -- the file ---------------------------------------------------------------------------------------------------


def test_a_journal_is_for_its_owner_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        reader = Journaled(Session(5), path, "it", afresh=True).reader(None)
        read(reader)
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    reader.close()
    assert modes == {path.name: 0o600, f"{path.name}-wal": 0o600}
    path.chmod(0o644)  # as a copy may be
    JournalFile(path, "it").close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o660)
    for afresh in (False, True):
        with pytest.raises(sw.CheckpointError, match="chmod 600"):
            Journaled(Session(5), path, "it", afresh=afresh)


def test_what_lies_beside_a_journal_must_be_its_owners_too(path: Path, tmp_path: Path) -> None:
    create_journal(path)
    (tmp_path / "elsewhere").write_bytes(b"")
    path.with_name(f"{path.name}-wal").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(sw.CheckpointError, match="-wal as the journal of a source: others"):
        Journaled(Session(5), path, "it")


def test_what_is_no_journal_is_refused_and_left_alone(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"nothing that SQLite knows" * 100)
    path.chmod(0o600)
    for make in (
        partial(create_journal, path),
        lambda: Journaled(Session(1), path, "it").reader(None),
        partial(remove_journal, path),
    ):
        with pytest.raises(sw.CheckpointError, match="damaged or no journal"):
            make()
    assert path.read_bytes().startswith(b"nothing")
    path.unlink()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE mine (x)")
    path.chmod(0o600)
    for make in (
        partial(create_journal, path),
        lambda: Journaled(Session(1), path, "it").reader(None),
        partial(remove_journal, path),
    ):
        with pytest.raises(sw.CheckpointError, match="something else"):
            make()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("SELECT x FROM mine")
    path.unlink()
    path.mkdir()
    with pytest.raises(sw.CheckpointError, match="not a plain file"):
        create_journal(path)
    with pytest.raises(sw.CheckpointError, match="No such file"):
        create_journal(tmp_path / "nowhere" / "run.db.0.events")


def test_a_journal_that_is_missing_is_said_to_be(path: Path) -> None:
    with pytest.raises(sw.CheckpointError, match="is missing"):
        Journaled(Session(1), path, "it")
    remove_journal(path)  # there is nothing to remove
    made = Journaled(Session(1), path, "it", afresh=True)
    path.unlink()
    with pytest.raises(sw.CheckpointError, match="is missing"):
        made.reader(None)


def test_another_form_is_refused(path: Path) -> None:
    create_journal(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(sw.CheckpointError, match="another version"):
        Journaled(Session(1), path, "it").reader(None)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET body = x'93010203' WHERE first = 5",
        "UPDATE events SET first = 4 WHERE first = 5",
        "DELETE FROM events WHERE first = 5",
        "DELETE FROM events WHERE first = 0",
        "DELETE FROM state",
        "DROP TABLE events",
    ],
)
def test_damage_is_found(path: Path, statement: str) -> None:
    create_journal(path)
    file = JournalFile(path, "it")
    for _ in range(3):
        file.append([StoredBatch(5, 0, b"five")])
    file.close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)
    with pytest.raises(sw.CheckpointError, match="damaged"), closing(JournalFile(path, "it")) as damaged:
        damaged.load(7)


def test_pages_that_do_not_fit_are_found(path: Path) -> None:
    reader = Journaled(Session(5_000), path, "it", afresh=True).reader(None)
    read(reader)
    reader.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(sw.CheckpointError, match="damaged"):
        Journaled(Session(1), path, "it").reader(None)


def test_two_cannot_use_one_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journalfile, "LOCK_S", 0.05)
    first = Journaled(Session(1), path, "it", afresh=True).reader(None)
    for make in (
        partial(create_journal, path),
        lambda: Journaled(Session(1), path, "it").reader(None),
        partial(remove_journal, path),
    ):
        with pytest.raises(sw.CheckpointError, match="another process uses it"):
            make()
    assert read(first) == [(1, 0)]
    first.close()


def test_a_finished_run_leaves_no_journal(path: Path) -> None:
    reader = Journaled(Session(5), path, "it", afresh=True).reader(None)
    read(reader, 5)
    reader.close()
    remove_journal(path)
    path.touch(0o600)  # as if its making had been cut short
    remove_journal(path)
    assert list(path.parent.iterdir()) == []


def test_a_full_disk_is_a_source_error_behind_what_was_stored(path: Path) -> None:
    gate = threading.Event()

    def growing() -> Iterator[bytes]:
        yield b"small"
        gate.wait(PATIENCE_S)
        yield bytes(1 << 20)

    reader = Journaled(growing, path, "it", afresh=True).reader(None)
    reader._file._db.execute("PRAGMA max_page_count=50")
    assert read(reader, 1) == [b"small"]
    gate.set()
    with pytest.raises(sw.SourceError, match=r"cannot store 1 events of source 'it' in .*full"):
        read(reader)
    reader.close()
    assert stored(path) == (0, 1, False)


def test_a_journal_is_beside_the_file_of_its_checkpoints(tmp_path: Path) -> None:
    assert journal_path(tmp_path / "run.db", 2) == tmp_path / "run.db.2.events"
    assert journal_path("run.db", 0) == Path("run.db.0.events")
    for other in (object(), "postgresql://host/database"):
        with pytest.raises(sw.GraphError, match="pass the path of a file"):
            journal_path(other, 0)


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

    reader = Journaled(_Source(Blocks), path, "it", afresh=True).reader(None)
    assert read(reader, 5) == whole
    assert reader._file._db.execute("SELECT count(*), max(count) FROM events").fetchone() == (4, 2)
    reader.close()

    class TooLarge(_Reads):
        rows: Sequence[Any] = [b"small", bytes(300_001), b"small"]

    reader = Journaled(_Source(TooLarge), path, "it", afresh=True).reader(None)
    assert read(reader, 1) == [b"small"]
    with pytest.raises(sw.SourceError, match=r"cannot store event 1 .* takes 300,0.. bytes"):
        read(reader)
    reader.close()


# -- what the source is told ------------------------------------------------------------------------------------


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


class _Source:
    def __init__(self, reader: Callable[[], Any], acknowledges: bool = False) -> None:
        self.make, self.acknowledges = reader, acknowledges

    def reader(self, position: object) -> Any:
        assert position is None
        self.opened = self.make()
        return self.opened


class _Journals(_Reads):
    def journaled(self, position: int) -> None:
        self.said.append(("journaled", position))

    def acknowledge(self, position: int) -> None:
        self.said.append(("acknowledge", position))


class _Acknowledges(_Reads):
    acknowledge = _Journals.acknowledge


@pytest.mark.parametrize(
    ("make", "acknowledges", "said"),
    [
        (_Journals, True, [("journaled", 1010)]),
        (_Journals, False, [("journaled", 1010)]),
        (_Acknowledges, True, [("acknowledge", 1010)]),
        (_Acknowledges, False, []),
        (_Reads, False, []),
    ],
)
def test_a_source_hears_when_its_events_are_stored(path: Path, make: Any, acknowledges: bool, said: list[Any]) -> None:
    source = _Source(make, acknowledges)
    reader = Journaled(source, path, "it", afresh=True).reader(None)
    count = []
    told = getattr(make, "journaled", None) or getattr(make, "acknowledge", None)

    class Watching(make):  # type: ignore[misc]
        def journaled(self, position: int) -> None:
            count.append(reader._file.count)
            told(self, position)  # type: ignore[misc]

    if make is _Journals:
        source.make = Watching
    assert reader.read(3, MANY) == [0, 1, 2]
    assert source.opened.said == said
    assert reader.position() == 3
    reader.acknowledge(3)  # what is committed is the journal's affair alone
    assert read(reader, 7) == list(range(3, 10))
    assert reader.read(1, MANY) == []
    reader.close()
    assert source.opened.said == [*said, "closed"]
    assert count == ([10] if make is _Journals else [])


def test_a_source_that_says_its_end_is_not_opened_again(path: Path) -> None:
    class Ends(_Reads):
        def read(self, limit: int, max_bytes: int) -> Any:
            return super().read(limit, max_bytes) or None

    source = _Source(Ends)
    reader = Journaled(source, path, "it", afresh=True).reader(None)
    assert read(reader) == list(range(10))
    reader.close()
    reader = Journaled(_Source(lambda: pytest.fail("opened again")), path, "it").reader(4)
    assert read(reader) == list(range(4, 10))
    reader.close()


def test_nothing_is_told_of_events_that_could_not_be_stored(path: Path) -> None:
    class Bad(_Journals):
        rows: Sequence[Any] = [1, threading.Lock()]

    source = _Source(Bad, True)
    reader = Journaled(source, path, "it", afresh=True).reader(None)
    assert read(reader, 1) == [1]
    with pytest.raises(sw.SourceError):
        read(reader)
    reader.close()
    assert source.opened.said == ["closed"]


# -- graphs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", [[1], range(3), {1}, sw.lines("a.log"), sw.every(1.0)], ids=repr)
def test_what_can_be_read_again_needs_no_journal(subject: Any) -> None:
    with pytest.raises(sw.GraphError, match="can be read again; leave journal out"):
        sw.Graph("g").source(subject, journal=True)


def test_a_graph_knows_what_is_journaled() -> None:
    graph = sw.Graph("g")
    with pytest.raises(sw.GraphError, match="journal='yes'; use True or False"):
        graph.source(Session(1), journal="yes")  # type: ignore[arg-type]
    plain = graph.source(Session(1), name="plain")
    iterator = graph.source(iter([1]), name="iterator", journal=True)
    stdin = graph.source(sw.lines("-"), name="stdin", journal=True)
    hook = graph.source(sw.webhook(), name="hook", journal=True)
    graph.sequence(plain, iterator, stdin, hook).sink(print)
    assert [node.journal for node in graph.nodes[:4]] == [False, True, True, True]
    table = {row[1]: row[3] for row in sw.compile(graph, workers=1).rows()}
    assert "journaled" not in table["plain"]
    assert all(table[name].endswith("; with checkpoint= journaled") for name in ("iterator", "stdin", "hook"))


def test_without_checkpoints_a_journal_has_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    graph, results = sw.Graph("g"), []  # type: tuple[sw.Graph, list[Any]]
    graph.source(Session(3), journal=True).sink(results.append)
    sw.run(graph, runner="inline")
    assert results == [(1, 0), (1, 1), (1, 2)]
    assert list(tmp_path.iterdir()) == []
