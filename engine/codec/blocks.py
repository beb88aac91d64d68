"""Blocks: a long batch as several MessagePack arrays in one body, each of which can be unpacked alone.

Decides how a body of blocks is laid out, and how long a block is: what it holds should fit into the cache of a core
while it is unpacked, handled and packed again, which costs a quarter less than with thousands of events in one piece.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Protocol

import ormsgpack

#: A block is about so long when packed; its objects take some ten times as much.
BLOCK_BYTES = 128 * 1024
#: No block has fewer events (what a block costs is spread over them), none has more.
FEWEST, MOST = 1024, 8192
_TAIL = 4  # bytes: how long the table in front of it is


class Blocks(Protocol):
    """A batch that can be unpacked block by block."""

    @property
    def ends(self) -> Sequence[int]:
        """How many events there are up to the end of each block."""

    def load(self, lo: int, hi: int) -> list[Any]:
        """Give the events `lo .. hi - 1`; quickest where those are one block. What it raises means damage."""


def block_size(events: int, nbytes: int) -> int:
    """Give how many events a block should have where `events` of them take `nbytes`."""
    return max(FEWEST, min(MOST, BLOCK_BYTES * events // max(1, nbytes)))


def write_body(counts: list[int], bodies: Sequence[bytes | bytearray | memoryview]) -> bytes:
    """Join packed blocks of so many events each: the blocks, a table of their counts and sizes, its length."""
    table = ormsgpack.packb([counts, list(map(len, bodies))])
    return b"".join([*bodies, table, len(table).to_bytes(_TAIL, "little")])


class Packed:
    """The blocks of a body that `write_body` has written; raises `ValueError` for one that it has not."""

    def __init__(self, body: bytes | bytearray | memoryview) -> None:
        whole = memoryview(body)
        at = whole.nbytes - _TAIL
        table = at - int.from_bytes(whole[max(0, at) :], "little")
        if table < 0:
            raise ValueError("a body of blocks without its table")
        counts, sizes = ormsgpack.unpackb(whole[table:at])
        stops = list(accumulate(sizes))
        if len(counts) != len(sizes) or min(*counts, *sizes) < 0 or stops[-1] != table:
            raise ValueError("a table that is not that of its blocks")
        self._lay_out(counts, [whole[stop - size : stop] for size, stop in zip(sizes, stops, strict=True)])

    def _lay_out(self, counts: list[int], bodies: list[Any]) -> None:
        #: The blocks as they are packed, and how many events each has.
        self.counts = counts
        self.bodies = bodies
        self.ends = list(accumulate(counts))
        #: A block of which only a part was given: which one, the first event that nobody has, its events.
        self._left: tuple[int, int, list[Any]] | None = None

    def load(self, lo: int, hi: int) -> list[Any]:
        """Give the events `lo .. hi - 1`. What is left of their last block is kept: mostly it is asked for next."""
        events: list[Any] = []
        at = bisect_right(self.ends, lo)
        while lo < hi:
            block = self._block(at, lo)
            stop = self.ends[at]
            start = stop - len(block)
            if hi < stop:
                self._left = at, hi, block
            if lo == start and hi == stop and not events:
                return block
            events += block[lo - start : hi - start]
            lo = stop
            at += 1
        return events

    def _block(self, at: int, lo: int) -> list[Any]:
        """Unpack a block, unless it is at hand and nobody has its events from `lo` on, who may have changed them."""
        left, self._left = self._left, None
        if left is not None and left[0] == at and left[1] <= lo:
            return left[2]
        block: list[Any] = ormsgpack.unpackb(self.bodies[at])
        if not isinstance(block, list) or len(block) != self.counts[at]:
            raise ValueError("a block of another length than was announced")
        return block


class Single(Packed):
    """A batch that is one block, unpacked when it is needed."""

    def __init__(self, body: bytes | bytearray | memoryview, count: int) -> None:
        self._lay_out([count], [body])


class Span:
    """A run of a range, whose numbers are written down only where they are worked on."""

    def __init__(self, span: range) -> None:
        self._span = span
        self.ends = (*range(MOST, len(span), MOST), len(span))

    def load(self, lo: int, hi: int) -> list[int]:
        """Give the numbers `lo .. hi - 1` of it."""
        return list(self._span[lo:hi])
