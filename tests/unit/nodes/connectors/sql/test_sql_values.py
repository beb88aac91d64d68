"""On SQLite, what was written is read back equal or was refused, and stored values that are none are named."""

from __future__ import annotations

import datetime as dt
import decimal
from pathlib import Path
from typing import Any

import numpy
import pytest
import sql_checks as checks
import sql_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sluiceway.nodes.connectors.sql.api import sql, sql_sink
from sluiceway.nodes.errors import GraphError
from sluiceway.nodes.sinks import BadEvent


@pytest.fixture
def url(tmp_path: Path) -> str:
    return checks.sqlite(tmp_path)


def test_existing_columns_change_nothing(url: str) -> None:
    sql_values.existing_columns_change_nothing(url, sql_values.SQLITE)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sql_values.SQLITE), st.lists(sql_values.ANYTHING, min_size=1, max_size=30))
def test_any_value_comes_back(url: str, kind: str, values: list[Any]) -> None:
    sql_values.any_value_comes_back(url, kind, values)


@pytest.mark.slow
def test_made_columns_change_nothing(url: str) -> None:
    sql_values.made_columns_change_nothing(url)


@pytest.mark.parametrize(
    ("kind", "stored", "read"),
    [
        ("NUMERIC", "9007199254740993", decimal.Decimal("9007199254740993")),
        ("DECIMAL(20,15)", "0.123456789012345", decimal.Decimal("0.123456789012345")),
        ("BOOLEAN", "1", True),
        ("DATETIME", "'2024-01-01T10:00:00Z'", dt.datetime(2024, 1, 1, 10, tzinfo=dt.UTC)),
        ("DATE", "'2024-01-01'", dt.date(2024, 1, 1)),
        ("TIME", "'10:30'", dt.time(10, 30)),
        ("JSON", "'[1, null]'", [1, None]),
        ("JSON", "5", 5),
        ("BLOB", "'text'", "text"),
        ("INTEGER", "'text'", "text"),
    ],
)
def test_what_others_stored_is_read_exactly(url: str, kind: str, stored: str, read: Any) -> None:
    checks.execute(url, f"CREATE TABLE t (id INTEGER PRIMARY KEY, v {kind})", f"INSERT INTO t VALUES (1, {stored})")
    assert checks.read_all(sql(url, table="t")) == [{"id": 1, "v": read}]


@pytest.mark.parametrize(
    ("kind", "stored"), [
        ("BOOLEAN", "'false'"), ("BOOLEAN", "2"), ("NUMERIC", "'secret'"), ("DATETIME", "'secret'"), ("DATE", "'secret'"),
        ("DATE", "'2024-01-01 10:00:00'"), ("DATE", "5"), ("TIME", "'secret'"), ("JSON", "'{secret'"), ("JSON", "'1e999'"),
    ],
)  # fmt: skip
def test_a_stored_value_that_is_none_of_its_type_names_the_column(url: str, kind: str, stored: str) -> None:
    checks.execute(url, f"CREATE TABLE t (id INTEGER PRIMARY KEY, v {kind})", f"INSERT INTO t VALUES (1, {stored})")
    with pytest.raises(RuntimeError, match=rf"column 'v' is {kind} and a row holds an? \w+ in it that is none") as caught:
        checks.read_all(sql(url, table="t"))
    assert "secret" not in str(caught.value)


def test_text_that_is_no_utf8_is_not_told(url: str) -> None:
    checks.execute(url, "CREATE TABLE t (id INTEGER PRIMARY KEY, note TEXT)")
    checks.execute(url, "INSERT INTO t VALUES (1, CAST(x'736563726574ff' AS TEXT))")
    with pytest.raises(RuntimeError, match="Could not decode to UTF-8 column 'note'") as caught:
        checks.read_all(sql(url, table="t"))
    assert "secret" not in str(caught.value)


AT = dt.datetime(2024, 1, 1, 0, 0, 2)


@pytest.mark.parametrize(
    ("condition", "value", "found"),
    [
        ("at = :x", AT, [1]), ("at <= :x", AT, [1]), ("at > :x", AT, [2]), ("at > :x", dt.date(2024, 1, 1), [1, 2]),
        ("n = :x", decimal.Decimal(1), [1]), ("n = :x", numpy.int64(2), [2]), ("n > :x", numpy.float32(1.5), [2]),
        ("n = :x", True, [1]), ("t = :x", dt.time(10), [1, 2]),
    ],
)  # fmt: skip
def test_what_is_written_and_what_is_bound_have_one_form(url: str, condition: str, value: Any, found: list[int]) -> None:
    columns = "n INTEGER PRIMARY KEY, at DATETIME, t TIME, a DATETIME"
    checks.execute(url, f"CREATE TABLE t ({columns})")
    sink = sql_sink(url, table="t")
    sink.open()
    rows = [{"n": n, "at": AT + dt.timedelta(seconds=n - 1), "t": dt.time(10), "a": AT.replace(tzinfo=dt.UTC)} for n in (1, 2)]
    sink.write(checks.batch(0, rows))
    sink.close()
    read = checks.read_all(sql(url, table="t", where=condition, params={"x": value}))
    assert [row["n"] for row in read] == found
    zoned = dt.timezone(dt.timedelta(hours=2))
    same = {"x": AT.replace(tzinfo=dt.UTC).astimezone(zoned)}
    assert len(checks.read_all(sql(url, table="t", where="a = :x", params=same))) == 2


@pytest.mark.parametrize("value", [2**63, {1}, [1], dt.timedelta(1), decimal.Decimal("0.1234567890123456789012"), object()])
def test_what_sqlite_cannot_compare_is_refused_when_the_source_is_made(url: str, value: Any) -> None:
    with pytest.raises(GraphError, match=r"SQLite cannot compare an? .* such as that of :x"):
        sql(url, table="t", where="n = :x", params={"x": value})


def test_a_colon_that_is_text_and_a_comment_at_the_end(url: str) -> None:
    checks.execute(url, "CREATE TABLE t (n INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO t VALUES (1, ':x'), (2, 'y')")
    with pytest.raises(GraphError, match=r":x has no value in params=; give it one, or write \\:x where the colon is text"):
        sql(url, table="t", where="v <> ':x'")
    assert checks.read_all(sql(url, table="t", where=r"v <> '\:x'")) == [{"n": 2, "v": "y"}]
    assert checks.read_all(sql(url, query="SELECT n FROM t -- all of it", key="n")) == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("others", ["2024-01-01T00:00:03", "2024-01-01 00:00:03Z", "2024-01-01T00:00:03+02:00"])
@pytest.mark.parametrize("after", [None, AT])
def test_times_in_two_forms_are_no_key(url: str, others: str, after: dt.datetime | None) -> None:
    checks.execute(url, "CREATE TABLE t (n INTEGER PRIMARY KEY, at DATETIME)", f"INSERT INTO t VALUES (2, '{others}')")
    if after is None:
        assert len(checks.read_all(sql(url, table="t", key="at"))) == 1
    checks.execute(url, "INSERT INTO t VALUES (1, '2024-01-01 00:00:01.000000'), (3, '2024-01-02')")
    with pytest.raises(ValueError, match="column 'at' holds times in more than one form"):
        checks.read_all(sql(url, table="t", key="at", after=after))


def test_times_of_one_form_are_a_key_whatever_their_digits(url: str) -> None:
    stored = ["2024-01-01", "2024-01-01 00:00", "2024-01-01 00:00:01", "2024-01-01 00:00:01.5", "2024-01-01 00:00:02.000000"]
    checks.execute(url, "CREATE TABLE t (at DATETIME PRIMARY KEY)", *(f"INSERT INTO t VALUES ('{at}')" for at in stored))
    assert [row["at"] for row in checks.read_all(sql(url, table="t"))] == [dt.datetime.fromisoformat(at) for at in stored]
    assert checks.read_all(sql(url, table="t", after=AT - dt.timedelta(microseconds=1))) == [{"at": AT}]


def test_a_conflict_clause_of_the_table_does_not_drop_rows(url: str) -> None:
    checks.execute(url, "CREATE TABLE t (n INTEGER PRIMARY KEY ON CONFLICT IGNORE)", "INSERT INTO t VALUES (1)")
    sink = sql_sink(url, table="t")
    sink.open()
    with pytest.raises(BadEvent, match=r"UNIQUE constraint failed: t\.n"):
        sink.write(checks.batch(0, [{"n": 1}]))
    sink.abort()
