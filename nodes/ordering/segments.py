"""Segments: one stream's outputs for a run of numbers as opaque bytes, and the store that retains them.

Decides how long bytes are kept: until every reader of the stream has consumed every number of the segment. A segment
may be used in slices, so that a run can be split anywhere without decoding it.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import Any

from msgspec import Struct

#: What a segment costs beside its bytes: its objects, header and socket frames.
SEGMENT_OVERHEAD = 256


class Segment(Struct, eq=False):
    """Outputs of the numbers `start .. stop - 1` of one stream, of which `lo .. hi - 1` count; `payload` is opaque here."""

    start: int
    stop: int
    payload: Any
    nbytes: int
    counts: list[int] | None = None
    indices: list[int] | None = None
    at: float = 0.0  #: when it arrived, in seconds of the run's clock
    open: int = 0
    suspect: bool = False  #: whether a worker died unpacking or packing a part of it
    lo: int = 0
    hi: int = 0  #: 0: all of it counts

    @property
    def cost(self) -> int:
        """What the segment takes from the budget, in bytes."""
        return self.nbytes + SEGMENT_OVERHEAD


class ExitData(Struct):
    """One exit of an answer, as it came off the wire."""

    payload: Any
    nbytes: int
    counts: list[int] | None = None
    indices: list[int] | None = None


class Slice(Struct, frozen=True):
    """The part `lo .. hi - 1` of a segment."""

    segment: Segment
    lo: int
    hi: int

    @property
    def cost(self) -> int:
        """Its share of what the segment takes from the budget, in bytes."""
        return self.segment.cost * (self.hi - self.lo) // (self.segment.hi - self.segment.lo)


class SegmentStore:
    """The retained segments of one stream, which `readers` readers still consume."""

    def __init__(self, readers: int) -> None:
        self.readers = readers
        self._starts: list[int] = []
        self._segments: dict[int, Segment] = {}

    def __len__(self) -> int:
        return len(self._starts)

    def put(self, segment: Segment) -> int:
        """Retain a segment; return the bytes it is charged with, 0 if nobody reads the stream."""
        if not self.readers:
            return 0
        if not segment.hi:
            segment.lo, segment.hi = segment.start, segment.stop
        assert segment.lo not in self._segments
        segment.open = self.readers * (segment.hi - segment.lo)
        insort(self._starts, segment.lo)
        self._segments[segment.lo] = segment
        return segment.cost

    def clear(self) -> None:
        """Drop everything that is retained."""
        self._starts.clear()
        self._segments.clear()

    def slices(self, lo: int, hi: int) -> list[Slice]:
        """Return the slices that together are the numbers `lo .. hi - 1`, all of which must be retained."""
        found = []
        at = bisect_right(self._starts, lo) - 1
        while lo < hi:
            segment = self._segments[self._starts[at]]
            assert segment.lo <= lo < segment.hi, "a number was handed out that is not retained"
            found.append(Slice(segment, lo, min(hi, segment.hi)))
            lo = segment.hi
            at += 1
        return found

    def consume(self, lo: int, hi: int) -> int:
        """Record that one reader is done with `lo .. hi - 1`; return the bytes that this frees."""
        if not self._starts:
            return 0
        freed = 0
        at = max(0, bisect_right(self._starts, lo) - 1)
        while at < len(self._starts) and self._starts[at] < hi:
            segment = self._segments[self._starts[at]]
            segment.open -= max(0, min(hi, segment.hi) - max(lo, segment.lo))
            if segment.open <= 0:
                assert segment.open == 0, "a reader consumed a number twice"
                freed += segment.cost
                del self._segments[self._starts[at]]
                del self._starts[at]
            else:
                at += 1
        return freed
