"""Extents: which pieces of the arena are free. Decides where the next one is taken; knows no file and no frame."""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections import deque

#: Pieces are whole pages.
PAGE = mmap.PAGESIZE


class Slot:
    """A piece of the arena, from `start` to `stop` in bytes; taken for as long as this object lives."""

    __slots__ = ("_returned", "start", "stop")

    def __init__(self, start: int, stop: int, returned: deque[tuple[int, int]]) -> None:
        self.start = start
        self.stop = stop
        self._returned = returned

    def trim(self, stop: int) -> None:
        """Give back what lies behind `stop`, rounded up to a page."""
        kept = min(self.stop, self.start + round_up(max(stop - self.start, 1), PAGE))
        if kept < self.stop:
            self._returned.append((kept, self.stop))
            self.stop = kept

    def __del__(self) -> None:
        # Any thread may drop the last reference: an append is atomic, and the owner takes it in when it next looks.
        self._returned.append((self.start, self.stop))


class Extents:
    """The free pieces of `size` bytes, taken first fit from below, so that the same pages are used again and again."""

    def __init__(self, size: int) -> None:
        self._starts = [0] if size else []
        self._stops = {0: size} if size else {}

    def allocate(self, nbytes: int) -> int | None:
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

    def free(self, start: int, stop: int) -> None:
        """Take back `start .. stop - 1`, which joins its free neighbours."""
        at = bisect_left(self._starts, start)
        assert at == len(self._starts) or stop <= self._starts[at], "a slot was given back twice"
        if at < len(self._starts) and self._starts[at] == stop:
            stop = self._stops.pop(self._starts.pop(at))
        if at:
            before = self._starts[at - 1]
            assert self._stops[before] <= start, "a slot was given back twice"
            if self._stops[before] == start:
                self._stops[before] = stop
                return
        self._starts.insert(at, start)
        self._stops[start] = stop

    def free_ranges(self) -> list[tuple[int, int]]:
        """Give the free pieces in order."""
        return [(start, self._stops[start]) for start in self._starts]


def round_up(number: int, step: int) -> int:
    """Give the lowest multiple of `step` that is not below `number`."""
    return -(-number // step) * step
