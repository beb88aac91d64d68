"""Extents: which ranges of the arena are free. Decides where the next slot is; knows no file and no frame."""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections import deque

#: Slots are whole pages.
PAGE = mmap.PAGESIZE


class Slot:
    """A range of the arena, `start .. stop - 1` in bytes; allocated as long as this object lives."""

    __slots__ = ("_returned", "start", "stop")

    def __init__(self, start: int, stop: int, returned: deque[tuple[int, int]]) -> None:
        self.start = start
        self.stop = stop
        self._returned = returned

    def trim(self, stop: int) -> None:
        """Free what lies beyond `stop`, rounded up to a page."""
        kept = min(self.stop, self.start + round_up(max(stop - self.start, 1), PAGE))
        if kept < self.stop:
            self._returned.append((kept, self.stop))
            self.stop = kept

    def __del__(self) -> None:
        # Any thread may drop the last reference: an append is atomic, and the owner frees the range at its next call.
        self._returned.append((self.start, self.stop))


class Extents:
    """The free ranges of `size` bytes, allocated first fit from below, so that the same pages are used again and again."""

    def __init__(self, size: int) -> None:
        self._starts = [0] if size else []
        self._stops = {0: size} if size else {}

    def allocate(self, nbytes: int) -> int | None:
        """Allocate `nbytes` (more than 0); return their offset, or `None` if no range is large enough."""
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
        """Free `start .. stop - 1` and join it with its free neighbours."""
        at = bisect_left(self._starts, start)
        assert at == len(self._starts) or stop <= self._starts[at], "a slot was freed twice"
        if at < len(self._starts) and self._starts[at] == stop:
            stop = self._stops.pop(self._starts.pop(at))
        if at:
            before = self._starts[at - 1]
            assert self._stops[before] <= start, "a slot was freed twice"
            if self._stops[before] == start:
                self._stops[before] = stop
                return
        self._starts.insert(at, start)
        self._stops[start] = stop

    def free_ranges(self) -> list[tuple[int, int]]:
        """Return the free ranges in order."""
        return [(start, self._stops[start]) for start in self._starts]


def round_up(number: int, step: int) -> int:
    """Return the lowest multiple of `step` that is not below `number`."""
    return -(-number // step) * step
