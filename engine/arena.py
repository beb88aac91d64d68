"""The arena: one file of shared memory per run, through which large frames pass so that sockets carry where they lie.

Decides where a large frame goes and when its place is free again. Places are given out by the calling process alone
and belong to Python objects there, so a process that dies can neither leak nor free one. Where there is no shared
memory, or not enough of it, frames travel through the sockets as before. Which frames lie where is the wire's to say.
"""

from __future__ import annotations

import mmap
import os
import sys
from bisect import bisect_left
from collections import deque
from pathlib import Path

from .codec import Buffer, Payload

#: Smaller frames go through the socket: there they cost less than their place costs here.
FRAME_BYTES = 32 * 1024
_PAGE = mmap.PAGESIZE
#: Frames inside one slot begin at multiples of a cache line.
_LINE = 64
#: The file gets its memory in steps of so many bytes.
_STEP = 1 << 20
#: What the arena may hold beyond the window: the room that is granted for answers.
_BEYOND_WINDOW = 32 << 20
_KEPT_BLOCK = 8 << 20


class Slot:
    """A piece of the arena, from `start` to `stop` in bytes; taken for as long as this object lives."""

    __slots__ = ("_back", "start", "stop")

    def __init__(self, start: int, stop: int, back: deque[tuple[int, int]]) -> None:
        self.start = start
        self.stop = stop
        self._back = back

    def trim(self, stop: int) -> None:
        """Give back what lies behind `stop`, rounded up to a page."""
        kept = min(self.stop, self.start + _round_up(max(stop - self.start, 1), _PAGE))
        if kept < self.stop:
            self._back.append((kept, self.stop))
            self.stop = kept

    def __del__(self) -> None:
        # Any thread may drop the last reference: an append is atomic, and the owner takes it in when it next looks.
        self._back.append((self.start, self.stop))


class Extents:
    """The free pieces of `size` bytes, taken first fit from below, so that the same pages are used again and again."""

    def __init__(self, size: int) -> None:
        self._starts = [0] if size else []
        self._stops = {0: size} if size else {}

    def take(self, nbytes: int) -> int | None:
        """Give where `nbytes` (more than 0) are free and take them, or `None`."""
        for at, start in enumerate(self._starts):
            stop = self._stops[start]
            if stop - start >= nbytes:
                del self._stops[start]
                if stop - start == nbytes:
                    del self._starts[at]
                else:
                    self._starts[at] = start + nbytes
                    self._stops[start + nbytes] = stop
                return start
        return None

    def give(self, start: int, stop: int) -> None:
        """Take back `start .. stop - 1`, which joins its free neighbours."""
        at = bisect_left(self._starts, start)
        assert at == len(self._starts) or stop <= self._starts[at], "a slot was given back twice"
        if at < len(self._starts) and self._starts[at] == stop:
            stop = self._stops.pop(self._starts.pop(at))
        if at and (before := self._starts[at - 1]) and self._stops[before] >= start or at and not self._starts[0]:
            before = self._starts[at - 1]
        self._starts.insert(at, start)
        self._stops[start] = stop
