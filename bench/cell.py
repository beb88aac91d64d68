"""One measurement in a process of its own: one runner, one work, one chunk size. Prints one line of JSON.

A pool is started and has answered a few events before the clock runs; sluiceway has none to keep, so starting and
ending its processes is inside its time. Nothing is left of an earlier measurement.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import chain
from time import perf_counter
from typing import Any

from bench import tree
from bench.peers import ALL, Peer
from bench.works import WORKS, Work


class Clocked:
    """An iterator over results that records when the first one arrived."""

    def __init__(self, results: Iterable[Any]) -> None:
        self._results = results
        self.first_at = 0.0

    def __iter__(self) -> Iterator[Any]:
        rest = iter(self._results)
        head = next(rest)
        self.first_at = perf_counter()
        return chain((head,), rest)


def measure(peer: Peer, work: Work, n: int, chunk: int | None, *, cold: bool, watch: bool) -> dict[str, Any]:
    """Run once and return the figures. `cold`: no warm-up and the start counts; `watch`: sample the memory."""
    peer.load()
    begun = perf_counter()
    peer.open(work)
    if not cold and peer.keeps_pool:
        few = (chunk or 1) * 4 * peer.workers if not work.bytes_each else 4
        _consume(peer, work, few, chunk)
        begun = perf_counter()
    cpu = tree.cpu_seconds()
    with tree.MemoryWatch() if watch else nullcontext() as memory:
        started = perf_counter()
        count, first_at = _consume(peer, work, n, chunk)
        wall = perf_counter() - started
    used = tree.cpu_seconds() - cpu
    assert count == n, f"{count} of {n} events came back"
    figures = {"n": n, "wall_s": wall, "first_s": first_at - begun, "cpu_s": used}
    figures["steady_s"] = started + wall - first_at
    if memory is not None:
        figures |= {"peak_bytes": memory.peak, "peak_of_one_bytes": memory.peak_of_one, "growth_bytes": memory.growth}
    peer.close()
    return figures


def _consume(peer: Peer, work: Work, n: int, chunk: int | None) -> tuple[int, float]:
    results = peer.results(work, work.events(n), n, chunk)
    # A pipeline has its flat_map inside; the others return a list for each event.
    if work.flat and not peer.name.startswith("sluiceway"):
        results = chain.from_iterable(results)
    clocked = Clocked(results)
    if peer.name == "sluiceway unordered":
        return sum(1 for _ in clocked), clocked.first_at
    return work.verify(clocked, n), clocked.first_at


def main() -> None:
    """Read the job from the command line, measure it, print the figures."""
    job = json.loads(sys.argv[1])
    peer = ALL[job["peer"]](job["workers"])
    figures = measure(
        peer, WORKS[job["work"]], job["n"], job["chunk"], cold=job["cold"], watch=job["watch"]
    )
    print(json.dumps(figures), flush=True)
    if job["peer"] in ("pypeln", "torchdata nodes"):
        os._exit(0)  # their threads do not always end


if __name__ == "__main__":
    main()
