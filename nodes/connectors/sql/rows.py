"""Events as rows of a table: what is a row, which rows go in one statement, and which of them the database refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ...errors import kind_of
from ...events import DeadLetter
from ...json_values import letter_fields
from ...sinks import BadEvent, Numbers
from .column_values import Fit, Unfit, fitted
from .database import describe, lost

#: Rows of one statement.
MAX_ROWS = 1000


@dataclass(frozen=True, slots=True)
class RowChunk:
    """Consecutive rows of a batch with the same columns; `first` is the position of the first."""

    rows: list[dict[str, Any]]
    first: int
    numbers: Numbers | None


def row_of(event: Any) -> Mapping[str, Any]:
    """Return an event as a row; raises `TypeError` for one that is neither a dict nor a dead letter."""
    if isinstance(event, Mapping):
        return event
    if isinstance(event, DeadLetter):
        fields = letter_fields(event)
        if not isinstance(fields["event"], str):
            fields["event"] = json.dumps(fields["event"], ensure_ascii=False)
        return fields
    raise TypeError(f"the event is {kind_of(event)}, not a dict; map it to a dict of columns")


def with_numbers(row: Mapping[str, Any], names: tuple[str, str], number: tuple[int, int]) -> dict[str, Any]:
    """Return the row with its number; raises `ValueError` if a column of that name holds something else."""
    for name, value in zip(names, number, strict=True):
        if name in row and row[name] != value:
            raise ValueError(f"the event has a column {name!r} of its own; choose other names with numbers=")
    return {**row, **dict(zip(names, number, strict=True))}


def chunks(
    events: Sequence[Any], known: Mapping[str, Fit | None], names: tuple[str, str] | None, what: str
) -> Iterator[RowChunk]:
    """Split a batch into chunks; raises `BadEvent` for an event that is no row of `known` columns, or holds a value
    that its column would change, after those before.

    `names` are the columns for the number. Raises `ValueError` if a batch without numbers needs them.
    """
    numbers: Numbers | None = getattr(events, "numbers", None)
    if names is not None and numbers is None:
        raise ValueError(f"{what}: the columns {names} need the events' numbers, and this batch has none")
    rows: list[dict[str, Any]] = []
    first, bad = 0, ""
    position = 0
    for position, event in enumerate(events):
        try:
            row = row_of(event) if type(event) is not dict else event
            if names is not None:
                assert numbers is not None
                row = with_numbers(row, names, numbers[position])
            if not rows or len(rows) >= MAX_ROWS or row.keys() != rows[0].keys():
                _check_columns(row, known)
                if rows:
                    yield RowChunk(rows, first, numbers and numbers[first:position])
                rows, first = [], position
            rows.append(fitted(row, known))
        except Unfit as error:
            name = str(error)
            bad = (
                f"the column {name!r} does not take this {type(row[name]).__name__} as it is; convert it, or give the "
                "column another type"
            )
            break
        except (TypeError, ValueError) as error:
            bad = str(error)
            break
    end = first + len(rows)
    if rows:
        yield RowChunk(rows, first, numbers and numbers[first:end])
    if bad:
        raise BadEvent(f"{what}: {bad}", position)


def _check_columns(row: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    if not row:
        raise ValueError("the event is an empty dict; give it at least one column")
    if unknown := [name for name in row if name not in known]:
        raise ValueError(
            f"the table has no column {str(unknown[0])[:100]!r}, it has {', '.join(sorted(known))}; map the event to these"
        )


def insert(connection: sa.Connection, table: sa.Table, chunk: RowChunk, what: str) -> None:
    """Insert a chunk inside the open transaction.

    Raises `BadEvent` with the position of the first row that is refused, all before it inserted, and `ConnectionError`
    if the connection is lost.
    """
    if _insert(connection, table, chunk.rows, what) is None:
        return
    for at, row in enumerate(chunk.rows):  # again one by one, to find the row to blame
        refused = _insert(connection, table, [row], what)
        if refused is not None:
            column = unfit_column(table, row, connection.dialect)
            raise BadEvent(f"{what}: {column or refused}", chunk.first + at)


def _insert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]], what: str) -> str | None:
    """Insert rows, all or none; return what was refused."""
    gone = False
    try:
        with connection.begin_nested():
            connection.execute(table.insert(), rows)
        return None
    except (sa.exc.SQLAlchemyError, OverflowError) as error:
        gone = lost(error) or connection.invalidated
        reason = describe(error)
    if gone:
        raise ConnectionError(f"{what}: the connection is lost: {reason}; what was not committed is rolled back")
    return reason


def unfit_column(table: sa.Table, row: Mapping[str, Any], dialect: sa.Dialect) -> str | None:
    """Return the first column whose type refuses the row's value, or `None` if no type does."""
    for name, value in row.items():
        column = table.columns[name]
        process = column.type.dialect_impl(dialect).bind_processor(dialect)
        try:
            if process is not None:
                process(value)
        except Exception:  # whatever a type raises: its text may hold the value
            return f"the column {name!r} is {column.type!s} and does not take this {type(value).__name__}; convert it"
        if isinstance(value, int) and not -(2**63) <= value < 2**63 and isinstance(column.type, sa.Integer):
            return f"the column {name!r} is {column.type!s} and does not take an int of more than 64 bits; convert it"
    return None
