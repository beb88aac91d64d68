"""The values for `:name` in a condition or query, as the database compares them.

Decides that SQLite is given times, dates and decimals in the very form in which a sink stores them, and what is refused
since it would compare with nothing. Pure.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from ...errors import GraphError, kind_of
from ...scalars import plain_value
from .sqlite_types import StoredDate, StoredDatetime, StoredTime, exact_number

_LARGE = 2**63


def check_names(text: str, params: Mapping[str, Any], what: str) -> None:
    """Raise `GraphError` for a `:name` in a condition or query that has no value."""
    missing = [name for name in sa.text(text).compile().params if name not in params]
    if missing:
        raise GraphError(
            f"{what}: :{missing[0]} has no value in params=; give it one, or write \\:{missing[0]} where the colon is text"
        )


def bound(params: Mapping[str, Any], what: str, *, sqlite: bool) -> dict[str, Any]:
    """Return the values to bind; raises `GraphError` for one that SQLite cannot compare with what it stores."""
    plain = {name: plain_value(value) for name, value in params.items()}
    return {name: _of_sqlite(name, value, what) for name, value in plain.items()} if sqlite else plain


def _of_sqlite(name: str, value: Any, what: str) -> Any:
    try:
        return _stored(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise GraphError(f"{what}: SQLite cannot compare {kind_of(value)} such as that of :{name}; convert it")


def _stored(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return StoredDatetime("DATETIME", "").store(value)
    if isinstance(value, dt.date):
        return StoredDate("DATE", "").store(value)
    if isinstance(value, dt.time):
        return StoredTime("TIME", "").store(value)
    if isinstance(value, decimal.Decimal):
        return exact_number(value)
    if isinstance(value, int):
        if not -_LARGE <= value < _LARGE:
            raise OverflowError
        return int(value)
    if value is None or isinstance(value, float | str | bytes):
        return value
    raise TypeError
