"""What a store keeps and lets go of, the same in a file and in PostgreSQL: here in a file."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import penstock as ps
import pytest
from penstock.engine import store as stores
from penstock.engine.filestore import file_store, look_into_file
from penstock.engine.store import Saved, TableStore
from penstock.nodes.orderlog import Read, Run

IDENTITY: dict[str, Any] = {"graph": "g", "runner": "inline", "nodes": [["a", "source", []]], "states": []}


def _saved(n: int, starts: tuple[int, ...] = (), **words: Any) -> Saved:
    return Saved(n, ((("position", n), 0, None),), 0, {}, {"sink": n}, starts=starts, **words)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


@pytest.fixture
def store(path: Path) -> Iterator[TableStore]:
    store = file_store(path)
    store.open(IDENTITY, "auto")
    yield store
    store.close()


def test_the_last_checkpoint_is_given(store: TableStore) -> None:
    store.write(_saved(3))
    store.write(_saved(5, finished=True))
    store.close()
    assert store.open(IDENTITY, "required") == _saved(5, finished=True)


def test_the_order_log_is_given_in_the_order_it_was_written(store: TableStore) -> None:
    runs = [Run(0, 0, 4), Run(4, 1, 2), Run(6, 0, 1)]
    reads = [Read(1, 0, 2, {"a": b"x"}), Read(0, 0, 5, None), Read(1, 2, 7, ("key", 3))]
    store.log(runs[:2], reads[:1])
    store.log([], reads[1:])
    store.log([], [])
    store.log(runs[2:], [])
    assert store.logged() == (runs, reads)
    store.write(_saved(0))
    store.close()
    assert store.open(IDENTITY, "auto") == _saved(0)
    assert store.logged() == (runs, reads)


def test_a_checkpoint_lets_go_of_what_is_wholly_behind_it(store: TableStore) -> None:
    runs = [Run(0, 0, 4), Run(4, 1, 2), Run(6, 0, 1)]
    reads = [Read(0, 0, 5, "a"), Read(1, 0, 2, "b"), Read(1, 2, 7, "c"), Read(2, 0, 1, "d")]
    store.log(runs, reads)
    store.write(_saved(5))
    assert store.logged() == (runs[1:], reads)
    store.write(_saved(6, starts=(4, 2)))
    assert store.logged() == (runs[2:], [reads[0], *reads[2:]])
    store.write(_saved(7, starts=(5, 9)))
    assert store.logged() == ([], [reads[3]])


def test_beginning_anew_forgets_everything(store: TableStore, path: Path) -> None:
    store.log([Run(0, 0, 4)], [Read(0, 0, 4, None)])
    store.write(_saved(2))
    store.close()
    assert store.open(IDENTITY, "never") is None
    assert store.logged() == ([], [])
    assert "no checkpoint yet" in look_into_file(path)


def test_so_many_checkpoints_are_remembered(store: TableStore, path: Path) -> None:
    for n in range(stores.HISTORY + 20):
        store.write(_saved(n))
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT n FROM history ORDER BY id").fetchall()
    db.close()
    assert [n for (n,) in rows] == list(range(20, stores.HISTORY + 20))


def _change(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute(statement)
    db.close()


def test_a_changed_body_is_not_unpacked(store: TableStore, path: Path) -> None:
    store.write(_saved(2))
    store.log([Run(0, 0, 4)], [Read(0, 0, 4, None)])
    store.close()
    _change(path, "UPDATE log SET size = 5 WHERE kind = 'run'")
    store.open(IDENTITY, "auto")
    with pytest.raises(ps.CheckpointError, match="its order log is not what was written"):
        store.logged()
    store.close()
    _change(path, "UPDATE checkpoint SET body = zeroblob(40)")
    with pytest.raises(ps.CheckpointError, match="its checkpoint is not what was written"):
        store.open(IDENTITY, "auto")


def test_a_store_that_is_open_is_not_opened_again(store: TableStore) -> None:
    with pytest.raises(ps.CheckpointError, match="another run uses it"):
        store.open(IDENTITY, "auto")
    store.write(_saved(1))  # the first use of it has not suffered


def test_tables_that_are_missing_are_damage_and_a_full_disk_is_not(store: TableStore, path: Path) -> None:
    database = store._backing._db  # type: ignore[attr-defined]
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(ps.CheckpointError, match=r"cannot keep checkpoints in .*run\.db: database or disk is full"):
        store.write(Saved(1, (), 0, {"a": bytes(100_000)}, {}))
    database.execute("PRAGMA max_page_count=100000")
    store.write(_saved(1))
    database.execute("DROP TABLE log")
    with pytest.raises(ps.CheckpointError, match="damaged or no store"):
        store.logged()


def test_an_older_form_is_refused_and_replaced_where_that_is_asked_for(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE run (identity TEXT NOT NULL, began TEXT NOT NULL)")
        db.execute("PRAGMA application_id=0x70656E73")
        db.execute("PRAGMA user_version=1")
    db.close()
    path.chmod(0o600)
    store = file_store(path)
    with pytest.raises(ps.CheckpointError, match="form 1, this one has 2"):
        store.open(IDENTITY, "auto")
    with pytest.raises(ps.CheckpointError, match="form 1, this one has 2"):
        look_into_file(path)
    assert store.open(IDENTITY, "never") is None
    store.write(_saved(1))
    store.close()
    assert store.open(IDENTITY, "auto") == _saved(1)
    store.close()


def test_every_file_of_a_store_is_its_owners(store: TableStore, path: Path) -> None:
    store.write(_saved(1))
    found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert found == {"run.db": 0o600, "run.db-wal": 0o600, "run.db-shm": 0o600}
    store.close()
    assert [file.name for file in path.parent.iterdir()] == ["run.db"]


@pytest.mark.parametrize("suffix", ["-wal", "-journal", "-shm"])
def test_what_others_may_have_put_beside_it_is_not_read(path: Path, suffix: str) -> None:
    beside = Path(f"{path}{suffix}")
    beside.touch()
    beside.chmod(0o666)
    with pytest.raises(ps.CheckpointError, match=f"run.db{suffix} .*others may have written it"):
        file_store(path).open(IDENTITY, "auto")
    beside.unlink()
    beside.symlink_to("elsewhere")
    with pytest.raises(ps.CheckpointError, match="others may have written it"):
        file_store(path).open(IDENTITY, "auto")


def test_looking_inside_makes_no_file_and_sees_what_is_not_in_the_main_file_yet(store: TableStore, path: Path) -> None:
    store.write(_saved(7))
    assert "everything below number 7" in look_into_file(path)
    store.close()
    before = sorted(os.listdir(path.parent)), path.stat().st_mtime_ns
    assert "everything below number 7" in look_into_file(path)
    assert (sorted(os.listdir(path.parent)), path.stat().st_mtime_ns) == before
