"""The SQL sink on SQLite: rows and number in one transaction, every crash point, the fence, errors without values."""

from __future__ import annotations

import datetime as dt
import pickle
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sql_checks as checks
from sluiceway.nodes.connectors.sql.api import sql_sink
from sluiceway.nodes.connectors.sql.sqlite_spool import RefusedRow
from sluiceway.nodes.errors import GraphError
from sluiceway.nodes.events import DeadLetter
from sluiceway.nodes.sinks import BadEvent


@pytest.fixture
def url(tmp_path: Path) -> str:
    return checks.sqlite(tmp_path)


@pytest.mark.parametrize("tokens_back", [1, 2])
@pytest.mark.parametrize("crash_at", range(len(checks.SCHEDULE) + 1))
def test_nothing_is_lost_or_doubled(url: str, crash_at: int, tokens_back: int) -> None:
    checks.sink_survives(url, crash_at, tokens_back)


@pytest.mark.parametrize("check", checks.SINK_CHECKS)
def test_on_sqlite(url: str, check: Any) -> None:
    check(url)


def test_between_commits_others_may_write_and_read(url: str, tmp_path: Path) -> None:
    """Two sinks on one file and another program beside them: nobody waits, nothing is seen before its commit."""
    checks.execute(url, "CREATE TABLE good (n INTEGER, text TEXT)", "CREATE TABLE bad (n INTEGER, text TEXT)")
    good, bad = sql_sink(url, table="good"), sql_sink(url, table="bad")
    good.open(), bad.open()
    good.write(checks.numbered(0, 2500))
    bad.write(checks.numbered(0, 10))
    with closing(sqlite3.connect(tmp_path / "test.db", timeout=0)) as other, other:
        assert other.execute("SELECT count(*) FROM good").fetchone() == (0,)
        other.execute("INSERT INTO good VALUES (-1, 'of another program')")
    good.commit(2499), bad.commit(2499)
    good.close(), bad.close()
    assert checks.rows_of(url, "SELECT count(*), max(n) FROM good") == [(2501, 2499)]
    assert checks.rows_of(url, "SELECT count(*) FROM bad") == [(10,)]


def test_a_row_refused_at_the_commit_is_named_by_its_number(url: str) -> None:
    checks.execute(url, "CREATE TABLE checked (n INTEGER, text TEXT, CHECK (n <> 1234))")
    sink = sql_sink(url, table="checked")
    sink.open()
    sink.write(checks.numbered(0, 1000))
    sink.commit(999)
    sink.write(checks.numbered(1000, 2000))
    with pytest.raises(RefusedRow, match=r"number 1234 \(index 0\) was refused .* CHECK constraint failed") as caught:
        sink.commit(2999)
    assert (caught.value.seq, caught.value.index) == (1234, 0)
    sink.abort()
    assert checks.rows_of(url, "SELECT count(*), max(n) FROM checked") == [(1000, 999)]


def test_a_key_taken_by_another_program_meanwhile_is_refused_at_the_commit(url: str) -> None:
    checks.execute(url, "CREATE TABLE keyed (n INTEGER PRIMARY KEY, text TEXT)")
    sink = sql_sink(url, table="keyed")
    sink.open()
    sink.write(checks.numbered(0, 3))
    checks.execute(url, "INSERT INTO keyed VALUES (1, 'first')")
    with pytest.raises(RefusedRow, match=r"number 1 .*UNIQUE constraint failed: keyed\.n"):
        sink.commit(2)
    sink.abort()


def test_rows_keep_their_order_whatever_their_columns(url: str) -> None:
    checks.execute(url, "CREATE TABLE mixed (id INTEGER PRIMARY KEY AUTOINCREMENT, a INTEGER, b TEXT DEFAULT 'none')")
    sink = sql_sink(url, table="mixed")
    sink.open()
    sink.write(checks.batch(0, [{"a": n} if n % 3 else {"b": "said", "a": n} for n in range(20)]))
    sink.close()
    said = [(n + 1, n, "none" if n % 3 else "said") for n in range(20)]
    assert checks.rows_of(url, "SELECT id, a, b FROM mixed ORDER BY id") == said


def test_close_commits_and_abort_rolls_back(url: str) -> None:
    checks.execute(url, "CREATE TABLE ends (n INTEGER, text TEXT)")
    sink = sql_sink(url, table="ends")
    sink.open()
    sink.write(checks.numbered(0, 3))
    sink.abort()
    assert checks.rows_of(url, "SELECT count(*) FROM ends") == [(0,)]
    sink.open()
    sink.write(checks.numbered(0, 3))
    sink.close()
    sink.close()
    assert checks.rows_of(url, "SELECT count(*) FROM ends") == [(3,)]
    assert checks.rows_of(url, "SELECT number FROM sluiceway_progress WHERE sink = 'ends'") == [(2,)]


def test_commits_do_not_go_backwards_and_need_an_open_sink(url: str) -> None:
    checks.execute(url, "CREATE TABLE t (n INTEGER, text TEXT)")
    sink = sql_sink(url, table="t")
    with pytest.raises(RuntimeError, match="it is not open"):
        sink.commit(0)
    sink.open()
    sink.commit(5)
    with pytest.raises(ValueError, match="at 4: it is at 5 already"):
        sink.commit(4)
    sink.abort()


def test_numbers_need_their_columns(url: str) -> None:
    checks.execute(url, "CREATE TABLE t (seq INTEGER, n INTEGER)")
    with pytest.raises(LookupError, match="no column 'index' for the events' numbers"):
        sql_sink(url, table="t", numbers=("seq", "index")).open()
    sink = sql_sink(url, table="t", numbers=("seq", "n"))
    sink.open()
    with pytest.raises(BadEvent, match="a column 'n' of its own"):
        sink.write(checks.batch(3, [{"n": 9}]))
    with pytest.raises(ValueError, match="this batch has none"):
        sink.write([{"n": 9}])
    sink.abort()


def test_dead_letters_are_rows(url: str) -> None:
    sink = sql_sink(url, table="letters", create=True)
    sink.open()
    letters = [
        DeadLetter(3, 0, "parse", {"a": [1]}, "ValueError: bad", "Traceback ...", 1),
        DeadLetter(4, 0, "parse", {1, 2}, "ValueError: bad", "Traceback ...", 2),
    ]
    sink.write(checks.batch(3, letters))
    sink.close()
    assert checks.rows_of(url, "SELECT seq, node, event, attempts FROM letters ORDER BY seq") == [
        (3, "parse", '{"a": [1]}', 1),
        (4, "parse", "{1, 2}", 2),
    ]


def test_times_with_a_zone_are_stored_as_utc(url: str) -> None:
    checks.execute(url, "CREATE TABLE times (at DATETIME)")
    sink = sql_sink(url, table="times")
    sink.open()
    zone = dt.timezone(dt.timedelta(hours=5))
    sink.write(checks.batch(0, [{"at": dt.datetime(2024, 1, 1, 3, tzinfo=zone)}, {"at": dt.datetime(2024, 1, 1, 3)}]))
    sink.close()
    assert checks.rows_of(url, "SELECT at FROM times ORDER BY at") == [
        ("2023-12-31 22:00:00.000000+00:00",),
        ("2024-01-01 03:00:00.000000",),
    ]


def test_it_is_pickled_without_its_connection(url: str) -> None:
    checks.execute(url, "CREATE TABLE t (n INTEGER, text TEXT)")
    sink = sql_sink(url, table="t", name="mine")
    sink.open()
    copy = pickle.loads(pickle.dumps(sink))
    sink.abort()
    copy.open()
    copy.write(checks.numbered(0, 1))
    copy.close()
    assert checks.rows_of(url, "SELECT sink FROM sluiceway_progress") == [("mine",)]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"url": "no url at all, hush"}, "this is no database URL"),
        ({"url": 3}, "this is no database URL"),
        ({"url": "oracle9://u:hush@host/x"}, "SQLAlchemy knows no database 'oracle9'"),
        ({"url": "mysql+pymysql://u:hush@host/x"}, "the driver pymysql of this URL is not installed; install pymysql"),
        ({"url": "sqlite://"}, "a database in memory"),
        ({"table": ""}, "table must be the name"),
        ({"numbers": ("a",)}, "two column names"),
        ({"numbers": "ab"}, "two column names"),
        ({"name": ""}, "1 to 255 characters"),
        ({"create": {"a": set}}, "column 'a': there is no column type for a set"),
    ],
)
def test_mistakes_are_seen_when_it_is_made(url: str, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(GraphError, match=text) as caught:
        sql_sink(**{"url": url, "table": "t", **arguments})
    assert "hush" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sqlalchemy", None)
    text = r"cannot make sql_sink\(\): sqlalchemy is not installed; in a clone of sluiceway run pip install '\.\[sql\]'"
    with pytest.raises(GraphError, match=text):
        sql_sink("sqlite:///x.db", table="t")
