"""The file of a journal: who may read it, what is refused and left alone, and what damage is found."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import sluiceway as sw
from journal_readers import PATIENCE_S, Session, path, read, stored
from sluiceway.engine.sources import journal_file as journalfile
from sluiceway.engine.sources.journal_file import JournalFile, StoredBatch, create_journal, journal_path, remove_journal
from sluiceway.engine.sources.journaled import Journaled

__all__ = ["path"]


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
