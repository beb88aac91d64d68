"""Every pair of a column and a value: what a sink has written is read back equal, or was refused."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import math
import uuid
from typing import Any

import numpy
import sql_checks as checks
from hypothesis import strategies as st
from sluiceway.nodes.connectors.sql.api import sql, sql_sink
from sluiceway.nodes.sinks import BadEvent

D = decimal.Decimal
ZONE = dt.timezone(dt.timedelta(hours=5, minutes=30))


class Level(enum.IntEnum):
    """An int of another class."""

    HIGH = 3


VALUES: list[Any] = [
    True, False, 0, 1, 5, -1, 2**15, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 10**30, Level.HIGH,
    0.0, 1.0, 1.5, 0.1, 0.1 + 0.2, 1e300, 1e22, 1e23, 123456789.123, math.inf, math.nan, 16777217.0,
    D("1"), D("0.1"), D("1.50"), D("9007199254740993"), D("0.123456789012345678901"), D("1e30"), D("NaN"), D("123456.78"),
    "", "text", "5", "5.0", "false", "null", "007", "a longer text than many", "ends with blanks   ", "2024-01-01", "é\U0001f600",
    b"", b"bytes", bytearray(b"bytes"),
    dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, 10, 30, 0, 123456), dt.datetime(2024, 1, 1, 10, tzinfo=ZONE),
    dt.datetime(1, 1, 1, 10), dt.date(2024, 1, 1), dt.time(10, 30), dt.time(10, 30, 0, 5), dt.time(10, 30, tzinfo=ZONE),
    dt.timedelta(hours=30, microseconds=7), uuid.UUID(int=5),
    {"a": [1, None, 1.5]}, {"a": 1e23}, {}, [], [1, 2], ["1", "2"], [1.5], (1, 2), {1: 2}, {"a": math.nan}, {"a": (1,)}, {1, 2},
    numpy.int64(5), numpy.uint64(2**64 - 1), numpy.float64(1.5), numpy.float32(0.1), numpy.bool_(True), numpy.str_("text"),
    numpy.datetime64("2024-01-01"), None, numpy.float16(0.5), {"a": numpy.int64(5)}, {"a": "\0"}, "a\0b", "\ud800",
    {"a": "\ud800"},
    dt.timedelta(days=-1, hours=5), dt.timedelta(microseconds=1000), dt.time(10, 30, 0, 5000), D("-0.0"), D("1E-30"), -0.0,
    5e-324,
]  # fmt: skip
SQLITE = (
    "BOOLEAN", "INTEGER", "BIGINT", "REAL", "FLOAT", "DOUBLE PRECISION", "NUMERIC", "DECIMAL(10,2)", "TEXT", "VARCHAR(5)",
    "BLOB", "DATE", "DATETIME", "TIMESTAMP", "TIME", "JSON", "STRING", "",
)  # fmt: skip
POSTGRES = (
    "BOOLEAN", "SMALLINT", "INTEGER", "BIGINT", "REAL", "DOUBLE PRECISION", "NUMERIC", "NUMERIC(10,2)", "NUMERIC(5)", "TEXT",
    "VARCHAR(5)", "CHAR(5)", "BYTEA", "DATE", "TIMESTAMP", "TIMESTAMPTZ", "TIME", "TIMETZ", "INTERVAL", "JSON", "JSONB", "UUID",
    "INTEGER[]", "TEXT[]", "DOUBLE PRECISION[]", "TIMESTAMP(0)", "TIMESTAMPTZ(3)", "TIME(3)", "INTERVAL(0)",
    "INTERVAL HOUR TO MINUTE", "NUMERIC(4, -2)",
)  # fmt: skip


def same(written: Any, read: Any) -> bool:
    """Whether a value came back: not a number is itself, and what Python holds for equal is equal."""
    if isinstance(written, numpy.generic):
        written = written.item()
    if isinstance(written, float) and math.isnan(written):
        return isinstance(read, float) and math.isnan(read)
    return bool(type(read) is type(written) and read == written) or bool(read == written)


def changed(url: str, table: str, values: list[Any]) -> list[tuple[Any, Any]]:
    """Write each value as a row of its own, and return those that came back as another."""
    sink = sql_sink(url, table=table)
    sink.open()
    taken: dict[int, Any] = {}
    for number, value in enumerate(values):
        try:
            sink.write(checks.batch(number, [{"n": number, "v": value}]))
            taken[number] = value
        except BadEvent as error:
            text = str(error)
            assert "'v'" in text or "constraint" in text, text
            assert len(text) < 400
    sink.close()
    read = {row["n"]: row["v"] for row in checks.read_all(sql(url, table=table, key="n")) if row["n"] >= 0}
    query = {row["n"]: row["v"] for row in checks.read_all(sql(url, query=f"SELECT n, v FROM {table}", key="n"))}
    assert read.keys() == taken.keys()
    wrong = [(value, read[number]) for number, value in taken.items() if not same(value, read[number])]
    return wrong + [
        (read[number], query[number])
        for number in taken
        if repr(read[number]) != repr(query[number])
    ]


_PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
_JSON = st.recursive(
    _PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=6,
)
ANYTHING = st.one_of(
    st.integers(-(2**65), 2**65), st.floats(width=32), st.decimals(), st.decimals(-1000, 1000, places=2), st.binary(max_size=20),
    st.datetimes(), st.datetimes(timezones=st.timezones()), st.dates(), st.times(), st.times(timezones=st.just(ZONE)),
    st.timedeltas(), st.uuids(), st.integers(-128, 127).map(numpy.int8), st.floats(width=32).map(numpy.float32),
    st.integers(0, 2**64 - 1).map(numpy.uint64), _JSON,
)  # fmt: skip


def any_value_comes_back(url: str, kind: str, values: list[Any]) -> None:
    """Whatever is written to a column of a type: equal, or refused."""
    checks.execute(url, "DROP TABLE IF EXISTS anything", f"CREATE TABLE anything (n INTEGER PRIMARY KEY, v {kind})")
    assert changed(url, "anything", values) == []


def existing_columns_change_nothing(url: str, types: tuple[str, ...]) -> None:
    """A table that is there."""
    wrong = {}
    for at, kind in enumerate(types):
        checks.execute(url, f"CREATE TABLE there{at} (n INTEGER PRIMARY KEY, v {kind})")
        if found := changed(url, f"there{at}", VALUES):
            wrong[kind] = found
    assert wrong == {}, wrong


def made_columns_change_nothing(url: str) -> None:
    """A table that the sink makes by the type of a first event."""
    wrong = {}
    for at, first in enumerate(VALUES):
        sink = sql_sink(url, table=f"made{at}", create=True)
        sink.open()
        try:
            sink.write(checks.batch(0, [{"n": -1, "v": first}]))
        except BadEvent:
            sink.abort()
            continue
        sink.close()
        if found := changed(url, f"made{at}", VALUES):
            wrong[repr(first)] = found
    assert wrong == {}, wrong
