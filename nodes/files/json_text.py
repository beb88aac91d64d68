"""JSON text to values and back, by the fastest parser and writer that are exact.

Decides what Python's `json` decides: values are read as `json.loads` gives them, but a number that no float can hold is
refused, and what is written is read back equal (without spaces, letters as they are, floats as short as they can be).
msgspec parses, and `json` has the last word on what it refuses (NaN, halves of surrogate pairs, depth). orjson writes
only values of plain types, since it would also write what `json` refuses.
"""

from __future__ import annotations

import contextlib
import json
import json.encoder
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import orjson
import ormsgpack

from ..json_values import EXACT, json_default

ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=json_default)
ESCAPING = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=json_default)


#: What ormsgpack refuses then: keys that are no str, and every type that is not one of JSON's own but bytes.
_PLAIN_ONLY = (
    ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
#: A float of MessagePack that is not finite: the byte of its kind, then the sign and an exponent of ones (IEEE 754). It
#: cannot stand in a text in UTF-8; elsewhere it may by chance, and the slow writer then has the word.
_NOT_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")

#: msgspec repeats a value that is none of an enumeration; a text of ours never does.
_SHOWN_VALUE = re.compile(r"(Invalid enum value) .*?(?= - at |$)", re.DOTALL)


class LineParser:
    """Parses lines, one value each: any value, or those of a type, of which one that does not fit is refused with its field.

    Raises `TypeError` for a type that values of JSON cannot be checked by.
    """

    def __init__(self, type_: Any = None) -> None:
        self._type = type_
        self._decode = msgspec.json.Decoder(Any if type_ is None else type_).decode

    def values(self, lines: Sequence[str]) -> list[Any] | None:
        """Return the values of lines, or `None` where one of them needs a closer look."""
        try:
            return list(map(self._decode, lines))
        except (msgspec.DecodeError, RecursionError):
            return None

    def value(self, line: str) -> Any:
        """Return the value of a line; raises `ValueError` or `RecursionError` for what is none, or none of the type."""
        try:
            return self._decode(line)
        except (msgspec.DecodeError, RecursionError):
            value = EXACT.decode(line)
            return value if self._type is None else _converted(value, self._type)


def type_name(type_: Any) -> str:
    """Return the name of a type as texts and checkpoints show it."""
    return type_.__qualname__ if isinstance(type_, type) else str(type_)


def _converted(value: Any, type_: Any) -> Any:
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise ValueError(_SHOWN_VALUE.sub(r"\1", str(error))) from None


def lines_of(events: Sequence[Any]) -> bytes | None:
    """Return the lines of all events in UTF-8, or `None` where one of them needs a closer look.

    The line of an event depends on the event alone: two runs that write it in other company write the same bytes.
    """
    if _are_plain(list(events)):
        try:
            return b"".join([orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE) for event in events])
        except orjson.JSONEncodeError:
            pass
    lines = []
    for event in events:
        line = line_of(event)
        if line is None:
            return None
        lines.append(line)
    return b"".join(lines)


def line_of(event: Any) -> bytes | None:
    """Return the line of an event in UTF-8, or `None` where it needs a closer look."""
    if _are_plain(event):
        with contextlib.suppress(orjson.JSONEncodeError):  # it has less room for depth and numbers
            return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)
    try:
        # it refuses keys that are no str, at a tenth of what a check of each costs
        ormsgpack.packb(event, option=ormsgpack.OPT_SERIALIZE_NUMPY)
        return "".join([*_pieces(event), "\n"]).encode()
    except (TypeError, ValueError, RecursionError):
        return None


def _are_plain(value: Any) -> bool:
    """Whether a value has only what orjson writes as `json` does: plain types, keys that are str, finite floats."""
    try:
        return _NOT_FINITE.search(ormsgpack.packb(value, option=_PLAIN_ONLY)) is None
    except (TypeError, ValueError, RecursionError):
        return False


def _fast_encoder() -> Callable[[Any], Sequence[str]]:
    """Return a function from a value to pieces of text, without the objects that `encode` makes for each call."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return lambda value: (ENCODER.encode(value),)
    encode = make(None, ENCODER.default, json.encoder.encode_basestring, None, ":", ",", False, False, False)
    return lambda value: encode(value, 0)


_pieces = _fast_encoder()
