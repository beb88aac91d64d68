"""Which values JSON carries exactly, and how the first field that it cannot is named."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import ormsgpack

from .errors import kind_of
from .events import DeadLetter


def unfit(value: Any) -> str | None:
    """Return which field JSON cannot carry and why, or `None` if JSON carries the value.

    Carried are `None`, bool, int, finite float, str, list, tuple (as array) and dict with str keys, and subclasses of
    these as what they derive from. A field is named like `$.user.emails[0]`; its value is never shown.
    """
    try:
        return _unfit(value, "$", ())
    except RecursionError:
        return "$ is nested too deep"


def _unfit(value: Any, path: str, above: tuple[int, ...]) -> str | None:
    if value is None or isinstance(value, str | int):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{path} is a float that is not finite"
    if id(value) in above:
        return f"{path} contains itself"
    above = (*above, id(value))
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if found := _unfit(item, f"{path}[{index}]", above):
                return found
        return None
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"a key of {path} is {kind_of(key)}, not a str"
            if found := _unfit(item, path + _step(key), above):
                return found
        return None
    return f"{path} is {kind_of(value)}"


def _step(key: str) -> str:
    return f".{key}" if key.isidentifier() else f"[{json.dumps(key)}]"


def has_plain_keys(values: list[Any]) -> bool:
    """Whether every dict inside has only str keys; also false where a quick check cannot tell."""
    try:
        ormsgpack.packb(values)  # it refuses other keys, at a tenth of the cost of a look at each in python
    except (TypeError, ValueError):
        return False
    return True


def letter_fields(letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter as a dict of its fields, its event as its `repr` where JSON cannot carry it."""
    row = {field.name: getattr(letter, field.name) for field in fields(letter)}
    if unfit(letter.event) is not None:
        row["event"] = repr(letter.event)
    return row
