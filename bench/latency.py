"""Latency: from the moment an event is due at the source to the moment the sink has it, at fixed rates.

The load is open: events are due on a fixed schedule, whatever the graph does, and an event that is read late is late
from the moment it was due, so a stall is charged to every event that it delays. The first events, while workers are
still starting, are shown separately.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # with this folder in the path, bench/gzip.py would hide Python's gzip

from collections.abc import Iterator
from time import monotonic_ns, sleep
from typing import Any

import sluiceway as sw

from bench.measure import Effort, Table, arguments, middle, percentile, report, show

RATES = (100, 1_000, 10_000)
#: Events in this many seconds after the first result are not counted.
_SETTLE_S = 0.5


def schedule(rate: float, seconds: float) -> Iterator[int]:
    """Yield the times (monotonic nanoseconds) at which events are due, each at its time."""
    began = monotonic_ns()
    for number in range(max(1, int(rate * seconds))):
        due = began + int(number * 1e9 / rate)
        wait = due - monotonic_ns()
        if wait > 0:
            sleep(wait / 1e9)
        yield due


def stamped(event: int) -> int:
    """Do nothing with an event."""
    return event


class Arrivals:
    """A sink that records when each event arrived, and how late."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int]] = []

    def __call__(self, due: int) -> None:
        now = monotonic_ns()
        self.rows.append((now, now - due))


def delays(rate: float, seconds: float, workers: int | None) -> tuple[list[float], float]:
    """Run once; return the sorted delays in milliseconds of the settled run, and the first event's."""
    graph, arrivals = sw.Graph("latency"), Arrivals()
    graph.source(schedule(rate, seconds + _SETTLE_S)).map(stamped).sink(arrivals)
    sw.run(graph, workers=workers)
    settled = arrivals.rows[0][0] + int(_SETTLE_S * 1e9)
    counted = [delay / 1e6 for at, delay in arrivals.rows if at >= settled]
    return sorted(counted or [delay / 1e6 for _, delay in arrivals.rows]), arrivals.rows[0][1] / 1e6


def floor(rate: float, seconds: float) -> list[float]:
    """Return the delays of the schedule alone: what the clock and the operating system add."""
    return sorted((monotonic_ns() - due) / 1e6 for due in schedule(rate, seconds))


def measure(effort: Effort, rates: tuple[int, ...] = RATES) -> Table:
    """Measure every rate with two workers and with none asked for."""
    columns = ("rate/s", "runner", "p50 ms", "p99 ms", "p99.9 ms", "first ms", "events")
    table = Table("latency from due at the source to the sink", columns)
    seconds = {"full": 5.0, "quick": 1.5}.get(effort.name, 0.05)
    for rate in rates:
        rows: dict[str, list[Any]] = {"schedule alone": [], "workers=2": [], "workers=None": []}
        for _ in range(effort.repeats):
            rows["schedule alone"].append((floor(rate, min(seconds, 1.0)), 0.0))
            rows["workers=2"].append(delays(rate, seconds, 2))
            rows["workers=None"].append(delays(rate, seconds, None))
        for name, runs in rows.items():
            shares = [middle(percentile(values, share) for values, _ in runs) for share in (0.5, 0.99, 0.999)]
            first = middle(first for _, first in runs) if name != "schedule alone" else None
            table.add(rate, name, *shares, first, sum(len(values) for values, _ in runs))
    return table


def main() -> None:
    """Measure and report."""
    effort: Effort = arguments(__doc__ or "").effort
    report("latency", effort, [show(measure(effort, RATES[1:2] if effort.tiny else RATES))])


if __name__ == "__main__":
    main()
