"""The last barrier: one frontier for the whole graph.

Decides what is released: number n once every branch has answered it and all numbers below. Failures under `fail`
wait for their turn like any answer; dead letters are released with their number.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct, structs


class FailureRecord(Struct, frozen=True):
    """A failure as it crosses the engine: the event and the cause stay packed, in `payload` of `nbytes`."""

    seq: int
    index: int
    node: str
    node_id: int
    on_error: str
    error: str
    traceback: str
    attempts: int
    kind: str
    payload: Any = None
    nbytes: int = 0

    @property
    def facts(self) -> tuple[Any, ...]:
        """All but `payload` and `nbytes`, in the order of the fields: plain values, for messages and stores."""
        return structs.astuple(self)[:-2]

    @classmethod
    def of(cls, facts: Sequence[Any], payload: Any, nbytes: int) -> FailureRecord:
        """Return a failure of its `facts`; raises `ValueError` for another number of them."""
        seq, index, node, node_id, on_error, error, traceback, attempts, kind = facts
        return cls(seq, index, node, node_id, on_error, error, traceback, attempts, kind, payload, nbytes)

    @property
    def order_key(self) -> tuple[int, int, int]:
        """The rank of the failure in the order: by number, then by node as built, then by index."""
        return self.seq, self.node_id, self.index


class Release(Struct, frozen=True):
    """The numbers `lo .. hi - 1` are final; `letters` are their dead letters in order."""

    lo: int
    hi: int
    letters: tuple[FailureRecord, ...] = ()


class Barrier:
    """Releases contiguous runs of numbers and finds where the run must end."""

    def __init__(self) -> None:
        self.released = 0
        self.end_at: int | None = None
        #: The numbers that fail the run: what any node makes of them now is not what it makes of them otherwise.
        self.fatal: set[int] = set()
        self._fatal: list[FailureRecord] = []
        self._letters: list[tuple[tuple[int, int, int], int, FailureRecord]] = []
        self._letter_count = 0

    def record_failures(self, failures: Iterable[FailureRecord]) -> None:
        """Record first answers that are failures under `fail` or `dead_letter`."""
        for failure in failures:
            if failure.on_error == "fail":
                self._fatal.append(failure)
                self.fatal.add(failure.seq)
                self.end_at = failure.seq if self.end_at is None else min(self.end_at, failure.seq)
            elif failure.on_error == "dead_letter":
                self._letter_count += 1
                heapq.heappush(self._letters, (failure.order_key, self._letter_count, failure))

    def release(self, frontier: int) -> Release | None:
        """Return the unreleased numbers below a frontier, if any; never the lowest failed number or one above it."""
        hi = frontier if self.end_at is None else min(frontier, self.end_at)
        lo = self.released
        if hi <= lo:
            return None
        self.released = hi
        letters = []
        while self._letters and self._letters[0][0][0] < hi:
            letters.append(heapq.heappop(self._letters)[2])
        return Release(lo, hi, tuple(letters))

    def verdict(self, frontier: int) -> FailureRecord | None:
        """Return the failure that ends the run, once every branch has answered its number and all below."""
        if self.end_at is None or frontier <= self.end_at:
            return None
        return min((f for f in self._fatal if f.seq == self.end_at), key=lambda f: f.order_key)
