"""A set of numbers as disjoint intervals: which numbers were answered, covered, or are still open.

Decides the first-answer-counts rule: `add` returns only the parts that were not in the set before.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Intervals:
    """A set of whole numbers, kept as sorted, disjoint, never touching half-open intervals."""

    __slots__ = ("_starts", "_stops")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def __iter__(self) -> zip[tuple[int, int]]:
        return zip(self._starts, self._stops, strict=True)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __len__(self) -> int:
        return sum(self._stops) - sum(self._starts)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number < self._stops[at]

    def frontier(self) -> int:
        """Return the lowest number from 0 on that is not in the set."""
        return self._stops[0] if self._starts and self._starts[0] == 0 else 0

    def gaps(self, lo: int, hi: int) -> list[tuple[int, int]]:
        """Return the parts of `lo .. hi - 1` that are not in the set."""
        found = []
        at = bisect_right(self._stops, lo)
        while lo < hi and at < len(self._starts):
            if self._starts[at] >= hi:
                break
            if lo < self._starts[at]:
                found.append((lo, self._starts[at]))
            lo = max(lo, self._stops[at])
            at += 1
        if lo < hi:
            found.append((lo, hi))
        return found

    def shared(self, lo: int, hi: int) -> list[tuple[int, int]]:
        """Return the parts of `lo .. hi - 1` that are in the set."""
        found = []
        at = bisect_right(self._stops, lo)
        while lo < hi and at < len(self._starts) and self._starts[at] < hi:
            found.append((max(lo, self._starts[at]), min(hi, self._stops[at])))
            at += 1
        return found

    def add(self, lo: int, hi: int) -> list[tuple[int, int]]:
        """Add `lo .. hi - 1`; return the parts that are new."""
        if lo >= hi:
            return []
        new = self.gaps(lo, hi)
        first = bisect_left(self._stops, lo)
        last = bisect_right(self._starts, hi)
        if first < last:
            lo, hi = min(lo, self._starts[first]), max(hi, self._stops[last - 1])
        self._starts[first:last] = [lo]
        self._stops[first:last] = [hi]
        return new

    def remove(self, lo: int, hi: int) -> int:
        """Remove `lo .. hi - 1`; return how many numbers were removed."""
        removed = 0
        for a, b in self.shared(lo, hi):
            at = bisect_right(self._starts, a) - 1
            start, stop = self._starts[at], self._stops[at]
            pieces = [(x, y) for x, y in ((start, a), (b, stop)) if x < y]
            self._starts[at : at + 1] = [x for x, _ in pieces]
            self._stops[at : at + 1] = [y for _, y in pieces]
            removed += b - a
        return removed
