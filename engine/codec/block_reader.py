"""Reads an encoded column block by block, in terms of its numbers.

Decides where such a column may be divided so that no block is decoded twice.
"""

from __future__ import annotations

from bisect import bisect_left

from ...nodes.program.column import Column
from .codec import Payload, blocks_of, building
from .errors import CodecError


class BlockReader:
    """The encoded events of the numbers `start .. stop - 1`; raises `CodecError` if they have no blocks."""

    def __init__(
        self, start: int, stop: int, payload: Payload, counts: list[int] | None, indices: list[int] | None
    ) -> None:
        self._column = Column(start, stop - start, [], counts, indices)
        blocks = blocks_of(payload, stop - start if counts is None else self._column.offsets()[-1])
        if blocks is None:
            raise CodecError("a batch that can only be decoded as a whole")
        self._blocks = blocks
        self.start, self.stop = start, stop

    def bounds(self, lo: int, hi: int) -> list[int]:
        """Return the numbers from `lo` to `hi` that divide them into about one block each."""
        column = self._column
        if column.counts is None:
            ends = [column.start + end for end in self._blocks.ends]
        else:
            ends = [column.start + bisect_left(column.offsets(), end) for end in self._blocks.ends]
        return [lo, *[end for end in dict.fromkeys(ends) if lo < end < hi], hi]

    def column(self, lo: int, hi: int) -> Column:
        """Decode the numbers `lo .. hi - 1`; raises `CodecError` for damage."""
        with building("a block"):
            events = self._blocks.load(*self._column.event_range(lo, hi))
        return self._column.slice(lo, hi).with_events(events)
