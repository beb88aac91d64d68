"""The way of numbers between the pools of a run: what a stream has from one pool makes tasks ready for others.

Decides which numbers are ready for which pool, which go to unordered sinks at once, and in what batches a pool is to
answer. Who works on what is decided by the dispatchers, what is released by the barrier.
"""

from __future__ import annotations

from collections.abc import Callable

from ...nodes.dispatch.dispatcher import merge_ready
from ...nodes.ordering.order_log import Entries
from ...nodes.ordering.segments import ExitData, Segment
from .effects import DeliverLoose
from .pool import Pool
from .stream_stores import StreamStores
from .topology import Wiring


class Flow:
    """Passes what each stream has on to those that read it."""

    def __init__(
        self, wiring: Wiring, pools: list[Pool], streams: StreamStores, take_log: Callable[[], Entries | None]
    ) -> None:
        self.loose_out = 0  #: numbers that unordered sinks have got and are not done with
        self._loose = wiring.loose
        self._streams = streams
        self._take_log = take_log  #: returns what a delivery must make durable before
        self._readers: list[list[tuple[Pool, int]]] = [
            [(pool, port) for pool in pools for port, read in enumerate(pool.wiring.ports) if read == stream]
            for stream in range(len(streams.stores))
        ]

    def record_arrival(
        self, stream: int, start: int, size: int, new: list[tuple[int, int]], data: ExitData, now: float
    ) -> list[DeliverLoose]:
        """Retain what a stream now has and make it ready for its readers; `new` are the parts that count.

        Returns what is for unordered sinks.
        """
        segment = Segment(start, start + size, data.payload, data.nbytes, data.counts, data.indices, now)
        self._streams.put(stream, segment, new)
        for pool, port in self._readers[stream]:
            for lo, hi in new:
                for a, b in merge_ready(pool.covered, port, lo, hi):
                    pool.queue_stats.enter(b - a, now)
                    if not pool.wiring.in_order:
                        pool.make_ready(a, b)
            if pool.wiring.in_order:
                upto = pool.arrived_below
                pool.make_ready(pool.in_order_upto, upto)
                pool.in_order_upto = upto
        loose = []
        if stream in self._loose:
            for lo, hi in new:
                self.loose_out += hi - lo
                (slices,) = self._streams.slices((stream,), lo, hi)
                loose.append(DeliverLoose(stream, lo, hi, slices, self._take_log()))
        return loose

    def record_answer(self, pool: Pool, lo: int, hi: int, now: float) -> None:
        """Record that a pool has answered `lo .. hi - 1`; the inputs are kept if a state must be rebuilt from them."""
        for part in self._streams.stores[pool.wiring.ports[0]].slices(lo, hi):
            pool.queue_stats.leave(part.hi - part.lo, now - part.segment.at, now)
        if pool.retention is not None:  # a new worker would begin with it again
            pool.retention.record_inputs(self._streams.cost(pool.wiring.ports, lo, hi))
        else:
            self._streams.consume(pool.wiring.ports, lo, hi)

    def record_loose_consumed(self, stream: int, lo: int, hi: int) -> None:
        """Record that the unordered sinks of a stream are done with `lo .. hi - 1`."""
        self.loose_out -= hi - lo
        self._streams.consume((stream,), lo, hi)

    def answer_batch(self, pool: Pool) -> int:
        """Return how many numbers a pool is to answer at once: as many as the next pools want in a task."""
        readers = (reader for stream in pool.wiring.exits for reader, _ in self._readers[stream])
        return min((reader.dispatcher.batch for reader in readers), default=0)
