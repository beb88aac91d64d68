"""Checks of single arguments: whole numbers, seconds and flags.

Decides which values are accepted, what they become (plain `int` and `float`, also for numpy's numbers) and how the
text of a refusal reads. It does not know which arguments there are, nor what `None` means for one of them: a caller that
accepts `None` passes only other values.
"""

from __future__ import annotations

import math
import numbers
import operator
import reprlib
from typing import Any

from .errors import GraphError


def check_whole(where: str, name: str, value: Any, remedy: str, *, least: int = 1, most: int | None = None) -> int:
    """Return a whole number between `least` and `most` (`None`: any) as an `int`.

    Raises `GraphError` for other numbers, for booleans and for what is not an integer. `where` begins its text, `name` is
    the argument and `remedy` says what to pass.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        rule = f"{least} or more" if most is None else f"from {least} to {most}"
        raise GraphError(f"{where}: {name}={shown(value)}, but it must be a whole number, {rule}; {remedy}")
    return number


def check_seconds(
    where: str,
    name: str,
    value: Any,
    remedy: str,
    *,
    positive: bool = False,
    least: float = 0.0,
    most: float | None = None,
) -> float:
    """Return a finite number of seconds between `least` and `most` (`None`: any) as a `float`; `positive` refuses 0.

    Raises `GraphError` for other numbers, for booleans and for what is not a real number; see `check_whole`.
    """
    number = math.nan if isinstance(value, bool) or not isinstance(value, numbers.Real) else float(value)
    low = not math.isfinite(number) or number < least or (positive and number == 0)
    if low or (most is not None and number > most):
        bounds = f"{least:g} or more" if most is None else f"from {least:g} to {most:.15g}"
        rule = "more than 0" if positive else bounds
        raise GraphError(f"{where}: {name}={shown(value)}, but it must be a number of seconds, {rule}; {remedy}")
    return number


def check_flag(where: str, name: str, value: Any) -> bool:
    """Return a boolean; raises `GraphError` for anything else, also for 0 and 1."""
    if not isinstance(value, bool):
        raise GraphError(f"{where}: {name}={shown(value)}; use True or False")
    return value


def shown(value: Any) -> str:
    """Return a value as a short text for an error."""
    return reprlib.repr(value)
