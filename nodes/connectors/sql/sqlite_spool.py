"""Rows for an SQLite file between two commits: in a temporary table, so that the file is locked only briefly.

An SQLite file has one writer at a time. A transaction that stayed open from commit to commit would lock out every
other program, and the other sinks of the same graph. So rows wait in SQLite's temporary database, which only this
connection sees, and are moved in one short transaction. Rows are checked as far as possible when they are added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ...sinks import BadEvent
from .database import begin, describe
from .rows import RowChunk, insert

_SPOOL = "sluiceway_spool"
_AT, _SEQ, _INDEX = "sluiceway_at", "sluiceway_seq", "sluiceway_index"


class RefusedRow(ValueError):
    """A row that the database refused when it was to be committed; `(seq, index)` is its event, if known."""

    def __init__(self, message: str, seq: int | None, index: int | None) -> None:
        super().__init__(message)
        self.seq = seq
        self.index = index


@dataclass(slots=True)
class _Stretch:
    """Rows `first .. last` of the spool, all with the same columns."""

    columns: tuple[str, ...]
    first: int
    last: int


class Spool:
    """The rows that are not committed yet. While a transaction is open, only `apply` may be called."""

    def __init__(self, connection: sa.Connection, table: sa.Table, what: str) -> None:
        self._connection = connection
        self._table = table
        self._what = what
        self._next = 0
        self._stretches: list[_Stretch] = []
        self._unique = [columns for columns in _unique_keys(table) if columns]
        self._required = [
            column.name
            for column in table.columns
            if not column.nullable and not column.primary_key and column.computed is None
        ]
        self._spool = self._make()

    def _make(self) -> sa.Table:
        columns = [sa.Column(column.name, column.type) for column in self._table.columns]
        spool = sa.Table(
            _SPOOL,
            sa.MetaData(),
            sa.Column(_AT, sa.Integer, primary_key=True),
            sa.Column(_SEQ, sa.Integer),
            sa.Column(_INDEX, sa.Integer),
            *columns,
            prefixes=["TEMPORARY"],
        )
        for at, names in enumerate(self._unique):
            sa.Index(f"{_SPOOL}_{at}", *(spool.columns[name] for name in names), unique=True)
        with begin(self._connection, write=False):
            spool.create(self._connection, checkfirst=False)
        return spool

    def add(self, chunk: RowChunk) -> None:
        """Add rows; raises `BadEvent` for the first that breaks a rule which can be checked now, all before it added."""
        first = self._next
        numbers: Sequence[tuple[int | None, int | None]] = chunk.numbers or [(None, None)] * len(chunk.rows)
        rows = [
            {**row, _AT: at, _SEQ: seq, _INDEX: index}
            for at, (row, (seq, index)) in enumerate(zip(chunk.rows, numbers, strict=True), first)
        ]
        refused: BadEvent | None = None
        with begin(self._connection, write=False):
            try:
                insert(self._connection, self._spool, RowChunk(rows, chunk.first, None), self._what)
            except BadEvent as error:
                text = str(error).replace(f"{_SPOOL}.", f"{self._table.name}.")
                refused = BadEvent(text, error.position)
        taken = len(rows) if refused is None else refused.position - chunk.first
        columns = tuple(chunk.rows[0])
        broken = self._first_broken(columns, first) if taken else None
        if broken is not None and broken[0] < first + taken:
            taken = broken[0] - first
            refused = BadEvent(f"{self._what}: {broken[1]}", chunk.first + taken)
            with begin(self._connection, write=False):
                self._connection.execute(self._spool.delete().where(self._spool.c[_AT] >= first + taken))
        self._record(columns, first, first + taken - 1)
        if refused is not None:
            raise refused

    def _record(self, columns: tuple[str, ...], first: int, last: int) -> None:
        self._next = last + 1
        if last < first:
            return
        if self._stretches and set(self._stretches[-1].columns) == set(columns):
            self._stretches[-1].last = last
        else:
            self._stretches.append(_Stretch(columns, first, last))

    def _first_broken(self, columns: tuple[str, ...], first: int) -> tuple[int, str] | None:
        """Return the first row from `first` on that the table itself would refuse, and why."""
        found = []
        with begin(self._connection, write=False):
            for rule, condition in self._conditions(columns):
                statement = sa.select(sa.func.min(self._spool.c[_AT])).where(self._spool.c[_AT] >= first, condition)
                at = self._connection.execute(statement).scalar_one()
                if at is not None:
                    found.append((at, rule))
        return min(found, default=None)

    def _conditions(self, columns: tuple[str, ...]) -> Iterator[tuple[str, sa.ColumnElement[bool]]]:
        for name in self._required:
            if name in columns:
                yield f"NOT NULL constraint failed: {self._table.name}.{name}", self._spool.c[name].is_(None)
        for names in self._unique:
            if set(names) <= set(columns):
                same = sa.and_(*(self._table.c[name] == self._spool.c[name] for name in names))
                there = sa.select(sa.literal(1)).select_from(self._table).where(same).correlate(self._spool).exists()
                yield f"UNIQUE constraint failed: {', '.join(f'{self._table.name}.{name}' for name in names)}", there

    def apply(self) -> None:
        """Move all rows into the table inside the open transaction; raises `RefusedRow` for the first refused."""
        for stretch in self._stretches:
            if self._moved(stretch.columns, stretch.first, stretch.last) is not None:
                raise self._refused(stretch)
        self._connection.execute(self._spool.delete())

    def applied(self) -> None:
        """Record that the transaction of the last `apply` is committed."""
        self._stretches.clear()
        self._next = 0

    def _moved(self, columns: tuple[str, ...], first: int, last: int) -> str | None:
        """Move rows, all or none; return what was refused."""
        picked = sa.select(*(self._spool.c[name] for name in columns)).where(self._spool.c[_AT].between(first, last))
        statement = self._table.insert().from_select(list(columns), picked.order_by(self._spool.c[_AT]))
        try:
            with self._connection.begin_nested():
                self._connection.execute(statement)
        except sa.exc.IntegrityError as error:
            return describe(error)
        return None

    def _refused(self, stretch: _Stretch) -> RefusedRow:
        """Find the first refused row by bisection; the transaction must be rolled back."""
        first, last = stretch.first, stretch.last
        while first < last:
            middle = (first + last) // 2
            if self._moved(stretch.columns, first, middle) is None:
                first = middle + 1
            else:
                last = middle
        reason = self._moved(stretch.columns, first, first) or "a rule over several rows"
        one: Any = self._connection.execute(
            sa.select(self._spool.c[_SEQ], self._spool.c[_INDEX]).where(self._spool.c[_AT] == first)
        ).one()
        of = f"number {one[0]} (index {one[1]})" if one[0] is not None else f"row {first} since the last commit"
        return RefusedRow(f"{self._what}: {of} was refused when it was to be committed: {reason}", one[0], one[1])


def _unique_keys(table: sa.Table) -> Iterator[tuple[str, ...]]:
    """Return the column names of the primary key and of every unique constraint that holds for all rows."""
    yield tuple(column.name for column in table.primary_key)
    for constraint in table.constraints:
        if isinstance(constraint, sa.UniqueConstraint):
            yield tuple(column.name for column in constraint.columns)
    for index in table.indexes:
        partial = index.dialect_options["sqlite"].get("where") is not None
        names = tuple(part.name for part in index.expressions if isinstance(part, sa.Column))
        if index.unique and not partial and len(names) == len(index.expressions):
            yield names
