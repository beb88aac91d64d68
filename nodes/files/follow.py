"""How a growing file is read: waiting at its end, and continuing when it is rotated or truncated.

Decides when a file has ended although it is followed. A rotated file (renamed, with another
one created under its name) ends once the new one holds something: the writer has then left the old one. A truncated
file begins again; it is told by its size, or, where it has grown beyond what was read since, by its bytes: with every
read its beginning and what was read last are compared. What was written and truncated between two reads is lost, and a
file that begins with the very bytes that were read of it cannot be told from one that has grown.
"""

from __future__ import annotations

import logging
import os
import threading
import time

from .line_blocks import BLOCK_BYTES, LineBlocks, SeenBytes, Split
from .line_cursor import LineCursor, LinePosition, parse_position
from .streams.byte_streams import FileStream

log = logging.getLogger("sluiceway")

#: How long a read waits at the end of a file, and how often it checks meanwhile, in seconds.
WAIT_S = 0.1
LOOK_S = 0.02

#: How many bytes of the beginning, and before the place of reading, are compared with every read.
_COMPARED_BYTES = 256


class Truncated(Exception):
    """A followed file no longer holds what was read of it: it was truncated, and may have grown again."""


class FollowStream(FileStream):
    """A file that may grow: `read` returns `None` when there is no more yet, and nothing when `watched` is another file."""

    def __init__(self, path: str, watched: str, closing: threading.Event) -> None:
        super().__init__(path)
        self._watched = watched
        self._closing = closing
        self._left = False
        self.inode = os.fstat(self._raw.fileno()).st_ino
        self._begin = self._last = b""

    def read(self, size: int, /) -> bytes | None:
        """Read what is there; wait a moment for more; raises `Truncated`."""
        until = time.monotonic() + WAIT_S
        while True:
            data: bytes = self._raw.read(size)
            if data:
                self._check_what_was_read(self._raw.tell() - len(data))
                self._last = (self._last + data[-_COMPARED_BYTES:])[-_COMPARED_BYTES:]
                return data
            if self._left:
                return b""
            if self._has_moved_on():
                continue  # what was written before the new file was is read first
            wait_s = min(LOOK_S, until - time.monotonic())
            if wait_s <= 0 or self._closing.wait(wait_s):
                return None

    def _check_what_was_read(self, at: int) -> None:
        """Raise `Truncated` unless the file begins as it did and what stands before `at` is what was read last."""
        number = self._raw.fileno()
        begin = os.pread(number, _COMPARED_BYTES, 0)
        if not begin.startswith(self._begin) or os.pread(number, len(self._last), at - len(self._last)) != self._last:
            raise Truncated
        self._begin = begin

    def seek(self, offset: int, /) -> None:
        """Seek to an offset in the file."""
        self._last = b""
        super().seek(offset)

    def _has_moved_on(self) -> bool:
        """Whether the writer has moved on to another file; raises `Truncated`."""
        own = os.fstat(self._raw.fileno())
        if own.st_size < self._raw.tell():
            raise Truncated
        try:
            there = os.stat(self._watched)
        except FileNotFoundError:  # renamed, and nothing in its place yet
            return False
        self._left = there.st_size > 0 and not os.path.samestat(own, there)
        if self._left:
            _warn_of_others(self._watched, own, there)
        return self._left


class FollowCursor(LineCursor):
    """Reads the lines of one file for ever; each file that gets its name is read as the next."""

    def __init__(self, path: str, encoding: str, split: Split, position: object | None) -> None:
        self._watched = path
        self._closing = threading.Event()
        self._stream: FollowStream | None = None
        at = None if position is None else parse_position(position)
        if at is None or at.file < 0 or at.path != path:
            super().__init__([path], encoding, split, at)
            return
        actual = _renamed(path, at.inode) or path
        super().__init__([actual], encoding, split, at._replace(path=actual))
        self.paths = [path]

    def _blocks_of(self, at: LinePosition) -> LineBlocks:
        self._stream = FollowStream(at.path, self._watched, self._closing)
        return LineBlocks(
            at.path, self._encoding, self._split, at.offset, at.line, SeenBytes(*at[5:9]), self._stream
        )

    @property
    def position(self) -> LinePosition:
        """The position before `lines[next]`."""
        at = super().position
        return at if self._stream is None else at._replace(inode=self._stream.inode)

    def beginning(self) -> LineCursor:
        """Return a cursor at the beginning of the current file alone, whatever its name is now."""
        assert self._stream is not None
        actual = _renamed(self.path, self._stream.inode) or self.path
        return LineCursor([actual], self._encoding, self._split, None)

    def load(self, size: int = BLOCK_BYTES) -> bool | None:
        """Load more lines of the current file: `None` if it was rotated or truncated, false if none are there."""
        if self.cut_off:
            return None
        try:
            return super().load(size)
        except Truncated:
            self.cut_off = True
            log.warning(
                "%s was truncated: reading begins again; what was cut off before it was read is lost", self.path
            )
            return None

    def next_file(self) -> bool:
        """Open the file that has the name now; false when closed."""
        if self.closed:
            return False
        self.cut_off = False
        self._open(0)
        return True

    def progress(self) -> float | None:
        """Return `None`: nobody knows how long the file will be."""
        return None

    def close(self) -> None:
        """Stop reading and close the file; a waiting read returns at once."""
        self._closing.set()
        super().close()


def _renamed(path: str, inode: int) -> str | None:
    """Return the name that the file `inode` has now, where it was renamed beside `path` as rotation does."""
    try:
        if os.stat(path).st_ino == inode:
            return None
    except FileNotFoundError:
        pass  # renamed, and nothing in its place yet
    return next((other.path for other in _rotated(path) if other.inode() == inode), None)


def _rotated(path: str) -> list[os.DirEntry[str]]:
    """Return the files whose names are that of `path` with something added."""
    folder, name = os.path.split(path)
    with os.scandir(folder or ".") as entries:
        return [entry for entry in entries if entry.name.startswith(name) and entry.name != name and entry.is_file()]


def _warn_of_others(path: str, old: os.stat_result, new: os.stat_result) -> None:
    """Warn of files that were rotated away between two others: nobody has read them."""
    between = sorted(
        other.name
        for other in _rotated(path)
        if old.st_mtime_ns < other.stat().st_mtime_ns < new.st_mtime_ns and other.inode() != old.st_ino
    )
    if between:
        log.warning(
            "%s was rotated more than once since it was read: what stands in %s was not read", path, ", ".join(between)
        )
