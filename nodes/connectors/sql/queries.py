"""The statements that read a table or query by pages, in the order of its key.

Decides the key: the columns asked for and, where these may be equal in two rows, the primary key behind them. `source`
decides which rows are settled and when to query again.

On SQLite keys are compared as they are stored: `2024-01-01 10:00:00` and `2024-01-01 10:00:00.000000` are one time but
two texts, and a position that was read as a time and written again as another text would skip rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ...errors import kind_of
from ...scalars import plain_value
from .database import is_time, reflected
from .parameters import bound
from .sqlite_types import StoredDatetime, time_form, types_of_query

_KEY, _CLOCK = "sluiceway_key", "sluiceway_clock"

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked to read; `after` is a key, or the first part of one, to begin behind."""

    table: str | None = None
    query: str | None = None
    schema: str | None = None
    key: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    where: str | None = None
    params: tuple[tuple[str, Any], ...] = ()
    after: Key | None = None


class Selection:
    """The statements for one open connection. `names` are the columns of an event, `key` those of its key.

    `unique` says whether the key is known to be different in every row; `timed`, whether its first column is a time.
    Raises `LookupError` for a table or column that is not there and a table without a key.
    """

    def __init__(self, connection: sa.Connection, wanted: Wanted, what: str) -> None:
        self._wanted = wanted
        self._sqlite = connection.dialect.name == "sqlite"
        self.params = bound(dict(wanted.params), what, sqlite=self._sqlite)
        self._what = what
        self._form: str | None = None  # of the times read so far
        self._from = self._table(connection) if wanted.query is None else self._query(connection, wanted.query)
        self.names = wanted.columns or tuple(self._from.columns.keys())
        self.key, self.unique = self._key()
        for name in (*self.names, *self.key):
            if name not in self._from.columns:
                raise LookupError(f"{what}: there is no column {name!r}, only {', '.join(self._from.columns.keys())}")
        first = self._from.columns[self.key[0]]
        self.timed = is_time(first.type)
        self._typed = [self._from.columns[name] for name in self.key]
        self._raw = [sa.type_coerce(column, sa.types.NullType()) if self._sqlite else column for column in self._typed]
        self._clock = self._age_or_now(first)

    def _table(self, connection: sa.Connection) -> sa.FromClause:
        name = self._wanted.table
        table = reflected(connection, name or "", self._wanted.schema)
        if table is None:
            raise LookupError(f"{self._what}: there is no table {name!r}; correct its name, or set schema=")
        return table

    def _query(self, connection: sa.Connection, query: str) -> sa.FromClause:
        text = query.strip().rstrip(";")
        look = sa.text(f"SELECT * FROM (\n{text}\n) AS sluiceway_query WHERE 1 = 0")
        names = list(connection.execute(look, self.params).keys())
        connection.rollback()
        types = types_of_query(connection, text, self.params) if connection.dialect.name == "sqlite" else {}
        columns = (sa.column(name, types.get(name)) for name in names)
        # a line of its own: the query may end in a comment
        return sa.text(f"{text}\n").columns(*columns).subquery("sluiceway_query")

    def _key(self) -> tuple[Key, bool]:
        primary = tuple(column.name for column in self._from.primary_key) if isinstance(self._from, sa.Table) else ()
        key = self._wanted.key or primary
        if not key:
            raise LookupError(f"{self._what}: the table has no primary key; say with key= which columns order its rows")
        if any(set(names) <= set(key) for names in self._uniques()):
            return key, True
        return (*key, *(name for name in primary if name not in key)), bool(primary)

    def _uniques(self) -> Iterator[tuple[str, ...]]:
        """Return the columns of each unique constraint."""
        if not isinstance(self._from, sa.Table):
            return
        for constraint in self._from.constraints:
            if isinstance(constraint, sa.UniqueConstraint | sa.PrimaryKeyConstraint) and len(constraint.columns):
                yield tuple(column.name for column in constraint.columns)

    def _age_or_now(self, first: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Return an expression for the age of a row: seconds (SQLite), or the database's clock as a value of the key."""
        if not self.timed:
            return sa.literal_column("0")
        if self._sqlite:
            return (sa.func.julianday("now") - sa.func.julianday(self._raw[0])) * 86400.0
        zoned = getattr(first.type, "timezone", False)
        return sa.func.current_timestamp() if zoned else sa.func.localtimestamp()

    # -- statements -------------------------------------------------------------------------------------------------

    def page(self, after: Key | None, upto: Key | None, limit: int) -> sa.Select[Any]:
        """Select the first rows behind `after` (`None`: where the user wants to begin), up to `upto`."""
        statement = self._rows(clock=True).where(*self._from_where(after)).order_by(*self._raw).limit(limit)
        return statement if upto is None else statement.where(_up_to(self._raw, upto))

    def top(self, after: Key | None) -> sa.Select[Any]:
        """Select the highest key behind `after`."""
        keys = sa.select(*(raw.label(f"{_KEY}{at}") for at, raw in enumerate(self._raw)))
        statement: sa.Select[Any] = keys.select_from(self._from).where(*self._from_where(after))
        return statement.order_by(*(raw.desc() for raw in self._raw)).limit(1)

    def between(self, first: Key, last: Key, after: Key | None, limit: int) -> sa.Select[Any]:
        """Select the first rows from `first` to `last` and behind `after`, whatever `where` says by now."""
        begin = _from(self._raw, first) if after is None else _beyond(self._raw, after)
        return self._rows().where(begin, _up_to(self._raw, last)).order_by(*self._raw).limit(limit)

    def split(self, row: Sequence[Any]) -> tuple[dict[str, Any], Key]:
        """Return the event and the key of a row that one of these statements has selected."""
        width = len(self.names)
        return dict(zip(self.names, row, strict=False)), tuple(row[width : width + len(self.key)])

    def check_form(self, key: Key) -> None:
        """Raise `ValueError` for a time of SQLite that has another form than those before: their order is not that of texts."""
        if not (self._sqlite and self.timed) or (form := time_form(key[0])) is None:
            return
        if self._form is None:
            self._form = form
        elif self._form != form:
            raise ValueError(
                f"{self._what}: column {self.key[0]!r} holds times in more than one form, and SQLite compares them as texts, so "
                "that rows would be missed or come twice; bring them into one form, or take another key"
            )

    def ends(self) -> list[sa.Select[Any]]:
        """Return the statements for the lowest and the highest key, where `after` is compared with times of SQLite."""
        if self._wanted.after is None or not (self._sqlite and self.timed):
            return []
        first = self._wanted.after[0]
        if not isinstance(first, datetime):
            raise ValueError(f"{self._what}: column {self.key[0]!r} holds times, after= is {kind_of(first)}; pass a datetime")
        self.check_form((StoredDatetime("DATETIME", "").store(first),))
        keys = sa.select(self._raw[0]).select_from(self._from).where(self._raw[0].is_not(None)).limit(1)
        return [keys.order_by(self._raw[0]), keys.order_by(self._raw[0].desc())]

    def age_s(self, row: Sequence[Any]) -> float:
        """Return how long ago the time in the key of a row of `page` was, in seconds by the database's clock."""
        clock, value = row[-1], row[len(self.names)]
        if self._sqlite:
            if clock is None:
                raise ValueError(f"{self._what}: column {self.key[0]!r} holds what is no time; settle_s needs times")
            return float(clock)
        return float((clock - value).total_seconds())

    def _rows(self, *, clock: bool = False) -> sa.Select[Any]:
        keys = [raw.label(f"{_KEY}{at}") for at, raw in enumerate(self._raw)]
        columns = [self._from.columns[name] for name in self.names]
        last = [self._clock.label(_CLOCK)] if clock else []
        return sa.select(*columns, *keys, *last).select_from(self._from)

    def _from_where(self, after: Key | None) -> Iterator[sa.ColumnElement[bool]]:
        for column in self._typed:
            if getattr(column, "nullable", True):
                yield column.is_not(None)
        if self._wanted.where is not None:
            yield sa.text(f"(\n{self._wanted.where}\n)")  # type: ignore[misc]
        if after is not None:
            yield _beyond(self._raw, after)
        elif self._wanted.after is not None:
            yield _beyond(self._typed, tuple(map(plain_value, self._wanted.after)))


def _beyond(columns: Sequence[Any], values: Sequence[Any], below: bool = False) -> sa.ColumnElement[bool]:
    """Return the condition that the first columns come behind `values` (or before), column by column.

    Written out, for not every database compares rows; the first column alone lets the database use an index.
    """
    column, value = columns[0], values[0]
    behind: sa.ColumnElement[bool] = column < value if below else column > value
    if len(values) == 1:
        return behind
    rest = sa.and_(column == value, _beyond(columns[1:], values[1:], below))
    lead = column <= value if below else column >= value
    return sa.and_(lead, sa.or_(behind, rest))


def _from(columns: Sequence[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    return sa.and_(columns[0] >= values[0], sa.not_(_beyond(columns, values, below=True)))


def _up_to(columns: Sequence[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    return sa.and_(columns[0] <= values[0], sa.not_(_beyond(columns, values)))
