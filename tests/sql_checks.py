"""What must hold of the SQL connector on every database: shared by the tests on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sluiceway.nodes.connectors.sql.api import sql, sql_sink
from sluiceway.nodes.errors import CheckpointError, LockLost
from sluiceway.nodes.sinks import BadEvent, Batch

MANY = 1 << 20
_DEADLINE_S = 30.0


def sqlite(folder: Path) -> str:
    """Return the URL of an SQLite database in a folder."""
    return f"sqlite:///{folder / 'test.db'}"


@lru_cache(maxsize=16)
def _engine(url: str) -> sa.Engine:
    """Return an engine that keeps no connection; a new one asks its server about itself first."""
    return sa.create_engine(url, poolclass=sa.NullPool)


@contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    """Return a connection that commits at the end."""
    with _engine(url).begin() as connection:
        yield connection


def execute(url: str, *statements: str) -> None:
    """Execute statements in one transaction."""
    with connected(url) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def rows_of(url: str, select: str) -> list[tuple[Any, ...]]:
    """Return the rows of a SELECT."""
    with connected(url) as connection:
        return [tuple(row) for row in connection.exec_driver_sql(select)]


def read_all(source: Any, limit: int = 1000, max_bytes: int = MANY, position: object = None) -> list[dict[str, Any]]:
    """Read a source that ends."""
    reader = source.reader(position)
    events: list[dict[str, Any]] = []
    try:
        while (batch := reader.read(limit, max_bytes)) is not None:
            assert len(batch) <= limit
            events.extend(batch)
    finally:
        reader.close()
    return events


def read_until(reader: Any, done: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """Read a polled source until what was read is enough."""
    events: list[dict[str, Any]] = []
    deadline = time.monotonic() + _DEADLINE_S
    while not done(events):
        assert time.monotonic() < deadline, f"only {len(events)} rows came"
        batch = reader.read(1000, MANY)
        assert batch is not None
        events.extend(batch)
    return events


def batch(first: int, rows: Sequence[Any]) -> Batch[Any]:
    """Return a batch with one number for each row, from `first` on."""
    return Batch(rows, [(first + at, 0) for at in range(len(rows))])


# -- sinks ------------------------------------------------------------------------------------------------------------


def numbered(first: int, count: int) -> Batch[dict[str, Any]]:
    """Return rows for the table `out (n, text)`."""
    return batch(first, [{"n": n, "text": f"row {n}"} for n in range(first, first + count)])


SCHEDULE = ("write", "write", "commit", "write", "commit", "commit", "write", "write", "write", "commit", "write")
_ROWS = 7  # in each write


def sink_survives(url: str, crash_at: int, tokens_back: int) -> None:
    """Vanish before step `crash_at` of the schedule, go on from a recent token: every row is there once, in order."""
    execute(url, "DROP TABLE IF EXISTS out", "CREATE TABLE out (n INTEGER NOT NULL, text TEXT)")
    sink = sql_sink(url, table="out")
    sink.open()
    tokens = [sink.commit(-1)]
    total = _ROWS * SCHEDULE.count("write")
    written = 0
    for step in SCHEDULE[:crash_at]:
        if step == "write":
            sink.write(numbered(written, _ROWS))
            written += _ROWS
        else:
            tokens.append(sink.commit(written - 1))
    vanish(sink)
    resumed = sql_sink(url, table="out")
    token = tokens[-min(tokens_back, len(tokens))]
    held = resumed.recover(token)
    assert held == tokens[-1]["number"], "what was committed last is held, whichever token is known"
    for first in range(held + 1, total, 5):
        resumed.write(numbered(first, min(5, total - first)))
        if first % 2:
            resumed.commit(min(first + 4, total - 1))
    resumed.commit(total - 1)
    resumed.close()
    assert rows_of(url, "SELECT n, text FROM out ORDER BY n") == [(n, f"row {n}") for n in range(total)]


def vanish(sink: Any) -> None:
    """End a sink's connection as a dying process does."""
    sink._connection.invalidate()
    sink._connection.close()


def a_finished_run_is_finished_again(url: str) -> None:
    """Recover with the last token and close, as after a death between the last commit and the end."""
    execute(url, "CREATE TABLE done (n INTEGER, text TEXT)")
    sink = sql_sink(url, table="done")
    sink.open()
    sink.write(numbered(0, 3))
    token = sink.commit(2)
    vanish(sink)
    for _ in range(2):
        again = sql_sink(url, table="done")
        assert again.recover(token) == 2
        again.close()
    assert rows_of(url, "SELECT count(*) FROM done") == [(3,)]


def a_higher_token_ends_the_lower(url: str) -> None:
    """The fence stops an old holder inside its transaction, for the same run and for a new one."""
    execute(url, "CREATE TABLE fenced (n INTEGER, text TEXT)")
    old = sql_sink(url, table="fenced")
    old.fence(4)
    old.open()
    old.write(numbered(0, 2))
    token = old.commit(1)
    old.write(numbered(2, 2))

    new = sql_sink(url, table="fenced")
    new.fence(5)
    assert new.recover(token) == 1
    with pytest.raises(LockLost, match="token 5 has written"):
        old.commit(3)
    old.abort()
    new.write(numbered(2, 2))
    new.commit(3)
    new.close()

    late = sql_sink(url, table="fenced")
    late.fence(4)
    with pytest.raises(LockLost, match="token 5 has written; nothing was committed"):
        late.open()
    fresh = sql_sink(url, table="fenced")
    fresh.fence(6)
    fresh.open()
    fresh.abort()
    new.fence(5)
    with pytest.raises(LockLost, match="token 6"):
        new.recover(token)
    other = sql_sink(url, table="fenced", name="of another graph")
    other.fence(1)
    other.open()
    other.abort()
    assert rows_of(url, "SELECT n FROM fenced ORDER BY n") == [(0,), (1,), (2,), (3,)]


def errors_name_the_rule(url: str) -> None:
    """A refused row is named by its position and rule; what came before it is written; its values are not shown."""
    execute(
        url,
        "CREATE TABLE strict (id INTEGER PRIMARY KEY, must TEXT NOT NULL, age INTEGER CHECK (age < 200), day DATE)",
        "INSERT INTO strict VALUES (1000, 'there', 1, NULL)",
    )

    def refused(*rows: Any) -> BadEvent:
        sink = sql_sink(url, table="strict")
        sink.open()
        try:
            with pytest.raises(BadEvent) as caught:
                sink.write(batch(0, rows))
        finally:
            sink.abort()
        text = f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"
        assert "hush" not in text
        assert "correct" not in text
        assert "4711" not in text
        assert "cannot write to sql_sink(" in text
        return caught.value

    fine = {"id": 1, "must": "hush"}
    error = refused(fine, {"id": 2, "must": "hush"}, {"id": 1, "must": "hush"})
    assert error.position == 2
    assert "strict" in str(error)
    assert "nique" in str(error) or "UNIQUE" in str(error)
    error = refused(fine, {"id": 1000, "must": "hush"})
    assert (error.position, "strict" in str(error)) == (1, True)
    error = refused({"id": 4711, "must": None})
    assert (error.position, "must" in str(error)) == (0, True)
    error = refused(fine, {"id": 2, "colour": "hush"})
    assert (error.position, "no column 'colour'" in str(error)) == (1, True)
    error = refused(fine, {"id": 3, "must": "a", "day": "hush"})
    assert error.position == 1
    error = refused(fine, ["hush"])
    assert (error.position, "a list, not a dict" in str(error)) == (1, True)
    error = refused(fine, {})
    assert (error.position, "empty dict" in str(error)) == (1, True)
    error = refused({"id": 2**70, "must": "a"})
    assert (error.position, "'id'" in str(error) or "range" in str(error)) == (0, True)


def everything_before_a_refused_row_stays(url: str) -> None:
    """After a `BadEvent` the transaction still holds the rows before it, whatever their columns."""
    execute(url, "CREATE TABLE stays (id INTEGER PRIMARY KEY, text TEXT)")
    sink = sql_sink(url, table="stays")
    sink.open()
    with pytest.raises(BadEvent) as caught:
        sink.write(batch(0, [{"id": 1, "text": "a"}, {"id": 2}, {"id": 3}, {"id": 2}, {"id": 4}]))
    assert caught.value.position == 3
    sink.commit(2)
    sink.close()
    assert rows_of(url, "SELECT id, text FROM stays ORDER BY id") == [(1, "a"), (2, None), (3, None)]


def a_table_is_made(url: str) -> None:
    """`create` makes the table from the first event or from a dict, with the numbers as its key."""
    sink = sql_sink(url, table="made", create=True, numbers=("seq", "index"))
    sink.open()
    sink.commit(-1)
    sink.write(Batch([{"a": 1, "b": "x", "c": 1.5}, {"a": 2, "b": None, "c": None}], [(7, 0), (7, 1)]))
    sink.commit(7)
    sink.close()
    assert rows_of(url, 'SELECT seq, "index", a, b, c FROM made ORDER BY 1, 2') == [
        (7, 0, 1, "x", 1.5),
        (7, 1, 2, None, None),
    ]
    typed = sql_sink(url, table="typed", create={"a": int, "b": sa.String(10)})
    typed.open()
    typed.close()
    assert rows_of(url, "SELECT a, b FROM typed") == []
    bare = sql_sink(url, table="bare", create=True)
    bare.open()
    with pytest.raises(BadEvent, match="no column type for None"):
        bare.write(batch(0, [{"a": None}]))
    bare.abort()
    with pytest.raises(LookupError, match="there is no table 'nowhere'; make it, or pass create=True"):
        sql_sink(url, table="nowhere").open()


def foreign_tokens_are_refused(url: str) -> None:
    """A token of another database, of an older copy, and what is no token."""
    execute(url, "CREATE TABLE tokens (n INTEGER, text TEXT)")
    sink = sql_sink(url, table="tokens")
    sink.open()
    sink.write(numbered(0, 4))
    token = sink.commit(3)
    sink.close()
    for wrong, text in (
        ({**token, "run": "another"}, "knows nothing of the run"),
        ({**token, "number": 4}, "up to number 3, but the checkpoint says 4"),
        (17, "not one of an SQL sink"),
    ):
        with pytest.raises(CheckpointError, match=text):
            sql_sink(url, table="tokens").recover(wrong)
    with pytest.raises(CheckpointError, match="knows nothing"):
        sql_sink(url, table="tokens", name="renamed").recover(token)


#: What must hold of the sink on every database, but for deaths.
SINK_CHECKS = (
    a_finished_run_is_finished_again,
    a_higher_token_ends_the_lower,
    errors_name_the_rule,
    everything_before_a_refused_row_stays,
    a_table_is_made,
    foreign_tokens_are_refused,
)


# -- sources ----------------------------------------------------------------------------------------------------------


def conditions_and_queries_are_read(url: str) -> None:
    """A condition and a query in SQL, with values beside them and signs that mean something to drivers."""
    execute(url, "CREATE TABLE several (id INTEGER PRIMARY KEY, text TEXT)")
    with connected(url) as connection:
        rows = [{"id": n, "text": f"{n % 10}:x%"} for n in range(40)]
        connection.execute(sa.text("INSERT INTO several VALUES (:id, :text)"), rows)
    where = "text LIKE '3%' OR text = :text -- this or that"
    source = sql(url, table="several", where=where, params={"text": "7:x%"}, columns=["id"], batch_size=3, after=10)
    assert [row["id"] for row in read_all(source)] == [13, 17, 23, 27, 33, 37]
    query = "SELECT id * 10 AS tens, text FROM several WHERE id < :top AND text LIKE '%x%' -- of all\n;"
    source = sql(url, query=query, key="tens", params={"top": 25}, batch_size=4, after=0)
    reader = source.reader(None)
    assert reader.read(3, MANY) == [{"tens": 10 * n, "text": f"{n}:x%"} for n in (1, 2, 3)]
    assert len(reader.replay(reader.extent())) == 3
    assert read_all(source, position=reader.position())[0]["tens"] == 40
    reader.close()


def replay_gives_the_same_rows(url: str, **arguments: Any) -> None:
    """Reads replayed from any earlier position give the same rows, also when others have come between."""
    execute(
        url,
        "CREATE TABLE again (id INTEGER PRIMARY KEY, at TIMESTAMP NOT NULL, text TEXT)",
        *(f"INSERT INTO again VALUES ({3 * n}, '2024-01-01 00:00:0{n // 8 % 10}', 'r{n}')" for n in range(1, 50)),
    )
    source = sql(url, table="again", batch_size=9, **arguments)
    reader = source.reader(None)
    reads = []
    while (rows := reader.read(7, MANY)) is not None:
        reads.append((list(rows), reader.extent(), reader.position()))
    reader.close()
    assert sum(len(rows) for rows, _, _ in reads) == 49
    execute(url, "INSERT INTO again VALUES (10, '2024-01-01 00:00:00', 'late'), (70, '2024-01-01 00:00:02', 'late')")
    start: object = None
    for first, (_, _, before) in enumerate([([], (), None), *reads]):
        start = before
        reader = source.reader(start)
        for rows, extent, position in reads[first:]:
            assert reader.replay(extent) == rows
            assert (reader.extent(), reader.position()) == (extent, position)
        assert reader.read(7, MANY) is None
        reader.close()
    execute(url, "DELETE FROM again WHERE id = 33")
    reader = source.reader(None)
    gone = next(extent for rows, extent, _ in reads if 33 in [row["id"] for row in rows])
    with pytest.raises(LookupError, match=r"1 of \d rows that the run had read are gone") as caught:
        reader.replay(gone)
    assert "33" not in str(caught.value).partition("once more")[2]
    for wrong in ((), ("keys",), 3, ("numbers", 5, 4)):
        with pytest.raises(ValueError, match="no extent"):
            reader.replay(wrong)
    reader.close()
