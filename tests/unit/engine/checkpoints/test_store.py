"""The store of checkpoints in a file: what it keeps, what it refuses, and whose its files are."""

from __future__ import annotations

import os
import pickle
import resource
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from sluiceway.engine.checkpoints import store as stores
from sluiceway.engine.checkpoints.sqlite_store import describe_file, file_store
from sluiceway.engine.checkpoints.store import Saved, TableStore
from sluiceway.nodes.ordering.order_log import Read, Run
from store_checks import CHECKS, IDENTITY, saved_at


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


@pytest.fixture
def store(path: Path) -> Iterator[TableStore]:
    store = file_store(path)
    store.open(IDENTITY, "auto")
    yield store
    store.close()


@pytest.mark.parametrize("check", CHECKS)
def test_in_a_file(path: Path, check: Any) -> None:
    store = file_store(path)
    check(store)
    store.close()


def _change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


def test_a_changed_body_is_not_unpacked(store: TableStore, path: Path) -> None:
    store.write(saved_at(2))
    store.log([Run(0, 0, 4)], [Read(0, 0, 4, None)])
    store.close()
    _change(path, "UPDATE log SET size = 5 WHERE kind = 'run'")
    store.open(IDENTITY, "auto")
    with pytest.raises(sw.CheckpointError, match="its order log is not what was written"):
        store.logged()
    store.close()
    _change(path, "UPDATE checkpoint SET body = zeroblob(40)")
    with pytest.raises(sw.CheckpointError, match="its checkpoint is not what was written"):
        store.open(IDENTITY, "auto")


#: Pickled bytes, and what is said of them: names that cannot be imported here, then what has another form.
_UNREADABLE = [
    pytest.param(b"cno_such_module\nThing\n.", "ModuleNotFoundError: .*names a module or class that", id="no module"),
    pytest.param(b"csluiceway.nodes.events\nMoved\n.", "AttributeError: .*put that back under its old name", id="no class"),
    pytest.param(b"", "EOFError: .*it is damaged", id="nothing"),
    pytest.param(b"no pickle", "UnpicklingError: .*it is damaged", id="no pickle"),
    pytest.param(b"cbuiltins\nint\n(Vx\ntR.", "ValueError: .*it is damaged", id="refused by its class"),
]


def _replace_body(path: Path, body: bytes) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE checkpoint SET body = ?, digest = ?", (body, stores._digest(body)))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        *_UNREADABLE,
        pytest.param(pickle.dumps({"n": 1}), "TypeError", id="other names"),
        pytest.param(pickle.dumps((1, 2)), "TypeError", id="another shape"),
    ],
)
def test_a_body_that_cannot_be_unpacked_is_said_to_be_that(store: TableStore, path: Path, body: bytes, said: str) -> None:
    store.write(saved_at(2))
    store.close()
    _replace_body(path, body)
    with pytest.raises(sw.CheckpointError, match=rf"the checkpoint in .*run\.db cannot be unpacked \({said}"):
        store.open(IDENTITY, "auto")
    assert store.open(IDENTITY, "never") is None


@pytest.mark.parametrize(("extent", "said"), _UNREADABLE)
def test_an_extent_that_cannot_be_unpacked_is_said_to_be_that(
    store: TableStore, path: Path, extent: bytes, said: str
) -> None:
    store.log([], [Read(0, 0, 4, None)])
    with closing(sqlite3.connect(path)) as db, db:
        row = stores._row("read", 0, 0, 4, extent)
        db.execute("UPDATE log SET extent = ?, digest = ?", (extent, row["digest"]))
    with pytest.raises(sw.CheckpointError, match=rf"the order log in .*run\.db cannot be unpacked \({said}"):
        store.logged()


def test_a_store_that_is_open_is_not_opened_again(store: TableStore) -> None:
    with pytest.raises(sw.CheckpointError, match="another run uses it"):
        store.open(IDENTITY, "auto")
    store.write(saved_at(1))  # the first use of it has not suffered


def test_tables_that_are_missing_are_damage_and_a_full_disk_is_not(store: TableStore, path: Path) -> None:
    database = store._backing._db  # type: ignore[attr-defined]
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(sw.CheckpointError, match=r"cannot keep checkpoints in .*run\.db: database or disk is full"):
        store.write(Saved(1, (), 0, {"a": bytes(100_000)}, {}))
    database.execute("PRAGMA max_page_count=100000")
    store.write(saved_at(1))
    database.execute("DROP TABLE log")
    with pytest.raises(sw.CheckpointError, match="damaged or no store"):
        store.logged()


def test_a_disk_that_is_full_when_a_store_is_opened_is_no_damage(path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(sw.CheckpointError, match=r"cannot keep checkpoints in .*run\.db: (disk I/O|database or disk)"):
            file_store(path).open(IDENTITY, "auto")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    store = file_store(path)
    assert store.open(IDENTITY, "auto") is None
    store.close()


def test_a_file_that_others_can_read_is_closed_to_them(path: Path) -> None:
    path.touch(0o644)
    for _ in range(2):
        store = file_store(path)
        store.open(IDENTITY, "auto")
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
        store.close()
        path.chmod(0o644)  # as a copy may be


@pytest.mark.parametrize("damage", ["CAST(x'7b850a7d' AS TEXT)", "x'7b850a7d'", "'{\"graph'", "'3'"])
def test_a_description_of_the_run_that_cannot_be_read_is_damage(store: TableStore, path: Path, damage: str) -> None:
    store.write(saved_at(1))
    store.close()
    _change(path, f"UPDATE run SET identity = {damage}")
    with pytest.raises(sw.CheckpointError, match="damaged"):
        store.open(IDENTITY, "auto")
    with pytest.raises(sw.CheckpointError, match="damaged"):
        describe_file(path)


@pytest.mark.parametrize("form", [1, 2])
def test_an_older_form_is_refused_and_replaced_where_that_is_asked_for(path: Path, form: int) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE run (identity TEXT NOT NULL, began TEXT NOT NULL)")
        db.execute("PRAGMA application_id=0x736C7573")
        db.execute(f"PRAGMA user_version={form}")
    path.chmod(0o600)
    store = file_store(path)
    said = f"written by another version of sluiceway \\(form {form}, this one has 3\\)"
    with pytest.raises(sw.CheckpointError, match=said):
        store.open(IDENTITY, "auto")
    with pytest.raises(sw.CheckpointError, match=said):
        describe_file(path)
    assert store.open(IDENTITY, "never") is None
    store.write(saved_at(1))
    store.close()
    assert store.open(IDENTITY, "auto") == saved_at(1)
    store.close()


def test_every_file_of_a_store_is_its_owners(store: TableStore, path: Path) -> None:
    store.write(saved_at(1))
    found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert found == {"run.db": 0o600, "run.db-wal": 0o600, "run.db-shm": 0o600}
    store.close()
    assert [file.name for file in path.parent.iterdir()] == ["run.db"]


@pytest.mark.parametrize("suffix", ["-wal", "-journal", "-shm"])
def test_what_others_may_have_put_beside_it_is_not_read(path: Path, suffix: str) -> None:
    beside = Path(f"{path}{suffix}")
    beside.touch()
    beside.chmod(0o666)
    with pytest.raises(sw.CheckpointError, match=f"run.db{suffix} .*others may have written it"):
        file_store(path).open(IDENTITY, "auto")
    beside.unlink()
    beside.symlink_to("elsewhere")
    with pytest.raises(sw.CheckpointError, match="others may have written it"):
        file_store(path).open(IDENTITY, "auto")


def test_looking_inside_makes_no_file_and_sees_what_is_not_in_the_main_file_yet(store: TableStore, path: Path) -> None:
    store.write(saved_at(7))
    assert "everything below number 7" in describe_file(path)
    store.close()
    before = sorted(os.listdir(path.parent)), path.stat().st_mtime_ns
    assert "everything below number 7" in describe_file(path)
    assert (sorted(os.listdir(path.parent)), path.stat().st_mtime_ns) == before
