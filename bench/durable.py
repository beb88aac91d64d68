"""What `durable=True` costs: the same run with checkpoints, its handler durable and not, in turns.

    python bench/durable.py [--cases plain_1ms async_1ms async_20ms latency] [--workers 2]

`plain_1ms` makes calls that wait for a millisecond one after the other in each worker, `async_1ms` and `async_20ms` await
16 at once in each: what is compared is the time of the whole call. `latency` gives a thousand events a second and compares
the median time from the source to the sink: a durable answer is released when it is synced to the disk, so that is the
time of one sync and what it waits for. How long the disk of the results takes for a sync is in the note.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # with this folder in the path, bench/gzip.py would hide Python's gzip

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import sluiceway as sw

from bench.measure import OUT, Effort, Table, arguments, interleave, middle, report, show, spread

CASES = ("plain_1ms", "async_1ms", "async_20ms", "latency")
#: Events of a run of about a second with two workers.
EVENTS = {"plain_1ms": 1_800, "async_1ms": 8_000, "async_20ms": 1_500, "latency": 1_000}


def wait_1ms(n: int) -> int:
    """Wait as for a quick service."""
    time.sleep(0.001)
    return n


async def await_1ms(n: int) -> int:
    """Await a quick service."""
    await asyncio.sleep(0.001)
    return n


async def await_20ms(n: int) -> int:
    """Await a service."""
    await asyncio.sleep(0.02)
    return n


def same(sent: float) -> float:
    """Return the time at which the event was given."""
    return sent


def paced(events: int) -> Iterator[float]:
    """Yield a thousand events a second, each the time at which it is given."""
    began = time.monotonic()
    for n in range(events):
        time.sleep(max(0.0, began + n / 1000 - time.monotonic()))
        yield time.monotonic()


HANDLERS: dict[str, Callable[[Any], Any]] = {
    "plain_1ms": wait_1ms, "async_1ms": await_1ms, "async_20ms": await_20ms, "latency": same,
}  # fmt: skip


def run(case: str, events: int, workers: int, folder: Path, *, durable: bool) -> float:
    """Run once; return the seconds of the call, or for `latency` the median seconds from source to sink."""
    waited: list[float] = []
    graph = sw.Graph(case)
    source = graph.source(partial(paced, events) if case == "latency" else range(events))
    stream = source.map(HANDLERS[case], durable=durable, workers=workers)
    if case == "latency":
        stream.sink(lambda sent: waited.append(time.monotonic() - sent))
    else:
        stream.map(str).sink(sw.lines(folder / "output"))
    with tempfile.TemporaryDirectory(prefix="run-", dir=folder) as own:
        started = time.perf_counter()
        sw.run(graph, workers=workers, checkpoint=Path(own) / "run.db")
        took = time.perf_counter() - started
    return median(waited) if case == "latency" else took


def sync_s(folder: Path) -> float:
    """Return the median seconds that the disk takes to sync a small write."""
    took = []
    with open(folder / "sync", "ab") as file:
        for _ in range(50):
            file.write(b"x" * 512)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return median(took)


def measure(case: str, events: int, workers: int, effort: Effort) -> Table:
    """Measure one case with and without, in turns."""
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="durable-", dir=OUT) as name:
        folder = Path(name)
        calls: dict[str, Callable[[], float]] = {
            label: partial(run, case, events, workers, folder, durable=durable)
            for label, durable in (("checkpoints alone", False), ("durable", True))
        }
        found = interleave(calls, effort.repeats, warm_up=False)
        disk_ms = 1000 * sync_s(folder)
    table = Table(f"durable: {case}, {events:,} events, {workers} workers", ("handler", "ms", "× without", "ms more", "spread"))
    base = middle(found["checkpoints alone"])
    for label, seconds in found.items():
        mine = middle(seconds)
        table.add(label, 1000 * mine, mine / base, 1000 * (mine - base), f"{spread(seconds):.0%}")
    what = "the median time from source to sink" if case == "latency" else "the whole call"
    table.note = f"medians of {what}; a sync of the disk takes {disk_ms:.2f} ms"
    return table


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--workers", type=int, default=2)


def main() -> int:
    """Measure and report."""
    chosen = arguments(__doc__ or "", _options)
    effort: Effort = chosen.effort
    tables = []
    for case in chosen.cases:
        events = 100 if effort.tiny else int(3 * effort.seconds * EVENTS[case])
        tables.append(show(measure(case, events, chosen.workers, effort)))
    report("durable", effort, tables)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
