"""A column: the outputs of one stream for a contiguous run of numbers.

Decides how "number n has 0..k outputs" is stored: nothing extra when every number has one, a count per number
otherwise, and an index per event only where the indices of a number are not 0..k-1 (a filter behind a flat_map).
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Any


class Column:
    """Outputs of the numbers `start .. start + size - 1`, flattened in order.

    `counts[i]` is how many outputs number `start + i` has (`None`: one each); `indices[j]` is the index of event j
    inside its number (`None`: counted from 0).
    """

    __slots__ = ("_offsets", "counts", "events", "indices", "size", "start")

    def __init__(
        self, start: int, size: int, events: list[Any], counts: list[int] | None = None, indices: list[int] | None = None
    ) -> None:
        self.start = start
        self.size = size
        self.events = events
        self.counts = counts
        self.indices = indices
        self._offsets: list[int] | None = None

    @property
    def stop(self) -> int:
        """The first number above this column."""
        return self.start + self.size

    def offsets(self) -> list[int]:
        """Return for each number, and one past the last, where its events begin; only for columns with counts."""
        if self._offsets is None:
            assert self.counts is not None
            self._offsets = list(accumulate(self.counts, initial=0))
        return self._offsets

    def number_of(self, position: int) -> tuple[int, int]:
        """Return `(seq, index)` of the event at `position`."""
        if self.counts is None:
            return self.start + position, 0
        offsets = self.offsets()
        row = bisect_right(offsets, position) - 1
        index = self.indices[position] if self.indices is not None else position - offsets[row]
        return self.start + row, index

    def numbers(self) -> list[tuple[int, int]]:
        """Return `(seq, index)` of every event, in order."""
        if self.counts is None:
            return [(seq, 0) for seq in range(self.start, self.stop)]
        rows = [(self.start + row, i) for row, count in enumerate(self.counts) for i in range(count)]
        if self.indices is None:
            return rows
        return [(seq, index) for (seq, _), index in zip(rows, self.indices, strict=True)]

    def event_range(self, lo: int, hi: int) -> tuple[int, int]:
        """Return the range of positions of the events of the numbers `lo .. hi - 1`."""
        first, last = lo - self.start, hi - self.start
        if self.counts is None:
            return first, last
        offsets = self.offsets()
        return offsets[first], offsets[last]

    def slice(self, lo: int, hi: int) -> Column:
        """Return the column of the numbers `lo .. hi - 1` (absolute numbers inside this column)."""
        if lo == self.start and hi == self.stop:
            return self
        a, b = self.event_range(lo, hi)
        if self.counts is None:
            return Column(lo, hi - lo, self.events[a:b])
        indices = self.indices[a:b] if self.indices is not None else None
        return Column(lo, hi - lo, self.events[a:b], self.counts[lo - self.start : hi - self.start], indices)

    def with_events(self, events: list[Any]) -> Column:
        """Return a column of the same shape with other events."""
        column = Column(self.start, self.size, events, self.counts, self.indices)
        column._offsets = self._offsets
        return column

    def indices_or_counted(self) -> list[int]:
        """Return the index of every event as a list, also where it is only implied."""
        if self.indices is not None:
            return self.indices
        if self.counts is None:
            return [0] * self.size
        return [i for count in self.counts for i in range(count)]


def join(columns: list[Column]) -> Column:
    """Join columns that follow each other without a gap into one."""
    if len(columns) == 1:
        return columns[0]
    events: list[Any] = []
    for column in columns:
        events.extend(column.events)
    start, size = columns[0].start, columns[-1].stop - columns[0].start
    if all(column.counts is None for column in columns):
        return Column(start, size, events)
    counts: list[int] = []
    for column in columns:
        counts.extend(column.counts if column.counts is not None else [1] * column.size)
    if all(column.indices is None for column in columns):
        return Column(start, size, events, counts)
    indices: list[int] = []
    for column in columns:
        indices.extend(column.indices_or_counted())
    return Column(start, size, events, counts, indices)
