"""How the lines of several files are walked through, with an exact place to go on from.

Decides how a place in a list of files is written down and found again. What a line means is the callers'.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from .lineblocks import BLOCK_BYTES, Blocks, Split
from .paths import STANDARD, existing_files


class Place(NamedTuple):
    """A place in a list of files: `skip` lines behind byte `offset` of a file, before which `line` lines stand."""

    file: int
    path: str
    offset: int = 0
    line: int = 0
    skip: int = 0


class LineCursor:
    """Walks through the lines of several files: `lines[next]` is the line that is not given yet."""

    def __init__(self, paths: Sequence[str], encoding: str, split: Split, position: object | None) -> None:
        self.paths = existing_files(paths)
        self.lines: list[str] = []
        self.next = 0
        self.closed = False
        self._busy = threading.Lock()  # held while bytes are read
        self._encoding = encoding
        self._split = split
        self._sizes = [os.stat(path).st_size if path != STANDARD else 0 for path in self.paths]
        self._read_bytes = self._done_bytes = 0
        self._file = -1
        self._blocks: Blocks | None = None
        self._resume_skip = 0
        if position is not None:
            self._go_to(position)

    def _go_to(self, position: object) -> None:
        try:
            place = Place(*position)  # type: ignore[misc]
        except TypeError:
            raise ValueError(
                "cannot go on from this position: it is none of a file; pass what position() gave"
            ) from None
        if not -1 <= place.file < len(self.paths) or (place.file >= 0 and self.paths[place.file] != place.path):
            raise ValueError(
                f"cannot go on in {place.path}: it is not file {place.file} of the list any more; give the same files"
            )
        if place.file >= 0:
            self._open(place.file, place.offset, place.line)
            self._resume_skip = place.skip

    def _open(self, file: int, offset: int = 0, line: int = 0) -> None:
        self.close_file()
        self._done_bytes = self._read_bytes = sum(self._sizes[:file])
        self._file, self.lines, self.next, self._resume_skip = file, [], 0, 0
        self._blocks = Blocks(self.paths[file], self._encoding, self._split, offset, line)

    @property
    def path(self) -> str:
        """The file that is being read."""
        return self.paths[self._file]

    @property
    def place(self) -> Place:
        """The place before `lines[next]`."""
        blocks = self._blocks
        if blocks is None:
            return Place(self._file, self.path if self._file >= 0 else "")
        return Place(self._file, self.path, blocks.start, blocks.line, self.next + self._resume_skip)

    @property
    def line_number(self) -> int:
        """The number of the line `lines[next]` in its file, from 1."""
        place = self.place
        return place.line + place.skip + 1

    def beginning(self) -> LineCursor:
        """Give a cursor at the beginning of the current file alone."""
        return LineCursor([self.path], self._encoding, self._split, None)

    def load(self, size: int = BLOCK_BYTES) -> bool | None:
        """Get more lines of the current file: `None` at its end, false when none are there yet.

        The lines held so far are forgotten.
        """
        while self._blocks is not None:
            with self._busy:
                if self.closed:
                    return None
                lines = self._blocks.next(size)
                self._read_bytes = self._done_bytes + self._blocks.consumed()
            if not lines:
                return None if lines is None else False
            skipped = min(self._resume_skip, len(lines))
            self._resume_skip -= skipped
            self.lines, self.next = lines, skipped
            if skipped < len(lines):
                return True
        return None

    def next_file(self) -> bool:
        """Open the next file; false behind the last."""
        if self.closed or self._file + 1 >= len(self.paths):
            return False
        self._open(self._file + 1)
        return True

    def take(self, limit: int, max_bytes: int) -> list[str] | None:
        """Take lines, up to `limit` and about `max_bytes` but one at least: `None` at the end of the last file."""
        if self.closed:
            return None
        while self.next >= len(self.lines):
            loaded = self.load(min(BLOCK_BYTES, max(max_bytes, 4096)))
            if loaded is False:
                return []
            if loaded is None and not self.next_file():
                return None
        lines = self.lines[self.next : self.next + max(limit, 1)]
        if max_bytes < BLOCK_BYTES:
            fitting = bisect_right(list(accumulate(map(len, lines))), max_bytes)
            lines = lines[: max(fitting, 1)]
        self.next += len(lines)
        return lines

    def progress(self) -> float | None:
        """Give the fraction of the bytes on disk that was read, or `None` where their number is unknown."""
        total = sum(self._sizes)
        return min(self._read_bytes / total, 1.0) if total else None

    def close_file(self) -> None:
        """Close the current file; the place stays known."""
        if self._blocks is not None:
            self._blocks.close()

    def close(self) -> None:
        """End the reading and close the current file.

        Any thread may call it; beside a read in another thread it leaves the file to a `close` by that thread.
        """
        self.closed = True
        if self._busy.acquire(blocking=False):
            try:
                self.close_file()
            finally:
                self._busy.release()
