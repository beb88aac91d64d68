"""Which values a column takes without changing them.

Decides, from the type of a column, what is written as it is, what is written as an equal value of another type (an
integer of numpy as an integer), and what is refused since the database would round, cut, convert or relabel it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import json
import math
import operator
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import DOMAIN, INTERVAL, MONEY

from ...json_values import json_default
from ...scalars import plain_value
from .sqlite_types import (
    StoredBoolean,
    StoredBytes,
    StoredDate,
    StoredDatetime,
    StoredDecimal,
    StoredJson,
    StoredTime,
    exact_number,
)

Fit = Callable[[Any], Any]
_SMALL, _WHOLE, _LARGE = 2**15, 2**31, 2**63


class Unfit(ValueError):
    """A value that the column would change."""


def fit_of(kind: Any, *, sqlite: bool) -> Fit | None:
    """Return the function that gives the value to write for a value, or raises `Unfit`; `None`: whatever is there."""
    if isinstance(getattr(kind, "item_type", kind), DOMAIN | MONEY):
        return lambda value: _refused()  # how it rounds is not known here, or what it gives back is another value
    if isinstance(kind, sa.JSON | StoredJson):
        return lambda value: _json(value, sqlite)
    if isinstance(kind, sa.ARRAY):
        item = fit_of(kind.item_type, sqlite=sqlite)
        return None if item is None else lambda value: _array(value, item)
    if isinstance(kind, StoredBoolean | sa.Boolean):
        return _boolean
    if isinstance(kind, sa.Integer):
        small = sqlite or isinstance(kind, sa.BigInteger)
        limit = _LARGE if small else _SMALL if isinstance(kind, sa.SmallInteger) else _WHOLE
        return lambda value: _integer(value, limit)
    if isinstance(kind, sa.Float):
        return lambda value: _float(value, nan=not sqlite, single=not sqlite and isinstance(kind, sa.REAL))
    if isinstance(kind, StoredDecimal):
        return lambda value: _exactly(_decimal(value, None, None))
    if isinstance(kind, sa.Numeric):
        return lambda value: _decimal(value, kind.precision, kind.scale)
    return _fit_of_others(kind, sqlite)


def _fit_of_others(kind: Any, sqlite: bool) -> Fit | None:
    if isinstance(kind, StoredDatetime):
        return lambda value: _moment(value, dt.datetime)
    if isinstance(kind, StoredTime):
        return lambda value: _zoned(_moment(value, dt.time), False)
    if isinstance(kind, sa.Date | StoredDate):
        return lambda value: _moment(value, dt.date)
    digits = getattr(kind, "precision", None)  # of a second, in PostgreSQL
    if isinstance(kind, sa.DateTime):
        return lambda value: _rounded(_zoned(_moment(value, dt.datetime), kind.timezone), digits)
    if isinstance(kind, sa.Time):
        return lambda value: _rounded(_zoned(_moment(value, dt.time), kind.timezone), digits)
    if isinstance(kind, INTERVAL) and kind.fields is not None:
        return lambda value: _refused()  # it drops what is smaller than its last field
    if isinstance(kind, sa.Interval | INTERVAL):
        return lambda value: _rounded(_moment(value, dt.timedelta), digits)
    if isinstance(kind, sa.Uuid):
        return lambda value: _same(value, uuid.UUID)
    if isinstance(kind, sa.LargeBinary | StoredBytes):
        return _binary
    if isinstance(kind, sa.Enum):
        return _text
    if isinstance(kind, sa.String):
        if sqlite:
            return _text
        return lambda value: _without_nul(_text(value, kind.length, isinstance(kind, sa.CHAR)))
    return _plain if sqlite else None


def fitted(row: Mapping[str, Any], fits: Mapping[str, Fit | None]) -> dict[str, Any]:
    """Return a row as it is to be written; raises `Unfit`, whose text is the name of the column."""
    made: dict[str, Any] = {}
    for name, value in row.items():
        fit = fits[name]
        try:
            made[name] = value if value is None or fit is None else fit(value)
        except Exception:  # also what the value's own code raises: its text may hold the value
            made[name] = _as_plain(value, name, fit)
    return made


def _as_plain(value: Any, name: str, fit: Fit | None) -> Any:
    """Return what to write for a scalar of numpy; raises `Unfit` with the name of the column."""
    with contextlib.suppress(Exception):
        plain = plain_value(value)
        if fit is not None and plain is not value:
            return fit(plain)
    raise Unfit(name)


def _same(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise Unfit
    return value


def _plain(value: Any) -> Any:
    """A column of SQLite without a type keeps these as they are."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _integer(value, _LARGE)
    if isinstance(value, float):
        return _float(value, nan=False, single=False)
    return _binary(value) if isinstance(value, bytes) else _text(value)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool) or (type(value) is int and value in (0, 1)):
        return bool(value)
    raise Unfit


def _integer(value: Any, limit: int) -> int:
    if isinstance(value, float | decimal.Decimal):
        whole = int(value)
    else:
        whole = operator.index(value)
    if whole != value or not -limit <= whole < limit:
        raise Unfit
    return whole


def _float(value: Any, *, nan: bool, single: bool) -> float:
    if isinstance(value, bool) or not isinstance(value, float | int | decimal.Decimal):
        value = _integer(value, _LARGE) if not isinstance(value, bool) else _refused()
    made = float(value)
    if math.isnan(made) and isinstance(value, float) and nan:
        return made
    if made != value or (single and math.isfinite(made) and float(f"{made:.6g}") != made):
        raise Unfit
    if single and made and math.isfinite(made) and not 1e-37 < abs(made) < 3e38:
        raise Unfit
    return made


def _refused() -> Any:
    raise Unfit


def _decimal(value: Any, precision: int | None, scale: int | None) -> decimal.Decimal:
    if isinstance(value, float):
        made = decimal.Decimal(repr(float(value)))
    elif isinstance(value, decimal.Decimal):
        made = value
    else:
        made = decimal.Decimal(_refused() if isinstance(value, bool) else operator.index(value))
    if not made.is_finite() or made != value:
        raise Unfit
    digits, exponent = made.as_tuple().digits, int(made.as_tuple().exponent)
    while exponent < 0 and digits and digits[-1] == 0:
        digits, exponent = digits[:-1], exponent + 1
    if precision is not None and made and (
        -exponent > (scale or 0) or made.adjusted() + 1 > precision - (scale or 0)
    ):
        raise Unfit
    return made


def _exactly(value: decimal.Decimal) -> decimal.Decimal:
    exact_number(value)
    return value


def _moment(value: Any, kind: type) -> Any:
    """Return a date, time or span as one of `kind` itself: what a subclass holds beyond it must not be lost."""
    if type(value) is kind:
        return value
    if not isinstance(value, kind) or (kind is dt.date and isinstance(value, dt.datetime)):
        raise Unfit
    plain: Any = value.to_pydatetime(warn=False) if hasattr(value, "to_pydatetime") else kind.__new__(kind, *_fields(value))
    if type(plain) is not kind or plain != value:
        raise Unfit
    return plain


def _fields(value: Any) -> tuple[Any, ...]:
    if isinstance(value, dt.datetime):
        return (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, value.tzinfo)
    if isinstance(value, dt.date):
        return (value.year, value.month, value.day)
    if isinstance(value, dt.time):
        return (value.hour, value.minute, value.second, value.microsecond, value.tzinfo)
    return (value.days, value.seconds, value.microseconds)


def _zoned(value: Any, zoned: bool) -> Any:
    if (value.tzinfo is not None) != zoned:
        raise Unfit
    return value


def _rounded(value: Any, digits: int | None) -> Any:
    """Return a time unless a column that keeps only `digits` digits of a second would round it."""
    micros = value.microseconds if isinstance(value, dt.timedelta) else value.microsecond
    if digits is not None and micros % 10 ** (6 - digits):
        raise Unfit
    return value


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise Unfit
    return text


def _binary(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise Unfit
    return bytes(value)


def _text(value: Any, length: int | None = None, padded: bool = False) -> str:
    if not isinstance(value, str):
        raise Unfit
    text = str.__str__(value)
    if text != value or (length is not None and (len(text) > length or (padded and len(text) < length))):
        raise Unfit
    text.encode()
    return text


def _array(value: Any, item: Fit) -> list[Any]:
    if type(value) is not list:
        raise Unfit
    return [_array(one, item) if type(one) is list else None if one is None else item(one) for one in value]


def _json(value: Any, sqlite: bool) -> Any:
    value = plain_value(value)
    text = json.dumps(value, allow_nan=False, default=json_default)
    made = json.loads(text)
    if made != value or (not sqlite and "\\u0000" in text):
        raise Unfit
    if sqlite and isinstance(made, int) and not -_LARGE <= made < _LARGE:
        raise Unfit  # the column's affinity would make a float of it
    if not sqlite:
        json.dumps(made, ensure_ascii=False).encode()  # raises for half of a surrogate pair
        _check_numbers(made)
    return made


def _check_numbers(value: Any) -> None:
    """PostgreSQL keeps numbers as decimals: a large float comes back as the integer that its text names."""
    if isinstance(value, float) and abs(value) >= 2**53 and decimal.Decimal(repr(value)) != value:
        raise Unfit
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_numbers(inner)
