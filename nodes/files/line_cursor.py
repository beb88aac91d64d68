"""Reads the lines of several files, with an exact position to resume at.

Decides how a position in a list of files is stored and found again. It does not know what a line means.
"""

from __future__ import annotations

import os
import threading
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from ..errors import CheckpointError
from .line_blocks import BLOCK_BYTES, LineBlocks, SeenBytes, Split
from .streams.paths import STANDARD, existing_files


class LinePosition(NamedTuple):
    """A position in a list of files: `skip` lines behind byte `offset` of a file, before which `line` lines stand.

    The rest tells whether the files are the same when reading resumes: what was seen of this file (`SeenBytes`),
    a check of the names and sizes of those before it, and the inode of a file that is followed.
    """

    file: int
    path: str
    offset: int = 0
    line: int = 0
    skip: int = 0
    head: int = 0
    head_check: int = 0
    block: int = 0
    block_check: int = 0
    before: int = 0
    inode: int = 0


def parse_position(position: object) -> LinePosition:
    """Parse a position; raises `ValueError` for one that no reader of files has returned."""
    try:
        return LinePosition(*position)  # type: ignore[misc]
    except TypeError:
        raise ValueError(
            "cannot go on from this position: it is none of a file; pass what position() gave"
        ) from None


class LineCursor:
    """Reads the lines of several files; `lines[next]` is the first line not returned yet."""

    def __init__(self, paths: Sequence[str], encoding: str, split: Split, position: object | None) -> None:
        self.paths = existing_files(paths)
        self.lines: list[str] = []
        self.next = 0
        self.closed = False
        #: Whether the current file was truncated while it was read, so that its last line or row may be cut off.
        self.cut_off = False
        self._busy = threading.Lock()  # held while bytes are read
        self._encoding = encoding
        self._split = split
        self._sizes = [os.stat(path).st_size if path != STANDARD else 0 for path in self.paths]
        self._read_bytes = self._done_bytes = 0
        self._before = 0
        self._file = -1
        self._blocks: LineBlocks | None = None
        self._resume_skip = 0
        if position is not None:
            self._seek(parse_position(position))

    def _seek(self, at: LinePosition) -> None:
        if not -1 <= at.file < len(self.paths) or (at.file >= 0 and self.paths[at.file] != at.path):
            raise ValueError(
                f"cannot go on in {at.path}: it is not file {at.file} of the list any more; give the same files"
            )
        for file in range(at.file):
            self._add_to_check(file)
        if self._before != at.before:
            raise CheckpointError(
                f"cannot go on in {at.path}: one of the {at.file} files before it has another name or size than "
                "when it was read; give the same files, or begin afresh with resume='never'"
            )
        if at.file >= 0:
            self._open(at.file, at)

    def _add_to_check(self, file: int) -> None:
        """Add a file that was read to its end to the check of the files before."""
        self._before = zlib.crc32(f"{self.paths[file]}\0{self._sizes[file]}\0".encode(), self._before)

    def _open(self, file: int, at: LinePosition | None = None) -> None:
        self.close_file()
        self._done_bytes = self._read_bytes = sum(self._sizes[:file])
        self._file, self.lines, self.next, self._resume_skip = file, [], 0, 0
        self._blocks = self._blocks_of(at or LinePosition(file, self.paths[file]))
        self._resume_skip = at.skip if at is not None else 0

    def _blocks_of(self, at: LinePosition) -> LineBlocks:
        return LineBlocks(at.path, self._encoding, self._split, at.offset, at.line, SeenBytes(*at[5:9]))

    @property
    def path(self) -> str:
        """The file that is being read."""
        return self.paths[self._file]

    @property
    def position(self) -> LinePosition:
        """The position before `lines[next]`."""
        blocks = self._blocks
        if blocks is None:
            return LinePosition(self._file, self.path if self._file >= 0 else "")
        skip = self.next + self._resume_skip
        return LinePosition(self._file, self.path, blocks.start, blocks.line, skip, *blocks.seen, self._before)

    @property
    def line_number(self) -> int:
        """The number of the line `lines[next]` in its file, from 1."""
        at = self.position
        return at.line + at.skip + 1

    def beginning(self) -> LineCursor:
        """Return a cursor at the beginning of the current file alone."""
        return LineCursor([self.path], self._encoding, self._split, None)

    def load(self, size: int = BLOCK_BYTES) -> bool | None:
        """Load more lines of the current file: `None` at its end, false if none are there yet.

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
        if self._blocks is not None:
            self._sizes[self._file] = self._blocks.consumed()
            self._add_to_check(self._file)
        self._open(self._file + 1)
        return True

    def read_lines(self, limit: int, max_bytes: int) -> list[str] | None:
        """Return lines, up to `limit` and about `max_bytes` but at least one; `None` at the end of the last file."""
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
        """Return the fraction of the bytes on disk that was read, or `None` where their number is unknown."""
        total = sum(self._sizes)
        return min(self._read_bytes / total, 1.0) if total else None

    def close_file(self) -> None:
        """Close the current file; the position stays known."""
        if self._blocks is not None:
            self._blocks.close()

    def close(self) -> None:
        """Stop reading and close the current file.

        Any thread may call it; while another thread reads, that thread closes the file.
        """
        self.closed = True
        if self._busy.acquire(blocking=False):
            try:
                self.close_file()
            finally:
                self._busy.release()
