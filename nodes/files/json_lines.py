"""JSON lines files: one event is one JSON value on a line.

Decides that blank lines are skipped, that only `\\n` ends a line, that what is read is what Python's `json` accepts,
and that nothing is written which would not be read back equal (but tuples come back as lists).
"""

from __future__ import annotations

import json
import json.encoder
from collections.abc import Callable, Sequence
from typing import Any

from ..events import DeadLetter
from ..json_values import has_plain_keys, json_default, letter_fields, unfit
from ..sinks import BadEvent
from .endpoint import FileEndpoint
from .line_blocks import split_at_newlines
from .line_cursor import LineCursor
from .streams.paths import Paths

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=json_default)
_ESCAPING = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=json_default)
#: Characters of a line from which on its numbers are not looked at one by one.
_LONG = 1000
_BLANKS = " \t\r\n"


def _in_range(text: str) -> float:
    """Return a number of JSON as a float; raises `ValueError` for one that would become infinite."""
    number = float(text)
    if number - number == 0.0:
        return number
    raise ValueError("a number is too large for a float")


_STRICT = json.JSONDecoder(parse_float=_in_range)
_DIGITS = bytes.maketrans(b"E123456789", b"e000000000")


def _may_overflow(line: str) -> bool:
    """Whether a number in a line may be too large for a float: it has an exponent of three digits, or very many digits."""
    form = line.encode("utf-8", "surrogatepass").translate(_DIGITS, b"+")
    return b"e000" in form or b"0" * 200 in form


class JsonReader:
    """Reads the values of JSON lines files."""

    def __init__(self, cursor: LineCursor) -> None:
        self._cursor = cursor
        # what JSONDecoder.decode calls for each value, without what it does around it
        self._scan: Any = _STRICT.scan_once  # type: ignore[attr-defined]
        self._scan_unchecked: Any = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
        self._failure: ValueError | None = None
        self.progress = cursor.progress
        self.close = cursor.close

    def read(self, limit: int, max_bytes: int, /) -> Sequence[Any] | None:
        """Return the next values: `None` at the end, empty when nothing is there yet.

        Raises `ValueError`, with file and line, for a line that is not JSON, after the values before it were returned.
        """
        while self._failure is None:
            lines = self._cursor.read_lines(limit, max_bytes)
            if not lines:
                return lines
            events = self._parsed(lines)
            if events:
                return events
        raise self._failure

    def position(self) -> tuple[object, ...]:
        """Return the position behind the last value returned."""
        return tuple(self._cursor.position)

    def _parsed(self, lines: list[str]) -> list[Any]:
        events: list[Any] = []
        add, scan = events.append, self._scan
        for index, line in enumerate(lines):
            try:
                value, end = (scan if len(line) < _LONG or _may_overflow(line) else self._scan_unchecked)(line, 0)
                if end == len(line):
                    add(value)
                    continue
            except (StopIteration, ValueError, RecursionError):
                pass  # the decoder below accepts the line or says what is wrong
            try:
                if line.strip(_BLANKS):
                    add(_STRICT.decode(line))
            except (ValueError, RecursionError) as error:
                self._cursor.next -= len(lines) - index
                self._failure = self._not_json(error)
                break
        return events

    def _not_json(self, error: Exception) -> ValueError:
        reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        # no __cause__: a JSONDecodeError holds the whole line
        return ValueError(
            f"cannot read {self._cursor.path}, line {self._cursor.line_number}: it is not one JSON value ({reason}); "
            "correct the line, or read with sluiceway.lines and map json.loads with on_error='dead_letter'"
        )


class JsonFile(FileEndpoint):
    """Both ends of a JSON lines file: a source of its values, a sink of events; made by `sluiceway.jsonl`."""

    maker = "jsonl"

    def __init__(self, paths: Paths, *, append: bool, follow: bool) -> None:
        super().__init__(paths, "utf-8", append, follow)

    def reader(self, position: object | None, /) -> JsonReader:
        """Open the files; raises `FileNotFoundError` for one that is not there and a pattern without a match."""
        return JsonReader(self.cursor("utf-8-sig", split_at_newlines, position))

    def write(self, events: Sequence[Any], /) -> None:
        """Write each event as a line; raises `BadEvent` for what JSON cannot carry, all before it written."""
        output = self.output()
        text = _encoded(events)
        if text is not None:
            try:
                output.write(text)
                return
            except UnicodeEncodeError:
                pass  # each event is written below, with escapes where the output needs them
        for position, event in enumerate(events):
            value = letter_fields(event) if isinstance(event, DeadLetter) else event
            reason = unfit(value)
            if reason is not None:
                raise BadEvent(
                    f"cannot write to {self!r}: {reason}, which JSON cannot carry; convert it before the sink", position
                )
            self._write_line(value, position)

    def _write_line(self, value: Any, position: int) -> None:
        output = self.output()
        try:
            line = _ENCODER.encode(value) + "\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise BadEvent(f"cannot write to {self!r}: the event is no JSON ({error})", position) from error
        try:
            output.write(line)
        except UnicodeEncodeError:  # half a surrogate pair, or a narrow terminal: an escape carries it
            output.write(_ESCAPING.encode(value) + "\n")


def _fast_encoder() -> Callable[[Any], Sequence[str]]:
    """Return a function from a value to pieces of text, without the objects that `encode` makes for each call."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return lambda value: (_ENCODER.encode(value),)
    escape = json.encoder.encode_basestring
    encode = make(None, _ENCODER.default, escape, None, ":", ",", False, False, False)
    return lambda value: encode(value, 0)


_pieces = _fast_encoder()


def _encoded(events: Sequence[Any]) -> str | None:
    """Return the lines of all events at once, or `None` where one of them needs a closer look."""
    if not has_plain_keys(list(events)):
        return None
    pieces: list[str] = []
    try:
        for event in events:
            pieces += _pieces(event)
            pieces.append("\n")
    except (TypeError, ValueError, RecursionError):
        return None
    return "".join(pieces)
