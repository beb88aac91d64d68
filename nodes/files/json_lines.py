"""JSON lines files: one event is one JSON value on a line.

Decides that blank lines are skipped, that only `\\n` ends a line, that what is read is what Python's `json` accepts,
and that nothing is written which would not be read back equal (but tuples come back as lists).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..errors import GraphError
from ..events import DeadLetter
from ..json_values import letter_fields, unfit
from ..sinks import BadEvent
from .endpoint import FileEndpoint
from .json_text import ENCODER, ESCAPING, LineParser, lines_of, type_name
from .line_blocks import split_at_newlines
from .line_cursor import LineCursor
from .streams.paths import STANDARD, Paths

_BLANKS = " \t\r\n"


class JsonReader:
    """Reads the values of JSON lines files."""

    gives_own = True

    def __init__(self, cursor: LineCursor, type_: Any) -> None:
        self._cursor = cursor
        self._type = type_
        self._parser = LineParser(type_)
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
        values = self._parser.values(lines)
        if values is not None:
            return values
        events: list[Any] = []
        for index, line in enumerate(lines):
            if not line.strip(_BLANKS):
                continue
            try:
                events.append(self._parser.value(line))
            except (ValueError, RecursionError) as error:
                self._cursor.next -= len(lines) - index
                self._failure = self._not_json(error)
                break
        return events

    def _not_json(self, error: Exception) -> ValueError:
        reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        wanted = "not one JSON value" if self._type is None else f"no {type_name(self._type)}"
        # no __cause__: a JSONDecodeError holds the whole line
        return ValueError(
            f"cannot read {self._cursor.path}, line {self._cursor.line_number}: it is {wanted} ({reason}); "
            "correct the line, or read with sluiceway.lines and map json.loads with on_error='dead_letter'"
        )


class JsonFile(FileEndpoint):
    """Both ends of a JSON lines file: a source of its values, a sink of events; made by `sluiceway.jsonl`."""

    maker = "jsonl"

    def __init__(self, paths: Paths, *, append: bool, follow: bool, type_: Any = None) -> None:
        super().__init__(paths, "utf-8", append, follow)
        self._type = type_
        if type_ is not None:
            self._check_type()

    def _check_type(self) -> None:
        try:
            LineParser(self._type)
        except TypeError as error:
            raise GraphError(
                f"cannot make {self!r}: type={type_name(self._type)} is no type that JSON can be checked by ({error}); pass a "
                "dataclass, a TypedDict or a msgspec.Struct"
            ) from None

    def settings(self) -> dict[str, Any]:
        """Return what decides how the file is read and what stands in it."""
        return super().settings() if self._type is None else {**super().settings(), "type": type_name(self._type)}

    def reader(self, position: object | None, /) -> JsonReader:
        """Open the files; raises `FileNotFoundError` for one that is not there and a pattern without a match."""
        return JsonReader(self.cursor("utf-8-sig", split_at_newlines, position), self._type)

    def write(self, events: Sequence[Any], /) -> None:
        """Write each event as a line; raises `BadEvent` for what JSON cannot carry, all before it written."""
        output = self.output()
        lines = lines_of(events)
        if lines is not None:
            if self.paths[0] != STANDARD:
                output.write_encoded(lines)
                return
            try:
                output.write(lines.decode())
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
            line = ENCODER.encode(value) + "\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise BadEvent(f"cannot write to {self!r}: the event is no JSON ({error})", position) from error
        try:
            output.write(line)
        except UnicodeEncodeError:  # half a surrogate pair, or a narrow terminal: an escape carries it
            output.write(ESCAPING.encode(value) + "\n")
