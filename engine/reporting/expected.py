"""How many events a run will read: what the sources say at the beginning, or an estimate from how much of them is read.

Decides the estimate. It knows neither sources nor runners.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class ExpectedEvents(Struct, frozen=True):
    """What is known before anything is read.

    `hints` are the numbers of events that the sources announce (`None`: unknown), `limit` that of the run, `first` the
    number that it goes on at.
    """

    hints: Sequence[int | None]
    limit: int | None
    first: int = 0

    def estimate(self, read: int, fraction: float | None) -> int | None:
        """Return how many events the run will read in all, `read` of them so far; `None` while nobody can tell.

        `fraction`, 0 to 1, says how much of the input is read, what an earlier run has read included.
        """
        known = [hint for hint in self.hints if hint is not None]
        total = sum(known) if len(known) == len(self.hints) else None
        if total is None and fraction:
            total = round((self.first + read) / fraction)
        ends = [end for end in (total, self.limit) if end is not None]
        return max(0, min(ends) - self.first) if ends else None
