"""How the lines of several files are walked through, with an exact place to go on from.

Decides how a place in a list of files is written down and found again. What a line means is the callers'.
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
from .line_blocks import BLOCK_BYTES, Blocks, Seen, Split
from .paths import STANDARD, existing_files


class Place(NamedTuple):
    """A place in a list of files: `skip` lines behind byte `offset` of a file, before which `line` lines stand.

    The rest tells whether the files are the same when reading goes on: what was seen of this file (`lineblocks.Seen`),
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


def place_of(position: object) -> Place:
    """Read a position; raises `ValueError` for one that no reader of files gave."""
    try:
        return Place(*position)  # type: ignore[misc]
    except TypeError:
        raise ValueError(
            "cannot go on from this position: it is none of a file; pass what position() gave"
        ) from None


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
        self._before = 0
        self._file = -1
        self._blocks: Blocks | None = None
        self._resume_skip = 0
        if position is not None:
            self._go_to(place_of(position))

    def _go_to(self, place: Place) -> None:
        if not -1 <= place.file < len(self.paths) or (place.file >= 0 and self.paths[place.file] != place.path):
            raise ValueError(
                f"cannot go on in {place.path}: it is not file {place.file} of the list any more; give the same files"
            )
        for file in range(place.file):
            self._count_in(file)
        if self._before != place.before:
            raise CheckpointError(
                f"cannot go on in {place.path}: one of the {place.file} files before it has another name or size than "
                "when it was read; give the same files, or begin afresh with resume='never'"
            )
        if place.file >= 0:
            self._open(place.file, place)

    def _count_in(self, file: int) -> None:
        """Take a file that is read to its end into the check of the files before."""
        self._before = zlib.crc32(f"{self.paths[file]}\0{self._sizes[file]}\0".encode(), self._before)

    def _open(self, file: int, place: Place | None = None) -> None:
        self.close_file()
        self._done_bytes = self._read_bytes = sum(self._sizes[:file])
        self._file, self.lines, self.next, self._resume_skip = file, [], 0, 0
        self._blocks = self._blocks_of(place or Place(file, self.paths[file]))
        self._resume_skip = place.skip if place is not None else 0

    def _blocks_of(self, place: Place) -> Blocks:
        return Blocks(place.path, self._encoding, self._split, place.offset, place.line, Seen(*place[5:9]))

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
        skip = self.next + self._resume_skip
        return Place(self._file, self.path, blocks.start, blocks.line, skip, *blocks.seen, self._before)

    @property
    def line_number(self) -> int:
        """The number of the line `lines[next]` in its file, from 1."""
        place = self.place
        return place.line + place.skip + 1

    def beginning(self) -> LineCursor:
        """Return a cursor at the beginning of the current file alone."""
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
        if self._blocks is not None:
            self._sizes[self._file] = self._blocks.consumed()
            self._count_in(self._file)
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
        """Return the fraction of the bytes on disk that was read, or `None` where their number is unknown."""
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
