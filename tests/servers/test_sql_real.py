"""The SQL connector on a real PostgreSQL, and whole runs on PostgreSQL and SQLite: crashes, concurrent inserts, locks."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
import sql_checks as checks
import sql_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from marks import slow
from postgres_server import PASSWORD, PostgresServer, postgres
from sluiceway.nodes.connectors.sql.api import postgres_lock, sql, sql_sink
from sluiceway.nodes.errors import GraphError, LockHeld, LockLost
from sluiceway.nodes.sinks import BadEvent
from sql_checks import MANY, read_all, read_until

__all__ = ["postgres"]


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.database()


@pytest.fixture(params=["postgres", "sqlite"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return checks.sqlite(tmp_path)
    url: str = request.getfixturevalue("postgres").database()
    return url


# -- sinks ------------------------------------------------------------------------------------------------------------


CRASH_POINTS = range(len(checks.SCHEDULE) + 1)


@pytest.mark.parametrize(
    ("tokens_back", "crash_points"), [(2, CRASH_POINTS[2::3]), slow(1, CRASH_POINTS), slow(2, CRASH_POINTS)]
)
def test_nothing_is_lost_or_doubled(url: str, tokens_back: int, crash_points: range) -> None:
    """On SQLite every crash point is in every run."""
    for crash_at in crash_points:
        checks.sink_survives(url, crash_at, tokens_back)


@pytest.mark.parametrize("check", checks.SINK_CHECKS)
def test_on_postgres(url: str, check: Any) -> None:
    check(url)


def test_a_resumed_sink_waits_for_a_commit_under_way(url: str) -> None:
    """The server still commits for a process that is gone: what it commits counts, and is not written again."""
    checks.execute(url, "CREATE TABLE out (n INTEGER, text TEXT)")
    old = sql_sink(url, table="out")
    old.open()
    token = old.commit(-1)
    old.write(checks.numbered(0, 5))
    old.commit(4)
    old.write(checks.numbered(5, 7))
    assert old._progress is not None
    assert old._connection is not None
    old._progress.advance(old._connection, 11)  # everything of a commit but its last word
    new = sql_sink(url, table="out")
    held: list[int] = []
    waiting = threading.Thread(target=lambda: held.append(new.recover(token)))
    waiting.start()
    _until(lambda: _sessions_waiting(url) == 1)
    assert held == []
    old._connection.commit()
    waiting.join(10)
    assert held == [11]
    new.abort(), old.abort()


def test_a_value_of_the_wrong_kind_is_not_told(url: str) -> None:
    checks.execute(
        url,
        "CREATE TABLE kinds (a INTEGER, b VARCHAR(5), c TIMESTAMP, d NUMERIC(4, 2))",
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.a = 13 THEN RAISE 'told %%', NEW.b; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER told BEFORE INSERT ON kinds FOR EACH ROW EXECUTE FUNCTION tell()",
    )
    sink = sql_sink(url, table="kinds")
    for row, text in (
        ({"a": "hush"}, "the column 'a' does not take this str as it is"),
        ({"a": 2**40}, "the column 'a' does not take this int"),
        ({"b": "hushhush"}, "the column 'b' does not take this str"),
        ({"c": "hush"}, "the column 'c' does not take this str"),
        ({"d": 4711}, "the column 'd' does not take this int"),
        ({"a": {"hush"}}, "set"),
        ({"a": 13, "b": "hush"}, "SQLSTATE P0001"),
    ):
        sink.open()
        with pytest.raises(BadEvent) as caught:
            sink.write(checks.batch(0, [{"a": 1}, row]))
        sink.abort()
        assert caught.value.position == 1
        assert text in str(caught.value)
        assert "hush" not in str(caught.value)
        assert "4711" not in str(caught.value)


def test_a_lost_connection_is_said_and_blames_no_event(url: str) -> None:
    checks.execute(url, "CREATE TABLE out (n INTEGER, text TEXT)")
    sink = sql_sink(url, table="out")
    sink.open()
    sink.write(checks.numbered(0, 3))
    _terminate_others(url)
    with pytest.raises(ConnectionError, match="the connection is lost") as caught:
        sink.write(checks.numbered(3, 3))
    assert not hasattr(caught.value, "position")
    sink.abort()
    sink.open()
    sink.write(checks.numbered(0, 3))
    _terminate_others(url)
    with pytest.raises(RuntimeError, match="cannot commit"):
        sink.commit(2)
    sink.abort()
    assert checks.rows_of(url, "SELECT count(*) FROM out") == [(0,)]


def test_passwords_are_never_told(postgres: PostgresServer, url: str) -> None:
    shown = [repr(sql(url, table="t")), repr(sql_sink(url, table="t")), repr(postgres_lock(url, "x"))]
    for wrong in (url.replace("correct", "incorrect"), url.replace(f":{postgres.port}/", ":1/")):
        for attempt in (
            lambda wrong=wrong: sql(wrong, table="t").reader(None),
            lambda wrong=wrong: sql_sink(wrong, table="t").open(),
            lambda wrong=wrong: postgres_lock(wrong, "x").acquire(),
        ):
            with pytest.raises(ConnectionError, match="the database cannot be reached") as caught:
                attempt()
            shown.append(f"{caught.value} {caught.value.__cause__}")
    for text in shown:
        assert "correct" not in text.replace("correct the URL", "")
        assert PASSWORD not in text


def test_many_may_begin_at_once(url: str) -> None:
    """The tables that sinks and locks make for themselves are made once, by whoever comes first."""
    checks.execute(url, "CREATE TABLE out (n INTEGER, text TEXT)")
    sinks = [sql_sink(url, table="out") for _ in range(8)]
    locks = [postgres_lock(url, f"lock {n}") for n in range(8)]
    failed: list[BaseException] = []

    def begin(at: int) -> None:
        try:
            sinks[at].fence(1)
            sinks[at].open()
            sinks[at].write(checks.numbered(at, 1))
            sinks[at].close()
            assert locks[at].acquire() == 1
            locks[at].release()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=begin, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert checks.rows_of(url, "SELECT n FROM out ORDER BY n") == [(n,) for n in range(8)]


# -- sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [{}, slow({"key": "at"}), {"key": ("text", "id")}])
def test_replay_gives_the_same_rows(url: str, key: dict[str, Any]) -> None:
    checks.replay_gives_the_same_rows(url, **key)


def test_conditions_and_queries(url: str) -> None:
    checks.conditions_and_queries_are_read(url)


def test_times_with_and_without_a_zone_settle(url: str) -> None:
    for kind in ("TIMESTAMP", "TIMESTAMPTZ"):
        checks.execute(
            url,
            "DROP TABLE IF EXISTS t",
            f"CREATE TABLE t (id SERIAL PRIMARY KEY, at {kind})",
            "INSERT INTO t (at) VALUES (now() - interval '1 hour'), (now() - interval '1 minute'),"
            " (now() + interval '1 hour'), (now() - interval '2 hours'), (NULL)",
        )
        source = sql(url, table="t", key="at", columns=["id"], settle_s=30)
        assert [row["id"] for row in read_all(source)] == [4, 1, 2]
        assert [row["id"] for row in read_all(sql(url, table="t", key="at"))] == [4, 1, 2, 3]


def test_concurrent_inserts_are_all_read_once(url: str) -> None:
    """Several writers commit out of the order of their numbers, after up to 0.2 s; the settle time covers it."""
    checks.execute(url, "CREATE TABLE t (id BIGSERIAL PRIMARY KEY, writer INTEGER, n INTEGER)")
    per_writer, writers = 60, 4

    def insert(writer: int) -> None:
        chance = random.Random(writer)
        engine = checks.sa.create_engine(url, poolclass=checks.sa.NullPool)
        with engine.connect() as connection:
            for n in range(per_writer):
                connection.exec_driver_sql("INSERT INTO t (writer, n) VALUES (%s, %s)", (writer, n))
                if chance.random() < 0.4:
                    time.sleep(chance.uniform(0, 0.05))  # the number is taken, and committed later
                    connection.commit()
            connection.commit()

    threads = [threading.Thread(target=insert, args=(writer,)) for writer in range(writers)]
    reader = sql(url, table="t", poll_s=0.01, settle_s=1.5, batch_size=17).reader(None)
    for thread in threads:
        thread.start()
    rows = read_until(reader, lambda rows: len(rows) == writers * per_writer)
    for thread in threads:
        thread.join()
    assert reader.read(10, MANY) == []
    reader.close()
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    assert {(row["writer"], row["n"]) for row in rows} == {(w, n) for w in range(writers) for n in range(per_writer)}


def test_a_reader_connects_again_once(postgres: PostgresServer, url: str) -> None:
    checks.execute(url, "CREATE TABLE t (id INTEGER PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 200)")
    reader = sql(url, table="t", batch_size=50).reader(None)
    rows = [row["id"] for row in reader.read(50, MANY) or []]
    _terminate_others(url)
    while (more := reader.read(50, MANY)) is not None:
        rows += [row["id"] for row in more]
    reader.close()
    assert rows == list(range(1, 201))


def test_a_reader_holds_no_transaction_between_reads(postgres: PostgresServer, url: str) -> None:
    checks.execute(url, "CREATE TABLE t (id INTEGER PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 200)")
    reader = sql(url, table="t", poll_s=1).reader(None)
    reader.read(10, MANY)
    checks.execute(url, "SET lock_timeout = '3s'", "ALTER TABLE t ADD COLUMN other INTEGER")
    reader.close()


# -- the lock ---------------------------------------------------------------------------------------------------------


def test_one_holder_at_a_time_with_rising_tokens(url: str) -> None:
    one, two, other = postgres_lock(url, "graph"), postgres_lock(url, "graph"), postgres_lock(url, "another")
    with pytest.raises(LockLost, match="is not held"):
        one.check()
    first = one.acquire()
    one.check()
    with pytest.raises(LockHeld, match=rf"'graph': it is held by session \d+ \(sluiceway .*:{os.getpid()} graph\)"):
        two.acquire()
    other.acquire()
    other.release()
    one.release()
    one.release()
    second = pickle.loads(pickle.dumps(two))
    assert second.acquire() == first + 1
    second.check()
    assert second.fenced is True
    second.release()
    with pytest.raises(LockLost, match="is not held"):
        second.check()


def test_waiting_takes_over_when_the_holder_ends(url: str) -> None:
    one, two = postgres_lock(url, "graph"), postgres_lock(url, "graph", wait_s=None)
    start = time.monotonic()
    token = one.acquire()
    with pytest.raises(LockHeld):
        postgres_lock(url, "graph", wait_s=0.4).acquire()
    assert 0.4 <= time.monotonic() - start < 5
    got: list[int] = []
    waiting = threading.Thread(target=lambda: got.append(two.acquire()))
    waiting.start()
    _until(lambda: _sessions_waiting(url) == 1)
    one.release()
    waiting.join(10)
    assert got == [token + 1]
    two.check()
    two.release()


def test_a_lock_whose_session_was_ended_is_lost(url: str) -> None:
    one, two = postgres_lock(url, "graph"), postgres_lock(url, "graph")
    one.acquire()
    _terminate_others(url)
    two.acquire()
    for _ in range(2):
        with pytest.raises(LockLost, match="'graph' is "):
            one.check()
    one.release()
    two.check()
    two.release()


def test_a_lock_needs_postgres() -> None:
    with pytest.raises(GraphError, match="it needs a PostgreSQL URL"):
        postgres_lock("sqlite:///x.db", "x")
    with pytest.raises(GraphError, match="name must be a text"):
        postgres_lock("postgresql+psycopg://host/db", "")


def test_a_lost_lock_keeps_an_old_run_from_committing(url: str) -> None:
    """Lock and sink together: the new holder's token ends the old one's transaction, though it has not noticed."""
    checks.execute(url, "CREATE TABLE out (n INTEGER, text TEXT)")
    old_lock, new_lock = postgres_lock(url, "graph"), postgres_lock(url, "graph")
    old, new = sql_sink(url, table="out"), sql_sink(url, table="out")
    old.fence(old_lock.acquire())
    old.open()
    token = old.commit(-1)
    old.write(checks.numbered(0, 3))
    _terminate(url, "application_name LIKE 'sluiceway%'")  # the lock's session; the sink does not know
    new.fence(new_lock.acquire())
    assert new.recover(token) == -1
    with pytest.raises(LockLost):
        old.commit(2)
    old.abort()
    new.write(checks.numbered(0, 3))
    new.commit(2)
    new.close()
    new_lock.release()
    assert checks.rows_of(url, "SELECT n FROM out ORDER BY n") == [(0,), (1,), (2,)]


# -- whole runs -------------------------------------------------------------------------------------------------------


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


_OTHERS = "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


# -- helpers ----------------------------------------------------------------------------------------------------------


def _until(done: Any) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _sessions_waiting(url: str) -> int:
    rows = checks.rows_of(
        url, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    waiting: int = rows[0][0]
    return waiting


def _terminate_others(url: str) -> None:
    _terminate(url, "true")


def _terminate(url: str, which: str) -> None:
    """End sessions and wait until they are gone."""
    checks.rows_of(url, f"SELECT pg_terminate_backend(pid, 5000) FROM {_OTHERS} AND {which.replace('%', '%%')}")


@pytest.fixture(autouse=True)
def the_server_has_no_session_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a session in its database."""
    urls = [request.getfixturevalue(name) for name in ("url", "any_url") if name in request.fixturenames]
    yield
    for url in urls:
        if url.startswith("postgresql"):
            _until(lambda url=url: checks.rows_of(url, f"SELECT pid FROM {_OTHERS}") == [])


def test_existing_columns_change_nothing(postgres: PostgresServer) -> None:
    sql_values.existing_columns_change_nothing(postgres.database(), sql_values.POSTGRES)


@pytest.fixture
def anything(postgres: PostgresServer) -> str:
    return postgres.database()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sql_values.POSTGRES), st.lists(sql_values.ANYTHING, min_size=1, max_size=20))
def test_any_value_comes_back(anything: str, kind: str, values: list[Any]) -> None:
    sql_values.any_value_comes_back(anything, kind, values)


def test_a_domain_changes_nothing(postgres: PostgresServer) -> None:
    url = postgres.database()
    below = {"cents": "NUMERIC(10,2)", "moment": "TIMESTAMP(0)", "word": "VARCHAR(5)", "count": "SMALLINT", "days": "DATE"}
    checks.execute(url, *(f"CREATE DOMAIN {name} AS {kind}" for name, kind in below.items()))
    sql_values.existing_columns_change_nothing(url, (*below, "cents[]", "MONEY"))


@pytest.mark.slow
def test_made_columns_change_nothing(postgres: PostgresServer) -> None:
    sql_values.made_columns_change_nothing(postgres.database())
