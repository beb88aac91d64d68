"""Killed and resumed runs whose sinks are databases: every row is there once, in SQLite, PostgreSQL and Redis."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from marks import slow
from postgres_server import PostgresServer, postgres
from redis_server import redis_server

__all__ = ["postgres"]

SCRIPT = '''
import sys, time
import sluiceway as sw

def slow(n):
    time.sleep(0.0008)
    return {"n": n, "square": n * n}

kind, url, store, events = sys.argv[1:5]
graph = sw.Graph("killed")
rows = graph.source(range(int(events))).map(slow)
if kind == "redis":
    rows.sink(sw.redis_sink("rows", url=url))
else:
    rows.sink(sw.sql_sink(url, table="rows", create={"n": int, "square": int, "seq": int, "at": int}, numbers=("seq", "at")))
sw.run(graph, workers=2, checkpoint=store, checkpoint_interval_s=0.05)
'''


def _kill_and_finish(folder: Path, kind: str, url: str, events: int, kills: int) -> int:
    script, chance, killed = folder / "script.py", random.Random(5), 0
    script.write_text(SCRIPT)
    while True:
        command = [sys.executable, str(script), kind, url, str(folder / "run.db"), str(events)]
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)
        try:
            _, errors = process.communicate(timeout=chance.uniform(0.4, 0.8) if killed < kills else 100)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
            continue
        assert process.returncode == 0, errors.decode()
        return killed


def _check(rows: list[Any], events: int) -> None:
    assert rows == [(n, n * n) for n in range(events)]


def _sqlite(folder: Path, events: int, kills: int) -> int:
    killed = _kill_and_finish(folder, "sql", f"sqlite:///{folder / 'rows.db'}", events, kills)
    with closing(sqlite3.connect(folder / "rows.db")) as db, db:
        _check(db.execute("SELECT n, square FROM rows ORDER BY seq").fetchall(), events)
    return killed


def _redis(folder: Path, events: int, kills: int) -> int:
    server_folder = folder / "redis"
    server_folder.mkdir()
    with redis_server(server_folder) as server:
        killed = _kill_and_finish(folder, "redis", server.url, events, kills)
        with server.client() as client:
            _check([(int(row[b"n"]), int(row[b"square"])) for _, row in client.xrange("rows")], events)
        return killed


@pytest.mark.parametrize("finish", [slow(_sqlite), _redis], ids=["sqlite", "redis"])
def test_a_killed_run_leaves_every_row_once(tmp_path: Path, finish: Callable[..., int]) -> None:
    assert finish(tmp_path, 4_000, 3) >= 2


@pytest.mark.slow  # a standby does the same, with a lock beside it
def test_a_killed_run_leaves_every_row_of_postgres_once(tmp_path: Path, postgres: PostgresServer) -> None:
    assert _postgres(tmp_path, postgres, 4_000, 3) >= 2


def _postgres(folder: Path, server: PostgresServer, events: int, kills: int) -> int:
    import sqlalchemy

    url = server.database()
    killed = _kill_and_finish(folder, "sql", url, events, kills)
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(sqlalchemy.text("SELECT n, square FROM rows ORDER BY seq")).fetchall()
    engine.dispose()
    _check([tuple(row) for row in rows], events)
    return killed


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("finish", [_sqlite, _redis], ids=["sqlite", "redis"])
def test_a_hundred_kills_leave_every_row_once(tmp_path: Path, finish: Callable[..., int]) -> None:
    assert finish(tmp_path, 120_000, 100) >= 30


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_kills_leave_every_row_of_postgres_once(tmp_path: Path, postgres: PostgresServer) -> None:
    assert _postgres(tmp_path, postgres, 120_000, 100) >= 30
