"""Reading the rows of CSV files, also where a row spans lines and blocks.

Decides where a row begins and ends, and that a row which does not fit its header is an error at its position. Lines
are counted as `csv.reader` counts them (`line_num`), so that nothing is done in Python per line.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from .line_blocks import BLOCK_BYTES
from .line_cursor import LineCursor, LinePosition


class CsvReader:
    """Reads the rows of CSV files, each as a dict by the header of its file."""

    gives_own = True

    def __init__(self, cursor: LineCursor, delimiter: str) -> None:
        self._cursor = cursor
        self._delimiter = delimiter
        self._failure: ValueError | None = None
        self._names: list[str] | None = None
        self._position = cursor.position
        self.progress = cursor.progress
        self.close = cursor.close
        self._begin_file()
        if cursor.line_number > 1:
            try:
                self._names = header_of(cursor.beginning(), delimiter)
            except BaseException:
                cursor.close()
                raise

    def read(self, limit: int, max_bytes: int, /) -> Sequence[dict[str, str]] | None:
        """Return the next rows: `None` at the end, empty when nothing is there yet.

        Raises `ValueError`, with file and line, for a row that does not fit its header, after those before it.
        """
        while self._failure is None:
            more = self._more(max_bytes)
            if not more:
                return None if more is None else []
            if self._names is None:
                self._read_header()
                continue
            rows = self._collect(self._names, max(limit, 1), max_bytes)
            if rows:
                return rows
        raise self._failure

    def position(self) -> tuple[object, ...]:
        """Return the position behind the last row returned."""
        return tuple(self._position)

    def header(self) -> list[str] | None:
        """Read and return the header of the first file, `None` if it is empty."""
        while self._names is None and self._failure is None and self._more(BLOCK_BYTES):
            self._read_header()
        if self._failure is not None:
            raise self._failure
        return self._names

    def _begin_file(self) -> None:
        self._names = None
        self._end = 0  # how many lines the csv reader was offered
        self._crossed: list[tuple[int, LinePosition]] = []  # ends of the blocks that one row went across
        self._rows: Any = csv.reader(chain.from_iterable(self._blocks()), delimiter=self._delimiter, strict=True)

    def _more(self, max_bytes: int) -> bool | None:
        """Load lines for the next row: `None` behind the last file, false if none are there yet."""
        cursor = self._cursor
        self._crossed.clear()
        while self._rows.line_num == self._end and cursor.next >= len(cursor.lines):
            loaded = cursor.load(min(BLOCK_BYTES, max(max_bytes, 4096)))
            if loaded is False:
                return False
            if loaded is None:
                if not cursor.next_file():
                    return None
                self._begin_file()
        return None if cursor.closed else True

    def _blocks(self) -> Iterator[list[str]]:
        """Return the lines of one file; loads more only inside a row, where it also waits for them."""
        cursor = self._cursor
        while True:
            while cursor.next >= len(cursor.lines):
                self._crossed.append((self._end, cursor.position))
                if cursor.load() is None:
                    return
            lines = cursor.lines[cursor.next :]
            cursor.next = len(cursor.lines)
            self._end += len(lines)
            yield lines

    def _position_at(self, count: int) -> LinePosition:
        """Return the position behind the first `count` lines that the csv reader consumed."""
        for end, at in [*self._crossed, (self._end, self._cursor.position)]:
            if count <= end:
                return at._replace(skip=at.skip - (end - count))
        raise AssertionError("the csv reader took more lines than it was offered")

    def _collect(self, names: list[str], limit: int, max_bytes: int) -> list[dict[str, str]]:
        """Return rows up to the limits or the end of the block."""
        reader, size = self._rows, len(names)
        rows: list[dict[str, str]] = []
        space = max_bytes if max_bytes < BLOCK_BYTES else None
        taken = reader.line_num
        try:
            for row in reader:
                if len(row) == size:
                    rows.append(dict(zip(names, row)))  # noqa: B905 - equally long
                elif row:
                    self._fail(taken, f"the row has {len(row)} fields, the header {size}")
                    break
                taken = reader.line_num
                if space is not None:
                    space -= sum(map(len, row))
                if taken >= self._end or len(rows) >= limit or (space is not None and space <= 0):
                    break
        except (csv.Error, ValueError) as error:
            self._fail(taken, error)
        self._position = self._position_at(taken)
        return rows

    def _read_header(self) -> None:
        """Read the next row, if it is not empty, as the header."""
        taken = self._rows.line_num
        try:
            row: list[str] = next(self._rows, [])
        except (csv.Error, ValueError) as error:
            self._fail(taken, error)
            return
        if len(set(row)) < len(row):
            self._fail(taken, "the header has the same name twice")
        elif row:
            self._names = row
        self._position = self._position_at(taken if self._failure is not None else self._rows.line_num)

    def _fail(self, taken: int, reason: str | Exception) -> None:
        """Record the failure of the row that begins behind `taken` lines."""
        if isinstance(reason, ValueError):  # undecodable text, already named
            self._failure = reason
            return
        if self._cursor.cut_off and isinstance(reason, csv.Error):
            return  # the rest of the row was truncated before it was read, which was said
        remedy = (
            "a quote in it is not closed, or the field is as large: correct the row, or raise csv.field_size_limit before you "
            "make the source"
            if "field limit" in str(reason)
            else ""
        )
        at = self._position_at(taken)
        self._failure = ValueError(
            f"cannot read {at.path}, line {at.line + at.skip + 1}: {reason}; "
            f"{remedy or 'correct the row, or read the file with sluiceway.lines'}"
        )


def header_of(cursor: LineCursor, delimiter: str) -> list[str] | None:
    """Return the header of the cursor's first file, `None` if it is empty."""
    reader = CsvReader(cursor, delimiter)
    try:
        return reader.header()
    finally:
        reader.close()
