"""Which values JSON carries exactly, how the first field that it cannot carry is named, and JSON from outside.

Decides that a text from outside is accepted only if every sink and database can hold what it says.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields
from typing import Any

from .errors import kind_of
from .events import DeadLetter
from .scalars import plain_value

#: Characters of a name that an error repeats.
_LONGEST = 60


def unfit(value: Any) -> str | None:
    """Return which field JSON cannot carry and why, or `None` if JSON carries the value.

    Carried are `None`, bool, int, finite float, str, list, tuple (as array) and dict with str keys, subclasses of these as
    what they derive from, and numpy's scalars as the value that they are equal to. A field is named like
    `$.user.emails[0]`; its value is never shown.
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
    plain = plain_value(value)
    return _unfit(plain, path, above) if plain is not value else f"{path} is {kind_of(value)}"


def json_default(value: Any) -> Any:
    """Return the plain value of a numpy scalar, as `default` of an encoder of JSON; raises `TypeError` for any other."""
    plain = plain_value(value)
    if plain is value:
        raise TypeError(f"JSON cannot carry {kind_of(value)}")
    return plain


def _step(key: str) -> str:
    if len(key) > _LONGEST:
        key = key[:_LONGEST] + "..."
    return f".{key}" if key.isidentifier() else f"[{json.dumps(key)}]"


def _in_range(text: str) -> float:
    """Return a number of JSON as a float; raises `ValueError` for one that would become infinite."""
    number = float(text)
    if number - number == 0.0:
        return number
    raise ValueError("a number is too large for a float")


#: Reads JSON as Python does, but for numbers that no float can hold.
EXACT = json.JSONDecoder(parse_float=_in_range)


def parsed(body: bytes, max_depth: int) -> Any:
    """Return the value of a JSON text from outside; raises `ValueError`, whose text repeats nothing of it, for any other.

    Accepted is what every sink and database can hold: values nested up to `max_depth` deep, finite numbers, whole ones of
    up to 64 bits, text of whole characters without NUL, and no name twice in one object.
    """
    deep = ValueError(f"values are nested more than {max_depth} deep")
    try:
        text = body.decode(json.detect_encoding(body))
        if _is_deeper(text, max_depth):  # looked at first: the parser's own stack may end the process
            raise deep
        value = json.loads(
            text, parse_constant=_no_number, parse_float=_finite, parse_int=_whole, object_pairs_hook=_object
        )
        _check_outside(value)
    except RecursionError:
        raise deep from None
    except (json.JSONDecodeError, UnicodeError):
        raise ValueError("the body is not JSON") from None
    return value


_TOKENS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def _is_deeper(text: str, most: int) -> bool:
    """Whether more than `most` brackets are open at once anywhere in a text of JSON."""
    depth = 0
    for token in _TOKENS.finditer(text):
        first = text[token.start()]
        if first in "[{":
            depth += 1
            if depth > most:
                return True
        elif first in "]}":
            depth -= 1
    return False


def _no_number(text: str) -> Any:
    raise ValueError("a number of JSON is finite")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _whole(text: str) -> int:
    if len(text) <= 20 and -(2**63) <= (number := int(text)) < 2**63:
        return number
    raise ValueError("whole numbers have 64 bits at most")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("an object has a name twice")
    return made


def _check_outside(value: Any) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("a text has a NUL")
        value.encode()
    elif isinstance(value, dict | list):
        for inner in value if isinstance(value, list) else (*value, *value.values()):
            _check_outside(inner)


def letter_fields(letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter as a dict of its fields, its event as its `repr` where JSON cannot carry it."""
    row = {field.name: getattr(letter, field.name) for field in fields(letter)}
    if unfit(letter.event) is not None:
        row["event"] = repr(letter.event)
    return row
