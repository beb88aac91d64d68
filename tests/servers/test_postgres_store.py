"""The store of checkpoints in a real PostgreSQL: one run at a time, none that writes when it was taken over."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from postgres_server import PASSWORD, PostgresServer, postgres
from sluiceway.engine.checkpoints.open_store import describe_store
from sluiceway.engine.checkpoints.store import TableStore
from sluiceway.nodes.ordering.order_log import Read, Run
from sql_checks import execute, rows_of
from store_checks import CHECKS, IDENTITY, saved_at

__all__ = ["postgres"]


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.database()


@pytest.fixture
def store(url: str) -> Iterator[TableStore]:
    store = sw.postgres_store(url)
    yield store
    store.close()


def _end_sessions(url: str) -> None:
    rows_of(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE starts_with(application_name, 'sluiceway ')")


@pytest.mark.parametrize("check", CHECKS)
def test_in_postgres(store: TableStore, check: Any) -> None:
    check(store)


def test_runs_of_other_names_do_not_meet(url: str) -> None:
    one, two, lock = sw.postgres_store(url), sw.postgres_store(url, name="two"), sw.postgres_lock(url, "g")
    lock.acquire()
    try:
        for at, store in enumerate((one, two)):
            assert store.open(IDENTITY, "auto") is None
            store.log([Run(0, at, 4)], [])
            store.write(saved_at(at))
        one.close()
        assert one.open(IDENTITY, "never") is None
        assert two.logged() == ([Run(0, 1, 4)], [])
        two.close()
        assert two.open(IDENTITY, "required") == saved_at(1)
    finally:
        for each in (one, two):
            each.close()
        lock.release()


def test_one_run_at_a_time(url: str, store: TableStore) -> None:
    store.open(IDENTITY, "auto")
    other = sw.postgres_store(url)
    other.wait(0.3)
    with pytest.raises(sw.CheckpointError, match=r"\(name 'g'\).*another run uses it, session \d+ \(sluiceway .*\)"):
        other.open(IDENTITY, "auto")
    store.write(saved_at(1))
    store.close()
    assert other.open(IDENTITY, "auto") == saved_at(1)
    other.close()


def test_a_run_whose_session_was_ended_writes_nothing(url: str, store: TableStore) -> None:
    store.open(IDENTITY, "auto")
    store.write(saved_at(1))
    _end_sessions(url)
    other = sw.postgres_store(url)
    assert other.open(IDENTITY, "auto") == saved_at(1)
    for attempt in (lambda: store.write(saved_at(2)), lambda: store.log([Run(0, 0, 1)], [])):
        with pytest.raises(sw.CheckpointError, match="cannot keep checkpoints in"):
            attempt()
    store.close()
    other.close()
    assert other.open(IDENTITY, "auto") == saved_at(1)
    assert other.logged() == ([], [])
    other.close()


def test_a_run_that_was_taken_over_writes_nothing(url: str, store: TableStore) -> None:
    """As if a pooler had shared its session, so that the lock did not keep the other one out."""
    store.open(IDENTITY, "auto")
    store.write(saved_at(1))
    execute(url, "UPDATE sluiceway_run SET epoch = epoch + 1")
    for attempt in (lambda: store.write(saved_at(2)), lambda: store.log([Run(0, 0, 1)], [])):
        with pytest.raises(sw.CheckpointError, match="another run has taken it over"):
            attempt()
    store.close()
    assert store.open(IDENTITY, "auto") == saved_at(1)
    assert store.logged() == ([], [])


def test_what_is_damaged_or_of_another_form_is_refused(url: str, store: TableStore) -> None:
    store.open(IDENTITY, "auto")
    store.write(saved_at(1))
    store.log([], [Read(0, 0, 1, "a")])
    store.close()
    execute(url, "UPDATE sluiceway_log SET first = 3")
    store.open(IDENTITY, "auto")
    with pytest.raises(sw.CheckpointError, match="its order log is not what was written"):
        store.logged()
    store.close()
    execute(url, "UPDATE sluiceway_checkpoint SET body = 'wrong'")
    with pytest.raises(sw.CheckpointError, match="its checkpoint is not what was written"):
        store.open(IDENTITY, "auto")
    execute(url, "UPDATE sluiceway_run SET form = 1")
    with pytest.raises(sw.CheckpointError, match="form 1, this one has 3"):
        store.open(IDENTITY, "auto")
    with pytest.raises(sw.CheckpointError, match="form 1"):
        describe_store(url)
    assert store.open(IDENTITY, "never") is None
    store.write(saved_at(3))
    store.close()
    assert store.open(IDENTITY, "auto") == saved_at(3)


def test_a_commit_waits_for_the_disk_and_a_dead_machine_is_found_out(url: str, store: TableStore) -> None:
    execute(url, f"ALTER DATABASE {url.rpartition('/')[2]} SET synchronous_commit = off")
    store.open(IDENTITY, "auto")
    session = store._backing._session  # type: ignore[attr-defined]
    with session.begin():
        shown = [
            session.exec_driver_sql(f"SHOW {name}").scalar_one()
            for name in ("synchronous_commit", "tcp_keepalives_idle", "tcp_user_timeout", "statement_timeout")
        ]
    assert shown == ["on", "5", "10000", "0"]


def test_passwords_and_payloads_are_never_told(postgres: PostgresServer, url: str, store: TableStore) -> None:
    shown = [repr(store)]
    for wrong in (url.replace("correct", "incorrect"), url.replace(f":{postgres.port}/", ":1/")):
        for attempt in (
            lambda wrong=wrong: sw.postgres_store(wrong).open(IDENTITY, "auto"),
            lambda wrong=wrong: describe_store(wrong),
        ):
            with pytest.raises(sw.CheckpointError, match="the database cannot be reached") as caught:
                attempt()
            shown.append(f"{caught.value} {caught.value.__cause__}")
    store.open(IDENTITY, "auto")
    execute(url, "ALTER TABLE sluiceway_log ADD CHECK (kind <> 'read')")
    with pytest.raises(sw.CheckpointError, match="violates check constraint") as caught:
        store.log([], [Read(0, 0, 1, "secret of a row")])
    shown.append(str(caught.value))
    execute(url, "DROP TABLE sluiceway_history")
    with pytest.raises(sw.CheckpointError, match='relation "sluiceway_history" does not exist') as caught:
        store.write(saved_at(1))
    shown.append(str(caught.value))
    for text in shown:
        assert "correct" not in text.replace("correct the URL", "").replace("correct that", "")
        assert PASSWORD not in text
        assert "secret" not in text


def test_what_is_no_address_of_postgres_is_refused(tmp_path: Path) -> None:
    graph = sw.Graph("g")
    graph.source(range(3)).sink(print)
    with pytest.raises(sw.GraphError, match="a file or a PostgreSQL URL"):
        sw.run(graph, checkpoint=f"sqlite:///{tmp_path / 'run.db'}")
    with pytest.raises(sw.GraphError, match="SQLAlchemy knows no database"):
        sw.run(graph, checkpoint="nosuch://host/db")
    with pytest.raises(sw.GraphError, match="1 to 255 characters"):
        sw.postgres_store("postgresql+psycopg://host/db", name="")


def test_looking_inside(url: str, store: TableStore) -> None:
    with pytest.raises(sw.CheckpointError, match="holds no checkpoints"):
        describe_store(url)
    store.open(IDENTITY, "auto")
    store.write(saved_at(7))
    shown = describe_store(url)  # while a run uses it
    assert "(name 'g'): graph 'g', begun" in shown
    assert "everything below number 7" in shown
    other = sw.postgres_store(url, name="other")
    other.open(IDENTITY, "auto")
    other.close()
    assert "2 runs; name one" in describe_store(url)
    assert "no checkpoint yet" in describe_store(url, "other")
    with pytest.raises(sw.CheckpointError, match="no checkpoints of the name 'third'"):
        describe_store(url, "third")
    execute(url, "UPDATE sluiceway_run SET identity = 'x'")
    with pytest.raises(sw.CheckpointError, match="its tables are damaged or no store"):
        describe_store(url, "other")


SCRIPT = '''
import sluiceway as sw

def work(n):
    if n == FAILS_AT:
        raise ValueError("broken")
    return {"n": n}

def build(url):
    graph = sw.Graph("resumed")
    graph.source(range(300)).map(work).sink(sw.sql_sink(url, table="rows", create={"n": int}))
    return graph
'''


def test_the_command_line_goes_on_from_a_database(tmp_path: Path, url: str) -> None:
    script = tmp_path / "script.py"

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "sluiceway.engine.cli.main", *words]
        return subprocess.run(line, check=False, capture_output=True, text=True, timeout=60)

    def run() -> subprocess.CompletedProcess[str]:
        store = ["--checkpoint", url, "--checkpoint-interval", "0"]
        return command("run", f"{script}:build", "--set", f"url={url}", *store)

    script.write_text(SCRIPT.replace("FAILS_AT", "200"))
    failed = run()
    assert failed.returncode == 1, failed.stderr
    assert rows_of(url, "SELECT count(*) FROM sluiceway_checkpoint") == [(1,)]
    script.write_text(SCRIPT.replace("FAILS_AT", "-1"))
    done = run()
    assert done.returncode == 0, done.stderr
    assert "WARNING: sluiceway: 'resumed' goes on at number " in done.stderr
    assert done.stderr.count("changed its code") == done.stderr.count("node 'work' changed its code") == 1
    assert rows_of(url, "SELECT n FROM rows ORDER BY n") == [(n,) for n in range(300)]
    shown = command("checkpoints", url, "--name", "resumed")
    assert shown.returncode == 0, shown.stderr
    assert "finished" in shown.stdout
    assert "\nnode 'work' changed its code at number " in shown.stdout
    assert PASSWORD.replace(" ", "%20") not in failed.stderr + done.stderr + shown.stdout
