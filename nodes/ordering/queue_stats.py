"""Measures a queueing station: how many numbers are inside, and for how long each stays.

Little's law (J. D. C. Little, Operations Research 9(3), 1961) ties them: L = λW. Decides nothing; time is passed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import log2

#: Times are counted in buckets of a quarter of an octave, from a microsecond on.
_STEPS = 4
_UNIT_S = 1e-6


class QueueStats:
    """Counts entries and exits of one station and keeps the distribution of the time between them."""

    __slots__ = ("_area", "_buckets", "_inside", "_last", "_total", "departed")

    def __init__(self) -> None:
        self.departed = 0
        self._inside = 0
        self._area = 0.0
        self._last = 0.0
        self._total = 0.0
        self._buckets: Counter[int] = Counter()

    def _advance(self, now: float) -> None:
        self._area += self._inside * max(0.0, now - self._last)
        self._last = now

    def enter(self, count: int, now: float) -> None:
        """Record that `count` numbers entered at `now` (seconds)."""
        self._advance(now)
        self._inside += count

    def leave(self, count: int, stayed_s: float, now: float) -> None:
        """Record that `count` numbers left after `stayed_s` seconds inside."""
        self._advance(now)
        self._inside -= count
        self.departed += count
        self._total += count * stayed_s
        self._buckets[max(0, int(log2(max(stayed_s, _UNIT_S) / _UNIT_S) * _STEPS))] += count

    def counts(self) -> dict[int, int]:
        """Return how many numbers have left by how long they stayed; `quantile_of` reads it."""
        return dict(self._buckets)

    @property
    def mean_stay_s(self) -> float:
        """Mean time inside, W, in seconds."""
        return self._total / self.departed if self.departed else 0.0

    def mean_inside(self, wall_s: float) -> float:
        """Mean number inside, L, over a run of `wall_s` seconds."""
        return self._area / wall_s if wall_s > 0 else 0.0

    def quantile_s(self, q: float) -> float:
        """Return the time in seconds within which the share `q` of all numbers left, to a fifth of its value."""
        return quantile_of(self._buckets, q)


def quantile_of(counts: Mapping[int, int], q: float) -> float:
    """Return the time in seconds within which the share `q` of the numbers of `counts` left, 0 if there are none."""
    rank = q * sum(counts.values())
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank and counts[bucket]:
            return float(_UNIT_S * 2 ** ((bucket + 0.5) / _STEPS))
    return 0.0
