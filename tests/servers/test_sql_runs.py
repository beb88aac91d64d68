"""Whole runs on PostgreSQL and SQLite: from table to table, and writers that are killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
import sql_checks as checks
from postgres_server import PostgresServer, postgres
from sluiceway.nodes.connectors.sql.api import sql, sql_sink
from sql_sessions import the_server_has_no_session_left, url

__all__ = ["postgres", "the_server_has_no_session_left", "url"]


@pytest.fixture(params=["postgres", "sqlite"], scope="module")
def any_server(request: pytest.FixtureRequest) -> PostgresServer | None:
    """Return a server that was started before the test, as one that a test starts counts as left behind by it."""
    found: PostgresServer | None = None if request.param == "sqlite" else request.getfixturevalue("postgres")
    return found


@pytest.fixture
def any_url(any_server: PostgresServer | None, tmp_path: Path) -> str:
    return checks.sqlite(tmp_path) if any_server is None else any_server.database()


def _seed(url: str, rows: int) -> None:
    checks.execute(url, "CREATE TABLE tasks (id INTEGER PRIMARY KEY, text TEXT)")
    with checks.connected(url) as connection:
        insert = checks.sa.text("INSERT INTO tasks VALUES (:id, :text)")
        connection.execute(insert, [{"id": n, "text": f"task {n}"} for n in range(rows)])


def _graph(url: str) -> sw.Graph:
    def work(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] % 100 == 7:
            raise ValueError("seven")
        return {"id": row["id"], "done": row["text"].upper()}

    graph = sw.Graph("tasks")
    done = graph.source(sql(url, table="tasks", batch_size=70)).map(work, on_error="dead_letter")
    done.sink(sql_sink(url, table="done", create=True, numbers=("seq", "index")))
    graph.dead_letters().sink(sql_sink(url, table="failed", create=True))
    return graph


@pytest.mark.parametrize("options", [{"runner": "inline"}, {"workers": 2}])
def test_a_run_from_table_to_table(any_url: str, options: dict[str, Any]) -> None:
    _seed(any_url, 1000)
    report = sw.run(_graph(any_url), **options)
    assert (report.events_in, report.dead_letters) == (1000, 10)
    expected = [(n, n, f"TASK {n}") for n in range(1000) if n % 100 != 7]
    assert checks.rows_of(any_url, "SELECT seq, id, done FROM done ORDER BY seq") == expected
    failed = checks.rows_of(any_url, "SELECT seq, event, error FROM failed ORDER BY seq")
    assert failed[0] == (7, '{"id": 7, "text": "task 7"}', "ValueError: seven")
    assert len(failed) == 10


def test_a_refused_row_fails_the_run_at_its_number(url: str) -> None:
    _seed(url, 50)
    checks.execute(url, "CREATE TABLE done (id INTEGER CHECK (id <> 30))")
    graph = sw.Graph("tasks")
    graph.source(sql(url, table="tasks", columns=["id"])).sink(sql_sink(url, table="done"))
    with pytest.raises(sw.SinkError, match="violates check constraint") as caught:
        sw.run(graph, runner="inline")
    assert caught.value.seq == 30


_WRITER = """
import json, sys
from sluiceway.nodes.connectors.sql.api import sql_sink
from sluiceway.nodes.sinks import Batch

url, token, total = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
sink = sql_sink(url, table="out")
if token is None:
    sink.open()
    done = -1
    print(json.dumps(sink.commit(-1)), flush=True)
else:
    done = sink.recover(token)
step = 0
while done + 1 < total:
    numbers = range(done + 1, min(done + 14, total))
    sink.write(Batch([{"n": n, "text": f"row {n}"} for n in numbers], [(n, 0) for n in numbers]))
    done, step = numbers[-1], step + 1
    if step % 3 == 0 or done + 1 == total:
        print(json.dumps(sink.commit(done)), flush=True)
sink.close()
print("null", flush=True)
"""


def _killed_and_resumed(url: str, folder: Path, total: int, kills: int, seed: int) -> None:
    """Kill a writing process at random moments, go on with one of its last two tokens, until it is done."""
    import json

    chance = random.Random(seed)
    checks.execute(url, "CREATE TABLE out (n INTEGER NOT NULL, text TEXT)")
    script = folder / "writer.py"
    script.write_text(textwrap.dedent(_WRITER))
    tokens: list[Any] = [None]
    killed = 0
    while True:
        token = tokens[-min(chance.choice((1, 2)), len(tokens))]
        if token is None and len(tokens) > 1:
            token = tokens[1]
        command = [sys.executable, str(script), url, json.dumps(token), str(total)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            until = chance.randrange(1, 40) if killed < kills else None
            for lines, line in enumerate(process.stdout, 1):
                said = json.loads(line)
                if said is None:
                    break
                tokens.append(said)
                if lines == until:
                    time.sleep(chance.uniform(0, 0.01))  # somewhere inside the next transactions
                    process.send_signal(signal.SIGKILL)
                    killed += 1
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert killed >= 1
    assert checks.rows_of(url, "SELECT n, text FROM out ORDER BY n") == [(n, f"row {n}") for n in range(total)]


def test_a_killed_writer_goes_on(any_url: str, tmp_path: Path) -> None:
    _killed_and_resumed(any_url, tmp_path, 2500, 2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 8))
def test_a_killed_writer_goes_on_many_times(any_url: str, tmp_path: Path, seed: int) -> None:
    _killed_and_resumed(any_url, tmp_path, 6000, 12, seed)
