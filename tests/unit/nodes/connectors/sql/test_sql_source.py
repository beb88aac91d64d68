"""The SQL source on SQLite: pages, ties, places to go on from, settling, polling, replay, errors without values."""

from __future__ import annotations

import pickle
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import sql_checks as checks
from hypothesis import given, settings
from hypothesis import strategies as st
from sluiceway.nodes.connectors.sql.api import sql
from sluiceway.nodes.connectors.sql.source import SqlReader, _KeySightings
from sluiceway.nodes.errors import GraphError
from sql_checks import MANY, read_all, read_until

#: One time, as three programs write it.
TIMES = ("2024-01-01 10:00:00", "2024-01-01 10:00:00.000000", "2024-01-01 10:00:00.5", "2024-01-02 10:00:00")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return checks.sqlite(tmp_path)


def table(url: str, *rows: tuple[Any, ...]) -> None:
    checks.execute(url, "CREATE TABLE t (id INTEGER PRIMARY KEY, at DATETIME, text TEXT)")
    with checks.connected(url) as connection:
        for row in rows:
            connection.exec_driver_sql("INSERT INTO t VALUES (?, ?, ?)", row)


def count(url: str, rows: int) -> None:
    table(url, *((n, TIMES[n % 4], f"r{n}") for n in range(rows)))


# -- order and pages --------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(-50, 50), st.sampled_from(TIMES)), max_size=60, unique_by=lambda row: row[0]),
    limits=st.lists(st.integers(1, 9), min_size=1),
    page=st.integers(1, 7),
    key=st.sampled_from([None, "id", "at", ("at", "id"), ("text", "id")]),
    max_bytes=st.sampled_from([1, 200, MANY]),
)
def test_every_row_comes_once_in_order_wherever_it_is_cut(
    rows: list[Any], limits: list[int], page: int, key: Any, max_bytes: int
) -> None:
    """A reader is dropped after every read, and the next goes on from its position."""
    with tempfile.TemporaryDirectory() as folder:
        url = checks.sqlite(Path(folder))
        table(url, *((number, at, "ab"[number % 2]) for number, at in rows))
        source = sql(url, table="t", key=key, batch_size=page)
        events: list[Any] = []
        position: object = None
        for turn in range(10_000):
            reader = source.reader(position)
            got = reader.read(limits[turn % len(limits)], max_bytes)
            position = pickle.loads(pickle.dumps(reader.position()))
            reader.close()
            if got is None:
                break
            events += got
        order = {None: "id", "id": "id", "at": "at, id", ("at", "id"): "at, id", ("text", "id"): "text, id"}[key]
        ids = [row[0] for row in checks.rows_of(url, f"SELECT id FROM t ORDER BY {order}")]
        assert [event["id"] for event in events] == ids


def test_columns_where_after_and_params(url: str) -> None:
    count(url, 20)
    source = sql(url, table="t", columns=["text"], where="id % :by = 0 OR id = 1", params={"by": 5}, after=0)
    assert read_all(source) == [{"text": f"r{n}"} for n in (1, 5, 10, 15)]
    source = sql(url, table="t", key="at", columns=["id"], after="2024-01-01 10:00:00.4")
    with pytest.raises(ValueError, match="column 'at' holds times, after= is a str; pass a datetime"):
        read_all(source)


def test_conditions_and_queries(url: str) -> None:
    checks.conditions_and_queries_are_read(url)


def test_a_view_needs_a_key_that_differs(url: str) -> None:
    count(url, 8)
    checks.execute(url, "CREATE VIEW v AS SELECT id, id / 2 AS half FROM t")
    assert [row["id"] for row in read_all(sql(url, table="v", key="id", batch_size=3))] == list(range(8))
    with pytest.raises(LookupError, match="no primary key; say with key="):
        sql(url, table="v").reader(None)
    for page in (1, 2, 3, 100):
        with pytest.raises(ValueError, match=r"two rows have the same key \(half\)"):
            read_all(sql(url, table="v", key="half", batch_size=page))


def test_rows_without_a_key_are_not_there_yet(url: str) -> None:
    table(url, (1, None, "draft"), (2, TIMES[0], "out"))
    assert [row["id"] for row in read_all(sql(url, table="t", key="at"))] == [2]


def test_big_rows_come_in_small_pages(url: str) -> None:
    """Not one page more than what was asked for is in memory."""
    checks.execute(url, "CREATE TABLE big (id INTEGER PRIMARY KEY, text TEXT)")
    with checks.connected(url) as connection:
        for n in range(300):
            connection.exec_driver_sql("INSERT INTO big VALUES (?, ?)", (n, "x" * 10_000))
    reader = sql(url, table="big").reader(None)
    seen, most = 0, 0
    while (rows := reader.read(1000, 50_000)) is not None:
        seen += len(rows)
        assert len(rows) <= 5
        if seen > 64:
            most = max(most, len(reader._rows))
    reader.close()
    assert (seen, most <= 5) == (300, True)


# -- polling and settling ---------------------------------------------------------------------------------------------


def test_polling_gives_what_comes_later(url: str) -> None:
    count(url, 3)
    reader = sql(url, table="t", poll_s=0.01).reader(None)
    assert len(read_until(reader, lambda rows: len(rows) == 3)) == 3
    assert reader.read(10, MANY) == []
    checks.execute(url, "INSERT INTO t VALUES (7, NULL, 'new')")
    assert read_until(reader, bool) == [{"id": 7, "at": None, "text": "new"}]
    reader.close()
    assert reader.read(10, MANY) is None


def test_an_empty_read_waits_a_little_and_close_ends_it(url: str) -> None:
    count(url, 0)
    reader = sql(url, table="t", poll_s=3600).reader(None)
    assert reader.read(10, MANY) == []
    start = time.monotonic()
    assert reader.read(10, MANY) == []
    assert 0.05 < time.monotonic() - start < 2
    ended: list[Any] = []

    def read_on() -> None:
        while (rows := reader.read(10, MANY)) is not None:
            assert rows == []
        ended.append(reader._connection)

    thread = threading.Thread(target=read_on)
    thread.start()
    reader.close()
    thread.join(5)
    assert ended == [None]


def test_young_rows_are_left_for_later(url: str) -> None:
    """With a time as key a row waits, and so do all behind it; without polling they are left for the next run."""
    checks.execute(
        url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at DATETIME)",
        "INSERT INTO t VALUES (1, datetime('now', '-1 hour')), (2, strftime('%Y-%m-%d %H:%M:%f', 'now', '-1 minute')),"
        " (3, datetime('now', '-2 seconds')), (4, datetime('now', '+1 hour'))",
    )
    assert [row["id"] for row in read_all(sql(url, table="t", key="at", settle_s=30))] == [1, 2]
    assert [row["id"] for row in read_all(sql(url, table="t", key="at", settle_s=1))] == [1, 2, 3]
    assert [row["id"] for row in read_all(sql(url, table="t", key="at"))] == [1, 2, 3, 4]
    polled = sql(url, table="t", key="at", settle_s=2.5, poll_s=0.02).reader(None)
    assert [row["id"] for row in read_until(polled, lambda rows: len(rows) == 3)] == [1, 2, 3]
    checks.execute(url, "INSERT INTO t VALUES (5, datetime('now', '-5 seconds'))")  # late, and settled by then
    polled.close()


def test_settling_refuses_what_is_no_time(url: str) -> None:
    table(url, (1, "hush", "a"))
    with pytest.raises(ValueError, match="column 'at' holds what is no time") as caught:
        read_all(sql(url, table="t", key="at", columns=["id"], settle_s=1))
    assert "hush" not in str(caught.value)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def read_now(reader: SqlReader, clock: Clock, seconds: float) -> list[int]:
    """Let time pass in small steps and give the ids that come meanwhile."""
    ids: list[int] = []
    steps = round(seconds / 0.5)
    for _ in range(steps):
        clock.now += 0.5
        while rows := reader.read(100, MANY):
            ids += [row["id"] for row in rows]
    return ids


def test_numbers_settle_when_they_were_seen_long_enough(url: str) -> None:
    """A row that is committed late, below one that was seen already, is given in its place."""
    clock = Clock()
    count(url, 0)
    checks.execute(url, "INSERT INTO t (id) VALUES (1), (2), (5)")
    reader = SqlReader(sql(url, table="t", poll_s=0.5, settle_s=10), None, clock)
    assert read_now(reader, clock, 5) == []
    checks.execute(url, "INSERT INTO t (id) VALUES (3), (8)")  # 3 was taken before 5, and is committed after it
    assert read_now(reader, clock, 7) == [1, 2, 3, 5]
    checks.execute(url, "INSERT INTO t (id) VALUES (7)")
    assert read_now(reader, clock, 8) == [7, 8]
    checks.execute(url, "INSERT INTO t (id) VALUES (6)")  # too late: the settle time was too short for it
    assert read_now(reader, clock, 15) == []
    reader.close()


def test_numbers_settle_without_polling_too(url: str) -> None:
    count(url, 0)
    checks.execute(url, "INSERT INTO t (id) VALUES (1), (4)")
    source = sql(url, table="t", settle_s=5, batch_size=1)
    clock = Clock()
    reader = SqlReader(source, None, clock)
    assert reader.read(10, MANY) == []
    checks.execute(url, "INSERT INTO t (id) VALUES (2), (9)")
    assert read_now(reader, clock, 6) == [1, 2, 4]  # 9 came after the run had begun
    assert reader.read(10, MANY) is None
    reader.close()
    assert read_all(sql(url, table="t", settle_s=5, after=99)) == []


def test_sights_are_few_and_fade() -> None:
    sights = _KeySightings(10.0)
    for step in range(1000):
        sights.record(step * 0.1, lambda step=step: (step,))  # type: ignore[misc]
        assert len(sights._seen) <= 17
        if sights.settled is not None:
            assert 100 <= step - sights.settled[0] <= 107


# -- going on ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [{}, {"key": "at"}, {"key": ("text", "id")}])
def test_replay_gives_the_same_rows(url: str, key: dict[str, Any]) -> None:
    checks.replay_gives_the_same_rows(url, **key)


def test_extents_of_dense_numbers_are_short(url: str) -> None:
    count(url, 500)
    reader = sql(url, table="t").reader(None)
    reader.read(40, MANY)
    assert reader.extent() == ("numbers", 0, 39)
    reader.close()
    assert sql(url, table="t").replay == "logged"


def test_positions_of_another_key_are_refused(url: str) -> None:
    count(url, 3)
    reader = sql(url, table="t", key="at").reader(None)
    reader.read(2, MANY)
    position = reader.position()
    reader.close()
    with pytest.raises(ValueError, match="it is of the key at, id, not of id; set key= as it was"):
        sql(url, table="t").reader(position)
    with pytest.raises(ValueError, match="from an int: it is no position"):
        sql(url, table="t").reader(7)


def test_it_is_pickled_and_shown_without_secrets(url: str) -> None:
    source = sql(url, table="t", poll_s=1)
    assert pickle.loads(pickle.dumps(source)) == source
    shown = repr(sql("postgresql+psycopg://me:hush@host:99/db?options=hush&password=hush", table="t"))
    assert shown == "sql('postgresql+psycopg://me:***@host:99/db', table='t')"
    assert repr(sql(url, query="SELECT 'hush'", key="x")).endswith("query=...)")


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "pass one of table= and query="),
        ({"table": "t", "query": "SELECT 1"}, "pass one of table= and query="),
        ({"query": "SELECT 1"}, "query= needs key="),
        ({"query": "SELECT 1", "key": "a", "where": "1"}, "takes neither where="),
        ({"table": "t", "columns": "id"}, "columns must be a list"),
        ({"table": "t", "poll_s": -1}, "poll_s=-1, but it must be a number of seconds"),
        ({"table": "t", "settle_s": None}, "settle_s=None, but it must be a number of seconds"),
        ({"table": "t", "batch_size": 0}, "batch_size=0, but it must be a whole number"),
    ],
)
def test_mistakes_are_seen_when_it_is_made(url: str, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(GraphError, match=text):
        sql(url, **arguments)


def test_what_is_not_there_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*test\.db"):
        sql(url, table="t").reader(None)
    assert not (tmp_path / "test.db").exists()
    count(url, 1)
    with pytest.raises(LookupError, match="there is no table 'x'; correct its name, or set schema="):
        sql(url, table="x").reader(None)
    with pytest.raises(LookupError, match="there is no column 'y', only id, at, text"):
        sql(url, table="t", columns=["y"]).reader(None)
    with pytest.raises(RuntimeError, match="no such column: colour"):
        read_all(sql(url, table="t", where="colour = 1"))
    with pytest.raises(RuntimeError, match="syntax error"):
        sql(url, query="SELECT 1 FORM t", key="id").reader(None)


def test_values_that_do_not_fit_their_column_are_not_told(url: str) -> None:
    table(url, (1, "hush", "a"))
    with pytest.raises(RuntimeError, match="column 'at' is DATETIME and a row holds a str in it that is none") as caught:
        read_all(sql(url, table="t"))
    assert "hush" not in str(caught.value)
