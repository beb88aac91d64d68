"""How a growing file is read: waiting at its end, and continuing when it is rotated or truncated.

Decides when a file has ended although it is followed. A rotated file (renamed, with another
one created under its name) ends once the new one holds something: the writer has then left the old one. A truncated
file begins again. Both are noticed only when the file is checked: what was written and truncated in between is lost.
"""

from __future__ import annotations

import logging
import os
import threading
import time

from .byte_streams import FileStream
from .line_blocks import BLOCK_BYTES, LineBlocks, SeenBytes, Split
from .line_cursor import LineCursor, LinePosition, parse_position

log = logging.getLogger("sluiceway")

#: How long a read waits at the end of a file, and how often it checks meanwhile, in seconds.
WAIT_S = 0.1
LOOK_S = 0.02


class Truncated(Exception):
    """A followed file is shorter than what was read of it."""


class FollowStream(FileStream):
    """A file that may grow: `read` returns `None` when there is no more yet, and nothing when `watched` is another file."""

    def __init__(self, path: str, watched: str, closing: threading.Event) -> None:
        super().__init__(path)
        self._watched = watched
        self._closing = closing
        self._left = False
        self.inode = os.fstat(self._raw.fileno()).st_ino

    def read(self, size: int, /) -> bytes | None:
        """Read what is there; wait a moment for more; raises `Truncated`."""
        until = time.monotonic() + WAIT_S
        while True:
            data: bytes = self._raw.read(size)
            if data:
                return data
            if self._left:
                return b""
            if self._has_moved_on():
                continue  # what was written before the new file was is read first
            wait_s = min(LOOK_S, until - time.monotonic())
            if wait_s <= 0 or self._closing.wait(wait_s):
                return None

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
        try:
            return super().load(size)
        except Truncated:
            log.warning(
                "%s was truncated: reading begins again; what was cut off before it was read is lost", self.path
            )
            return None

    def next_file(self) -> bool:
        """Open the file that has the name now; false when closed."""
        if self.closed:
            return False
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
