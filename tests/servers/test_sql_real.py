"""The SQL connector on a real PostgreSQL: sinks, crashes, concurrent inserts."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest
import sql_checks as checks
import sql_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from marks import slow
from postgres_server import PASSWORD, PostgresServer, postgres
from sluiceway.nodes.connectors.sql.api import postgres_lock, sql, sql_sink
from sluiceway.nodes.sinks import BadEvent
from sql_checks import MANY, read_all, read_until
from sql_sessions import sessions_waiting, terminate_others, the_server_has_no_session_left, until, url

__all__ = ["postgres", "the_server_has_no_session_left", "url"]

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
    until(lambda: sessions_waiting(url) == 1)
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
    terminate_others(url)
    with pytest.raises(ConnectionError, match="the connection is lost") as caught:
        sink.write(checks.numbered(3, 3))
    assert not hasattr(caught.value, "position")
    sink.abort()
    sink.open()
    sink.write(checks.numbered(0, 3))
    terminate_others(url)
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
    terminate_others(url)
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


# -- helpers ----------------------------------------------------------------------------------------------------------


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
