"""CSV files: one event is one row, as a dict from the header's names to texts.

Decides that the first row of every file is its header, that a row has exactly the header's fields, that empty rows
are skipped, and what a field may hold. Written are the names of the first event, and
lines end with `\\r\\n` (RFC 4180).
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ..errors import GraphError, kind_of
from ..scalars import exact_text
from ..sinks import BadEvent
from .csv_reader import CsvReader, header_of
from .endpoint import FileEndpoint
from .line_blocks import split_raw
from .line_cursor import LineCursor
from .streams.paths import STANDARD, Paths

#: How many names an error shows, and characters of each.
_MOST, _LONGEST = 20, 60
_PLAIN = frozenset({str, int, float, bool, type(None)})


class CsvFile(FileEndpoint):
    """Both ends of a CSV file: a source of its rows, a sink of dicts; made by `sluiceway.csv`."""

    maker = "csv"

    def __init__(self, paths: Paths, *, encoding: str, delimiter: str, append: bool, follow: bool) -> None:
        super().__init__(paths, encoding, append, follow)
        if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '\r\n"':
            raise GraphError(f"cannot make {self!r}: delimiter must be one character; pass for example delimiter=';'")
        self.delimiter = delimiter
        self._names: list[str] | None = None
        self._header_due = True
        self._field_limit = csv.field_size_limit()  # the caller's, which the reading process uses too

    def settings(self) -> dict[str, Any]:
        """Return what decides how the file is read and what stands in it."""
        return {**super().settings(), "delimiter": self.delimiter}

    def reader(self, position: object | None, /) -> CsvReader:
        """Open the files; raises `FileNotFoundError` for one that is not there and a pattern without a match."""
        if csv.field_size_limit() < self._field_limit:
            csv.field_size_limit(self._field_limit)
        return CsvReader(self.cursor(self._read_encoding(), split_raw, position), self.delimiter)

    def _read_encoding(self) -> str:
        # spreadsheets put a byte order mark before the first name, where it is no part of it
        return "utf-8-sig" if self.encoding.lower().replace("_", "-") in ("utf-8", "utf8") else self.encoding

    def open(self) -> None:
        """Open the file for the events of one run; raises `OSError` if it cannot be created."""
        self.check_sink()
        self._names, path = None, self.paths[0]
        if self.append and path != STANDARD and os.path.isfile(path):
            self._names = header_of(LineCursor([path], self._read_encoding(), split_raw, None), self.delimiter)
        super().open()
        self._header_due = self._names is None

    def _header(self) -> list[str] | None:
        return None if self._header_due else self._names

    def _set_header(self, names: list[str] | None) -> None:
        self._names, self._header_due = names, names is None

    def write(self, events: Sequence[Mapping[str, object]], /) -> None:
        """Write each dict as a row, its fields as the texts that say all of them, `None` as nothing.

        Raises `BadEvent` for what is no dict, has other keys than the first, or holds a value that no text says whole
        (`exact_text`); all before it is written.
        """
        self.output()
        rows: list[list[Any]] = []
        bad: BadEvent | None = None
        for position, event in enumerate(events):
            try:
                rows.append(self._row(event))
            except BadEvent as error:
                bad = BadEvent(f"cannot write to {self!r}: {error}", position)
                break
        self._write_rows(rows)
        if bad is not None:
            raise bad

    def _write_rows(self, rows: list[list[Any]]) -> None:
        if not rows:
            return
        texts = [self._header_text()] if self._header_due else []
        try:
            self.output().write("".join([*texts, self._text(rows)]))
        except UnicodeEncodeError:
            self._write_singly([*texts, *(self._text([row]) for row in rows)], len(texts))
        self._header_due = False

    def _write_singly(self, texts: list[str], header_rows: int) -> None:
        """Write row by row, up to the one that the encoding cannot carry."""
        for count, text in enumerate(texts):
            try:
                self.output().write(text)
            except UnicodeEncodeError as error:
                raise BadEvent(
                    f"cannot write to {self!r}: a field has {self.lacking()}", max(count - header_rows, 0)
                ) from error

    def _header_text(self) -> str:
        """Return the row of names: quoted where the first begins with U+FEFF, which would else be taken for a mark."""
        names: list[str] = self._names or []
        return self._text([names], csv.QUOTE_ALL if names[0].startswith("\ufeff") else csv.QUOTE_MINIMAL)

    def _text(self, rows: list[Any], quoting: Literal[0, 1] = csv.QUOTE_MINIMAL) -> str:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=self.delimiter, lineterminator="\r\n", quoting=quoting).writerows(rows)
        return text.getvalue()

    def _row(self, event: object) -> list[Any]:
        if not isinstance(event, Mapping):
            raise BadEvent(f"the event is {kind_of(event)}, a row is a dict; map it to one before the sink")
        if self._names is None:
            self._names = self._checked_names(event)
        if list(event) == self._names:
            row = list(event.values())
        elif event.keys() == set(self._names):
            row = [event[name] for name in self._names]
        else:
            differing = sorted(map(str, event.keys() ^ set(self._names)))
            raise BadEvent(
                f"the event's keys are not those of the header {_shown(self._names)}, they differ in {_shown(differing)}; give "
                "every event the keys of the first"
            )
        return row if _PLAIN.issuperset(map(type, row)) else self._as_texts(row)

    def _as_texts(self, row: list[Any]) -> list[Any]:
        """Return a row with texts for values that are no plain ones; raises `BadEvent` for one that no text says whole."""
        assert self._names is not None
        texts: list[Any] = []
        for name, value in zip(self._names, row, strict=True):
            text = None if value is None else exact_text(value)
            if text is None and value is not None:
                raise BadEvent(
                    f"field {name[:_LONGEST]} is {kind_of(value)}, which is no single field that can be read back; "
                    "convert it to a str before the sink, or use sluiceway.jsonl"
                )
            texts.append(text)
        return texts

    def _checked_names(self, event: Mapping[Any, object]) -> list[str]:
        names = list(event)
        if not names or not all(isinstance(name, str) for name in names):
            raise BadEvent("the first event has no keys, or one that is no str; give it the header's names as keys")
        return names


def _shown(names: Sequence[str]) -> str:
    """Return names for an error, as a list: not all of very many, and not all of a very long one."""
    shown = str([name if len(name) <= _LONGEST else name[:_LONGEST] + "..." for name in names[:_MOST]])
    return shown if len(names) <= _MOST else f"{shown[:-1]}, ... ({len(names)} names)]"
