"""The position of a source behind a number, to acknowledge what is committed and to read on from there in another run.

Decides how positions, which a reader has behind its reads, become the position behind any single event: the last one
below which everything is numbered, and how many events more. What a reader calls a position is opaque here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from .order_log import OrderLog


class SourcePosition(Struct, frozen=True):
    """A position in a source: `skip` events behind `position` (`None`: its beginning), before which there were `start` events.

    `key` is that of the last event, if sources are merged by a key.
    """

    position: object = None
    skip: int = 0
    start: int = 0
    key: object = None


class ReadMark(Struct, frozen=True):
    """What comes with the events of one or several reads: how many they are, the position behind them, and for the order
    log the extent of the one read that returned them.
    """

    size: int
    position: object
    extent: object = None


class PositionTracker:
    """Follows one source: what was offered, and how much of it has numbers."""

    def __init__(self, source: int = 0, place: SourcePosition | None = None) -> None:
        place = place or SourcePosition()
        self._source = source
        self._position = place.position
        self._used = self._lead = place.skip
        self._start = self._offered = place.start
        self._behind: deque[tuple[int, ReadMark]] = deque()
        self.key = place.key

    def record_reads(self, marks: Sequence[ReadMark], log: OrderLog | None = None) -> None:
        """Record what was read; the first read after a resume lacks the events that were skipped."""
        for mark in marks:
            size = mark.size + self._lead
            self._lead = 0
            self._behind.append((size, mark))
            if log is not None and mark.extent is not None:
                log.record_read(self._source, self._offered, size, mark.extent)
            self._offered += size

    def record_numbered(self, count: int) -> None:
        """Record that `count` more events have numbers."""
        self._used += count
        while self._behind and self._used >= self._behind[0][0]:
            size, mark = self._behind.popleft()
            self._used -= size
            self._start += size
            self._position = mark.position

    def position(self) -> SourcePosition:
        """Return the position behind the last event that has a number."""
        return SourcePosition(self._position, self._used, self._start, self.key)
