"""What is retained of the streams of a run, charged to its budget until every reader has consumed it.

Decides whose bytes are suspect: those that a worker died decoding or encoding. What is in them is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...nodes.ordering.budget import Budget
from ...nodes.ordering.intervals import Intervals
from ...nodes.ordering.segments import Segment, SegmentStore, Slice
from .topology import Wiring


class StreamStores:
    """The stores of all streams, by the index of the stream; ports, ordered and unordered sinks are its readers."""

    def __init__(self, wiring: Wiring, budget: Budget) -> None:
        readers = [0] * (1 + sum(len(pool.exits) for pool in wiring.pools))
        for pool in wiring.pools:
            for stream in pool.ports:
                readers[stream] += 1
        for stream in (*wiring.tail, *wiring.loose):
            readers[stream] += 1
        self.stores = [SegmentStore(count) for count in readers]
        self._budget = budget
        #: The bytes of failures that are not consumed, by their number.
        self.failure_bytes: dict[int, int] = {}
        self._any_suspect = False  #: whether any segment was ever suspect

    def put(self, stream: int, segment: Segment, new: Sequence[tuple[int, int]]) -> None:
        """Retain a segment; `new` are the parts that count, the others between them are consumed at once."""
        store = self.stores[stream]
        segment.lo, segment.hi = new[0][0], new[-1][1]
        self._budget.charge(store.put(segment))
        if len(new) == 1:
            return
        counts = Intervals()
        for lo, hi in new:
            counts.add(lo, hi)
        for lo, hi in counts.gaps(segment.lo, segment.hi):
            for _ in range(store.readers):
                self.consume((stream,), lo, hi)

    def consume(self, streams: Sequence[int], lo: int, hi: int) -> None:
        """Record that one reader of these streams is done with `lo .. hi - 1`."""
        for stream in streams:
            self._budget.free(self.stores[stream].consume(lo, hi))

    def charge_failure(self, number: int, nbytes: int) -> None:
        """Charge the budget with a failure of a number, until that is consumed."""
        self._budget.charge(nbytes)
        self.failure_bytes[number] = self.failure_bytes.get(number, 0) + nbytes

    def free_failures(self, lo: int, hi: int) -> None:
        """Free the bytes of the failures of `lo .. hi - 1`: they are consumed."""
        if self.failure_bytes:
            for number in range(lo, hi):
                self._budget.free(self.failure_bytes.pop(number, 0))

    def slices(self, streams: Sequence[int], lo: int, hi: int) -> list[list[Slice]]:
        """Return, for each of the streams, the slices that together are the numbers `lo .. hi - 1`."""
        return [self.stores[stream].slices(lo, hi) for stream in streams]

    def cost(self, streams: Sequence[int], lo: int, hi: int) -> int:
        """Return what these numbers of these streams take of the budget, in bytes."""
        return sum([part.cost for slices in self.slices(streams, lo, hi) for part in slices])

    def mark_suspect(self, streams: Sequence[int], lo: int, hi: int) -> None:
        """Mark the bytes of these numbers: decoding them may kill a worker."""
        self._any_suspect = True
        for slices in self.slices(streams, lo, hi):
            for part in slices:
                part.segment.suspect = True

    def has_suspect(self, inputs: Sequence[Sequence[Slice]]) -> bool:
        """Whether any of these slices is of a suspect segment."""
        return self._any_suspect and any(part.segment.suspect for slices in inputs for part in slices)

    def clear(self) -> None:
        """Drop everything that is retained."""
        for store in self.stores:
            store.clear()
