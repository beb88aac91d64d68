"""Answers that outlive their run: which numbers of a pool an earlier run has answered, and when they are recalled.

Decides that such a number is never handed out, and that answers are recalled lowest number first, a bounded number of
them at a time, so that what is recalled stays within the budget as what is worked on does. Where they are kept is not
known here.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from msgspec import Struct

from .barrier import FailureRecord
from .budget import Pace
from .intervals import Intervals
from .segments import ExitData

#: The most numbers that are recalled at once; while only the head may grow, few.
MAX_RECALL = 4096
HEAD_RECALL = 16


class KeptAnswer(Struct, frozen=True):
    """What a pool has answered for the numbers `lo .. hi - 1`.

    `exits` are for `size` numbers from `start` on, of which these are a part; `failures` are of `lo .. hi - 1` alone.
    """

    lo: int
    hi: int
    start: int
    size: int
    exits: Sequence[ExitData]
    failures: tuple[FailureRecord, ...] = ()


class KeptNumbers:
    """The numbers of one pool whose answers are kept and not yet recalled."""

    def __init__(self) -> None:
        self._known = Intervals()
        #: Those that are ready in the pool, and wait for their answers.
        self._due: list[tuple[int, int]] = []
        self._due_count = 0
        self._asked: tuple[int, int] | None = None

    def __bool__(self) -> bool:
        return bool(self._known) or bool(self._due)

    @property
    def wanted(self) -> int:
        """How many numbers more should be made ready so that there is enough to recall."""
        return max(0, MAX_RECALL - self._due_count) if self._known else 0

    def resume(self, known: Iterable[tuple[int, int]]) -> None:
        """Begin with the numbers whose answers an earlier run has kept."""
        for lo, hi in known:
            self._known.add(lo, hi)

    def record_ready(self, lo: int, hi: int) -> list[tuple[int, int]]:
        """Record that `lo .. hi - 1` are ready in the pool; return the parts that nobody has answered."""
        if not self._known:
            return [(lo, hi)]
        for part in self._known.shared(lo, hi):
            heapq.heappush(self._due, part)
            self._due_count += part[1] - part[0]
        unknown = self._known.gaps(lo, hi)
        self._known.remove(lo, hi)
        return unknown

    def next_request(self, pace: Pace, head: int) -> tuple[int, int] | None:
        """Return the numbers whose answers are to be recalled now, if it is time; one request at a time."""
        if self._asked is not None or not self._due or pace is Pace.HOLD:
            return None
        if pace is Pace.HEAD and self._due[0][0] > head:
            return None
        lo, hi = heapq.heappop(self._due)
        stop = min(hi, lo + (HEAD_RECALL if pace is Pace.HEAD else MAX_RECALL))
        if stop < hi:
            heapq.heappush(self._due, (stop, hi))
        self._due_count -= stop - lo
        self._asked = lo, stop
        return self._asked

    def record_recalled(self, upto: int) -> tuple[int, int]:
        """Record that what was asked for has come up to a number; the rest is due again. Return what has come."""
        assert self._asked is not None, "answers came that were not asked for"
        lo, hi = self._asked
        assert lo < upto <= hi, "a recall returned other numbers than it was asked for"
        self._asked = None
        if upto < hi:
            heapq.heappush(self._due, (upto, hi))
            self._due_count += hi - upto
        return lo, upto
