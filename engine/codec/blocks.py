"""Blocks: a long batch as several MessagePack arrays in one body, each of which can be decoded alone.

Decides the layout of such a body, and how long a block is: its events should fit into the cache of a core while they
are decoded, handled and encoded again, which costs a quarter less than thousands of events at once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Protocol

import ormsgpack

#: The approximate size of an encoded block in bytes; its decoded objects take about ten times as much.
BLOCK_BYTES = 128 * 1024
#: Bounds of the events in a block; a smaller one would cost too much per event.
MIN_BLOCK_EVENTS, MAX_BLOCK_EVENTS = 1024, 8192
_TAIL = 4  # bytes at the end: the size of the table before them


class Blocks(Protocol):
    """A batch that can be decoded block by block."""

    @property
    def ends(self) -> Sequence[int]:
        """The number of events up to the end of each block."""

    def load(self, lo: int, hi: int) -> list[Any]:
        """Return the events `lo .. hi - 1`; quickest if they are one block. Any exception means damage."""


def block_size(events: int, nbytes: int) -> int:
    """Return the number of events for a block, given that `events` of them take `nbytes` bytes."""
    return max(MIN_BLOCK_EVENTS, min(MAX_BLOCK_EVENTS, BLOCK_BYTES * events // max(1, nbytes)))


def write_body(counts: list[int], bodies: Sequence[bytes | bytearray | memoryview]) -> bytes:
    """Return a body: the encoded blocks, a table of their event counts and sizes, and the size of that table."""
    table = ormsgpack.packb([counts, list(map(len, bodies))])
    return b"".join([*bodies, table, len(table).to_bytes(_TAIL, "little")])


class Packed:
    """The blocks of a body that `write_body` returned; raises `ValueError` for any other body."""

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
        self._set_blocks(counts, [whole[stop - size : stop] for size, stop in zip(sizes, stops, strict=True)])

    def _set_blocks(self, counts: list[int], bodies: list[Any]) -> None:
        #: The encoded blocks, and the number of events of each.
        self.counts = counts
        self.bodies = bodies
        self.ends = list(accumulate(counts))
        #: A decoded block of which only a part was returned: its index, the first event not returned, its events.
        self._rest: tuple[int, int, list[Any]] | None = None

    def load(self, lo: int, hi: int) -> list[Any]:
        """Return the events `lo .. hi - 1`. The rest of the last block is kept, because it is usually asked for next."""
        events: list[Any] = []
        at = bisect_right(self.ends, lo)
        while lo < hi:
            block = self._block(at, lo)
            stop = self.ends[at]
            start = stop - len(block)
            if hi < stop:
                self._rest = at, hi, block
            if lo == start and hi == stop and not events:
                return block
            events += block[lo - start : hi - start]
            lo = stop
            at += 1
        return events

    def _block(self, at: int, lo: int) -> list[Any]:
        """Return the events of a block, decoded unless they are kept and those from `lo` on were never returned."""
        rest, self._rest = self._rest, None
        if rest is not None and rest[0] == at and rest[1] <= lo:
            return rest[2]
        block: list[Any] = ormsgpack.unpackb(self.bodies[at])
        if not isinstance(block, list) or len(block) != self.counts[at]:
            raise ValueError("a block of another length than was announced")
        return block


class Single(Packed):
    """A batch that is one block, decoded when it is needed."""

    def __init__(self, body: bytes | bytearray | memoryview, count: int) -> None:
        self._set_blocks([count], [body])


class Span:
    """A range, made into a list only where it is worked on."""

    def __init__(self, span: range) -> None:
        self._span = span
        self.ends = (*range(MAX_BLOCK_EVENTS, len(span), MAX_BLOCK_EVENTS), len(span))

    def load(self, lo: int, hi: int) -> list[int]:
        """Return its numbers at `lo .. hi - 1`."""
        return list(self._span[lo:hi])
