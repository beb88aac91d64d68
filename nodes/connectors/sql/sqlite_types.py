"""Types for columns of SQLite, which holds integers, floats, texts and bytes only: exact both ways, or refused.

Decides how times, decimals and booleans are stored, and that a stored value which is none of its column's type is an
error that names the column, never another value.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa

from ...errors import with_article
from ...json_values import json_default

_VIEW = "sluiceway_types"


class NotOfItsType(ValueError):
    """A stored value that is none of its column's type; the text names the column and no value."""


class Stored(sa.types.UserDefinedType[Any]):
    """A column's type by what it stores and what that means."""

    cache_ok = True

    def __init__(self, spec: str, column: str) -> None:
        self.spec = spec
        self.column = column

    def get_col_spec(self, **_: Any) -> str:
        return self.spec

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[Any], Any]:
        return lambda value: None if value is None else self.store(value)

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Callable[[Any], Any]:
        def process(value: Any) -> Any:
            if value is None:
                return None
            try:
                return self.load(value)
            except (TypeError, ValueError, ArithmeticError, RecursionError):
                kind = with_article(type(value).__name__)
            raise NotOfItsType(
                f"column {self.column!r} is {self.spec} and a row holds {kind} in it that is none; correct the row "
                f"(typeof({self.column}) finds it), or read it with query= and CAST"
            )

        return process

    def store(self, value: Any) -> Any:
        """Return what is stored for a value."""
        return value

    def load(self, value: Any) -> Any:
        """Return what a stored value means; raises for one that means nothing."""
        return value


class StoredBoolean(Stored):
    """0 and 1."""

    cache_ok = True

    def store(self, value: Any) -> Any:
        return int(value)

    def load(self, value: Any) -> Any:
        if value not in (0, 1):
            raise ValueError
        return bool(value)


class StoredDecimal(Stored):
    """An integer, or the float whose shortest text is the number."""

    cache_ok = True

    def store(self, value: Any) -> Any:
        return exact_number(decimal.Decimal(value))

    def load(self, value: Any) -> Any:
        if not isinstance(value, int | float):
            raise TypeError
        return decimal.Decimal(repr(value))


class StoredDatetime(Stored):
    """A text `YYYY-MM-DD HH:MM:SS.ffffff`; a time with a zone is stored in UTC, and its text ends with `+00:00`."""

    cache_ok = True

    def store(self, value: Any) -> Any:
        if not isinstance(value, dt.datetime):
            raise TypeError(f"{with_article(type(value).__name__)} is no date and time")
        if value.tzinfo is not None:
            value = value.astimezone(dt.UTC)
        return value.isoformat(" ", "microseconds")

    def load(self, value: Any) -> Any:
        return dt.datetime.fromisoformat(value)


class StoredDate(Stored):
    """A text `YYYY-MM-DD`."""

    cache_ok = True

    def store(self, value: Any) -> Any:
        if not isinstance(value, dt.date) or isinstance(value, dt.datetime):
            raise TypeError(f"{with_article(type(value).__name__)} is no date")
        return value.isoformat()

    def load(self, value: Any) -> Any:
        return dt.date.fromisoformat(value)


class StoredTime(Stored):
    """A text `HH:MM:SS.ffffff`."""

    cache_ok = True

    def store(self, value: Any) -> Any:
        if not isinstance(value, dt.time):
            raise TypeError(f"{with_article(type(value).__name__)} is no time of day")
        return value.isoformat("microseconds")

    def load(self, value: Any) -> Any:
        return dt.time.fromisoformat(value)


class StoredJson(Stored):
    """A text of JSON; numbers become numbers, for the column compares as one."""

    cache_ok = True

    def store(self, value: Any) -> Any:
        return json.dumps(value, allow_nan=False, default=json_default)

    def load(self, value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError
        return value if isinstance(value, int | float) else json.loads(value)


class StoredBytes(Stored):
    """Bytes, or whatever else stands there: the column converts nothing."""

    cache_ok = True


def exact_number(value: decimal.Decimal) -> int | float:
    """Return the number that SQLite holds for a decimal exactly; raises `ValueError` if there is none."""
    if value.is_finite():
        if value == value.to_integral_value() and -(2**63) <= value < 2**63:
            return int(value)
        near = float(value)
        if decimal.Decimal(repr(near)) == value:
            return near
    raise ValueError("not a number that SQLite holds exactly")


def exact_type(kind: Any, column: str) -> Any:
    """Return the type to use for a column of SQLite, by the type that was looked up: one that changes no value."""
    for of_sqlalchemy, stored, spec in _STORED:
        if isinstance(kind, of_sqlalchemy) and not isinstance(kind, sa.Float):
            return stored(spec, column)
    return kind


#: By what a column is looked up, and which type it has here, with the name that SQLite knows.
_STORED: tuple[tuple[type, type[Stored], str], ...] = (
    (sa.DateTime, StoredDatetime, "DATETIME"),
    (sa.Date, StoredDate, "DATE"),
    (sa.Time, StoredTime, "TIME"),
    (sa.Numeric, StoredDecimal, "NUMERIC"),
    (sa.Boolean, StoredBoolean, "BOOLEAN"),
    (sa.JSON, StoredJson, "JSON"),
    (sa.LargeBinary, StoredBytes, "BLOB"),
    (sa.types.NullType, Stored, ""),
)

_TIME = re.compile(r"\d{4}-\d\d-\d\d([ T])\d\d:\d\d(:\d\d)?(\.\d+)?(.*)")


def time_form(stored: Any) -> str | None:
    """Return the form of a stored time, as far as texts of one form are in the order of their times; `None` for a date.

    A zone behind the digits makes `12:00:00Z` come behind `12:00:00.5Z`, so there the number of digits is part of the form.
    """
    found = _TIME.fullmatch(stored) if isinstance(stored, str) else None
    if found is None:
        return None if isinstance(stored, str) and len(stored) == 10 else type(stored).__name__
    separator, seconds, fraction, zone = found.groups()
    return f"{separator}{zone}{len(seconds or '')}{len(fraction or '')}" if zone else separator


def types_of_query(connection: sa.Connection, query: str, params: Iterable[str]) -> dict[str, Any]:
    """Return the types of a query's columns that are columns of a table, as a view of it tells them, without its rows."""
    nothing = sa.text(query).bindparams(**dict.fromkeys(params))
    text = nothing.compile(connection, compile_kwargs={"literal_binds": True}).string
    connection.exec_driver_sql(f"CREATE TEMP VIEW {_VIEW} AS {text}")
    try:
        declared = connection.exec_driver_sql(f"PRAGMA temp.table_info({_VIEW})").all()
        known = sa.inspect(connection).get_columns(_VIEW, schema="temp")
    finally:
        connection.exec_driver_sql(f"DROP VIEW {_VIEW}")
    found = {column["name"]: column["type"] for column in known}
    # for a computed column SQLite tells no type but, in later versions, how it would compare: NUM
    return {row[1]: exact_type(found[row[1]], row[1]) for row in declared if row[2] not in ("", "NUM")}
