"""Text files: one event is one line.

Decides where a line ends (`\\n`, `\\r\\n` and `\\r`, as in Python's text mode; written is always `\\n`) and which texts
can be a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import kind_of
from ..sinks import BadEvent
from .endpoint import FileEndpoint
from .line_blocks import split_keeping, split_plain
from .line_cursor import LineCursor
from .streams.paths import Paths


class LineReader:
    """Reads the lines of text files."""

    def __init__(self, cursor: LineCursor) -> None:
        self._cursor = cursor
        self.progress = cursor.progress
        self.close = cursor.close

    def read(self, limit: int, max_bytes: int, /) -> Sequence[str] | None:
        """Return the next lines: `None` at the end, empty when nothing is there yet."""
        return self._cursor.read_lines(limit, max_bytes)

    def position(self) -> tuple[object, ...]:
        """Return the position behind the last line returned."""
        return tuple(self._cursor.position)


class TextFile(FileEndpoint):
    """Both ends of a text file: a source of its lines, a sink of texts; made by `sluiceway.lines`."""

    maker = "lines"

    def __init__(self, paths: Paths, *, encoding: str, keep_newline: bool, append: bool, follow: bool) -> None:
        super().__init__(paths, encoding, append, follow)
        self.keep_newline = keep_newline

    def settings(self) -> dict[str, Any]:
        """Return what decides how the file is read and what stands in it."""
        return {**super().settings(), "keep_newline": self.keep_newline}

    def reader(self, position: object | None, /) -> LineReader:
        """Open the files; raises `FileNotFoundError` for one that is not there and a pattern without a match."""
        split = split_keeping if self.keep_newline else split_plain
        return LineReader(self.cursor(self.encoding, split, position))

    def write(self, events: Sequence[str], /) -> None:
        """Write each text as a line; raises `BadEvent` for what is no single line, all before it written."""
        output = self.output()
        try:
            text = self._joined(events)
        except (TypeError, AttributeError):  # not a str: found below
            text = None
        if text is not None and "\r" not in text and text.count("\n") == len(events):
            try:
                output.write(text)
                return
            except UnicodeEncodeError:
                pass  # the event is found below
        for position, event in enumerate(events):
            line = self._line(event, position)
            try:
                output.write(line)
            except UnicodeEncodeError as error:
                raise BadEvent(f"cannot write to {self!r}: the event has {self.lacking()}", position) from error

    def _joined(self, events: Sequence[str]) -> str:
        if not self.keep_newline:
            return "\n".join(events) + "\n" if events else ""
        return "".join([event if event.endswith("\n") else event + "\n" for event in events])

    def _line(self, event: object, position: int) -> str:
        if not isinstance(event, str):
            raise BadEvent(
                f"cannot write to {self!r}: the event is {kind_of(event)}, a line is a str; map it to one "
                "before the sink, or use sluiceway.jsonl",
                position,
            )
        line = event.removesuffix("\n") if self.keep_newline else event
        if "\n" in line or "\r" in line:
            raise BadEvent(
                f"cannot write to {self!r}: the event has a line end inside, so it would be read back as several "
                "lines; split or escape it before the sink, or use sluiceway.jsonl",
                position,
            )
        return line + "\n"
