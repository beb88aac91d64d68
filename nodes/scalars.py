"""Single values where only some types can be written: as an equal value of Python's own, or as a text that says all of it.

Decides that a subclass of `str`, `int` or `float` is written as what it derives from, and a scalar of numpy as the value
that it is equal to (`float64` is a `float`, so `int64`, `float32` and `bool_` are treated alike). Numpy is not needed
for it: its classes tell what they are.
"""

from __future__ import annotations

import datetime as dt
import numbers
import uuid
from pathlib import PurePath
from typing import Any

#: Types whose text says all of a value.
_EXACT = (numbers.Number, dt.date, dt.time, dt.timedelta, uuid.UUID, PurePath)
#: Kinds of numpy scalars whose text does: booleans, numbers, and times.
_EXACT_KINDS = frozenset("biufcMm")


def _is_of_numpy(value: Any) -> bool:
    return any(kind.__name__ == "generic" and kind.__module__ == "numpy" for kind in type(value).__mro__)


def plain_value(value: Any) -> Any:
    """Return the bool, int, float or str that a numpy scalar is equal to; any other value as it is."""
    if not _is_of_numpy(value):
        return value
    made = value.item()
    return made if type(made) in (bool, int, float, str) else value


def exact_text(value: Any) -> str | None:
    """Return the text that says all of a single value, or `None` for what has no such text."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, _EXACT) or (_is_of_numpy(value) and value.dtype.kind in _EXACT_KINDS):
        return str(value)
    return None
