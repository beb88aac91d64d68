"""A store that does not match its sinks, with real databases: refused before a row is doubled, and the right store goes on."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
import sql_checks as checks
from postgres_server import PostgresServer, postgres
from redis_server import RedisServer

__all__ = ["postgres"]

EVENTS = 20
COLUMNS = {"n": int}


class Target:
    """A sink of one kind, and what stands there."""

    def __init__(self, sink: Callable[[], Any], rows: Callable[[], list[int]]) -> None:
        self.sink, self.rows = sink, rows


def sql_target(url: str, **words: Any) -> Target:
    def rows() -> list[int]:
        try:
            return sorted(n for (n,) in checks.rows_of(url, "SELECT n FROM out"))
        except checks.sa.exc.DatabaseError:
            return []  # there is no table yet

    return Target(lambda: sw.sql_sink(url, table="out", create=COLUMNS, **words), rows)


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def target(
    request: pytest.FixtureRequest, tmp_path: Path, postgres: PostgresServer, server: RedisServer, db: Any
) -> Iterator[Target]:
    if request.param == "redis":
        yield Target(
            lambda: sw.redis_sink("out", url=server.url), lambda: sorted(int(row[b"n"]) for _, row in db.xrange("out"))
        )
    elif request.param == "postgres":
        yield sql_target(postgres.database())
    else:
        yield sql_target(f"sqlite:///{tmp_path / 'rows.db'}")


def run(folder: Path, target: Target, *, fail_at: int = EVENTS, **words: Any) -> sw.RunReport:
    """Run a graph over numbers into the target, one checkpoint for each, until it fails."""

    def work(n: int) -> dict[str, int]:
        if n == fail_at:
            raise RuntimeError("enough")
        return {"n": n}

    graph = sw.Graph("matched")
    graph.source(range(EVENTS)).map(work).sink(target.sink(), name="table")
    options = {"runner": "inline", "checkpoint": folder / "run.db", "checkpoint_interval_s": 1e-9, **words}
    return sw.run(graph, **options)


def fail(folder: Path, target: Target, at: int, **words: Any) -> None:
    with pytest.raises(sw.HandlerError, match="enough"):
        run(folder, target, fail_at=at, **words)


def refused(folder: Path, target: Target, said: str, **words: Any) -> None:
    before = target.rows()
    for _ in range(2):  # a refused run changes nothing, so it is refused again
        with pytest.raises(sw.CheckpointError, match=said):
            run(folder, target, **words)
        assert target.rows() == before


def lost(folder: Path) -> None:
    for path in folder.glob("run.db*"):
        path.unlink()


def emptied(folder: Path) -> None:
    lost(folder)
    (folder / "run.db").touch(0o600)


def dangling(folder: Path) -> None:
    lost(folder)
    (folder / "run.db").symlink_to(folder / "elsewhere.db")


def of_another_run(folder: Path) -> None:
    lost(folder)
    with pytest.raises(sw.HandlerError):
        run(folder, Target(lambda: list[Any]().append, list), fail_at=5)


def forgot(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "run.db")) as db, db:
        db.execute("DELETE FROM checkpoint")


@pytest.mark.parametrize("done", [lost, emptied, dangling, of_another_run, forgot])
def test_a_store_that_knows_nothing_is_refused(tmp_path: Path, target: Target, done: Callable[[Path], None]) -> None:
    fail(tmp_path, target, 12)
    held = len(target.rows())
    assert held > 0
    done(tmp_path)
    refused(tmp_path, target, rf"'table': it holds the numbers up to {held - 1} of a run .* nothing of that run.*resume='never'")
    run(tmp_path, target, resume="never")
    assert target.rows() == sorted([*range(held), *range(EVENTS)])
    lost(tmp_path)
    run(tmp_path, target)  # that one had finished: nothing stands in the way of the next
    assert len(target.rows()) == held + 2 * EVENTS


def test_an_older_copy_is_refused_and_the_newest_goes_on(tmp_path: Path, target: Target) -> None:
    fail(tmp_path, target, 5)
    known = len(target.rows()) - 1
    shutil.copy(tmp_path / "run.db", tmp_path / "copy.db")
    fail(tmp_path, target, 12)
    shutil.copy(tmp_path / "run.db", tmp_path / "newest.db")
    shutil.copy(tmp_path / "copy.db", tmp_path / "run.db")
    refused(tmp_path, target, rf"up to {len(target.rows()) - 1} of .* that run up to number {known} only")
    shutil.copy(tmp_path / "newest.db", tmp_path / "run.db")
    run(tmp_path, target)
    assert target.rows() == list(range(EVENTS))
    shutil.copy(tmp_path / "copy.db", tmp_path / "run.db")
    refused(tmp_path, target, rf"up to 19 of .* that run up to number {known} only")


def test_a_store_that_was_moved_goes_on_and_is_known_at_its_new_place(tmp_path: Path, target: Target) -> None:
    fail(tmp_path, target, 5)
    (tmp_path / "run.db").rename(tmp_path / "moved.db")
    fail(tmp_path, target, 12, checkpoint=tmp_path / "moved.db")
    (tmp_path / "moved.db").rename(tmp_path / "run.db")
    refused(tmp_path, target, r"it holds the numbers up to .* nothing of that run", checkpoint=tmp_path / "moved.db")
    run(tmp_path, target)
    assert target.rows() == list(range(EVENTS))


def test_a_store_elsewhere_begins_another_run(tmp_path: Path, target: Target) -> None:
    fail(tmp_path, target, 5)
    before = target.rows()
    run(tmp_path, target, checkpoint=tmp_path / "other.db")
    assert target.rows() == sorted([*before, *range(EVENTS)])


KILLED = """
import os, signal, sys
import sluiceway as sw

folder, kind, url = sys.argv[1:4]

def work(n):
    if n == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"n": n}

sink = sw.redis_sink("out", url=url) if kind == "redis" else sw.sql_sink(url, table="out", create={"n": int})
graph = sw.Graph("matched")
graph.source(range(20)).map(work).sink(sink, name="table")
sw.run(graph, runner="inline", checkpoint=folder + "/run.db", checkpoint_interval_s=1e-9)
"""


def test_a_store_that_lost_its_wal_is_refused(tmp_path: Path, target: Target) -> None:
    sink = target.sink()
    kind, url = ("redis", sink.url) if hasattr(sink, "stream") else ("sql", sink._url)
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    killed = subprocess.run([sys.executable, str(script), str(tmp_path), kind, url], check=False, timeout=100)
    assert killed.returncode == -signal.SIGKILL
    held = target.rows()
    assert held
    kept = {path: path.read_bytes() for path in tmp_path.glob("run.db*")}
    (tmp_path / "run.db-wal").unlink()
    refused(tmp_path, target, rf"up to {held[-1]} of ")
    for path, body in kept.items():
        path.write_bytes(body)
    run(tmp_path, target)
    assert target.rows() == list(range(EVENTS))


def arrive(folder: Path, target: Target, *, fail_at: int = 200) -> None:
    """Run two sources in the order in which they arrive, in processes, until the second one has come to `fail_at`."""

    def work(n: int) -> dict[str, int]:
        if n == fail_at:
            raise RuntimeError("enough")
        return {"n": n}

    graph = sw.Graph("arriving")
    even, odd = (graph.source(range(first, 200, 2)) for first in (0, 1))
    graph.sequence(even, odd, order="arrival").map(work).sink(target.sink(), name="table")
    sw.run(graph, workers=1, checkpoint=folder / "run.db", checkpoint_interval_s=0.001)


def test_an_older_copy_of_a_run_in_arrival_order_is_refused(tmp_path: Path, target: Target) -> None:
    with pytest.raises(sw.HandlerError):
        arrive(tmp_path, target, fail_at=51)
    shutil.copy(tmp_path / "run.db", tmp_path / "copy.db")
    with pytest.raises(sw.HandlerError):
        arrive(tmp_path, target, fail_at=151)
    shutil.copy(tmp_path / "run.db", tmp_path / "newest.db")
    shutil.copy(tmp_path / "copy.db", tmp_path / "run.db")
    before = target.rows()
    with pytest.raises(sw.CheckpointError, match=r"of that run|that run up to"):
        arrive(tmp_path, target)
    assert target.rows() == before
    shutil.copy(tmp_path / "newest.db", tmp_path / "run.db")
    arrive(tmp_path, target)
    assert target.rows() == list(range(200))


def two_sinks(folder: Path, url: str, fail_at: int = EVENTS) -> None:
    """Run a graph whose two branches write to one table."""

    def work(n: int) -> int:
        if n == fail_at:
            raise RuntimeError("enough")
        return n

    graph = sw.Graph("two")
    numbers = graph.source(range(EVENTS)).map(work)
    for name, add in (("low", 0), ("high", 1000)):
        numbers.map(lambda n, add=add: {"n": n + add}).sink(sw.sql_sink(url, table="out", create=COLUMNS), name=name)
    sw.run(graph, runner="inline", checkpoint=folder / "run.db", checkpoint_interval_s=1e-9)


def test_two_sinks_of_one_table(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    with pytest.raises(sw.HandlerError):
        two_sinks(tmp_path, url, 12)
    (tmp_path / "run.db").rename(tmp_path / "kept.db")
    with pytest.raises(sw.CheckpointError, match=r"up to \d+ of "):
        two_sinks(tmp_path, url)
    (tmp_path / "kept.db").rename(tmp_path / "run.db")
    two_sinks(tmp_path, url)
    assert sql_target(url).rows() == [*range(EVENTS), *range(1000, 1000 + EVENTS)]


def test_a_store_in_postgres_that_lost_its_rows_is_refused(tmp_path: Path, postgres: PostgresServer) -> None:
    url = postgres.database()
    target = sql_target(postgres.database())
    fail(tmp_path, target, 12, checkpoint=url)
    checks.execute(url, "DELETE FROM sluiceway_checkpoint")
    refused(tmp_path, target, r"up to \d+ of a run .* kept in postgresql://.* nothing of that run", checkpoint=url)


def test_a_database_older_than_the_store_is_refused(tmp_path: Path) -> None:
    target = sql_target(f"sqlite:///{tmp_path / 'rows.db'}")
    fail(tmp_path, target, 5)
    shutil.copy(tmp_path / "rows.db", tmp_path / "copy.db")
    fail(tmp_path, target, 12)
    shutil.copy(tmp_path / "copy.db", tmp_path / "rows.db")
    refused(tmp_path, target, r"holds the run up to number \d+, but the checkpoint says \d+")
    (tmp_path / "rows.db").unlink()
    refused(tmp_path, target, "knows nothing of the run")


def test_a_redis_that_lost_what_it_held_is_refused(tmp_path: Path, server: RedisServer, db: Any) -> None:
    target = Target(lambda: sw.redis_sink("out", url=server.url), lambda: sorted(int(row[b"n"]) for _, row in db.xrange("out")))
    fail(tmp_path, target, 5)
    db.flushdb()
    refused(tmp_path, target, "lost it")
