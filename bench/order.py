"""The price of order: the same run with results in order and as they are ready, on even and on skewed work."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # with this folder in the path, bench/gzip.py would hide Python's gzip

from collections.abc import Callable
from functools import partial
from time import perf_counter

import sluiceway as sw

from bench.measure import Effort, Table, arguments, interleave, middle, report, show
from bench.works import WORKS, Work

#: How many events of each work make about a second of a run.
EVENTS = {"int identity": 1_500_000, "dict identity": 400_000, "dict + 20 µs": 80_000, "skew": 2_500}


def seconds(work: Work, n: int, ordered: bool, waits: list[float]) -> float:
    """Run once and return the seconds from the first result to the last; the start of workers has nothing to do with order."""
    results = sw.imap(work.fn, work.events(n), workers=2, ordered=ordered)
    next(results)
    started = perf_counter()
    count = 1 + sum(1 for _ in results)
    assert count == n, f"{count} of {n} events came back"
    took = perf_counter() - started
    if ordered:
        waits.append(results.report.order.waited_s)
    return took


def measure(effort: Effort) -> Table:
    """Measure every work both ways."""
    columns = ("work", "ordered µs", "unordered µs", "unordered ÷ ordered", "results waited s", "events")
    table = Table("the price of order, 2 workers", columns)
    for name, events in EVENTS.items():
        n = max(300, int(events * effort.seconds / 2)) if not effort.tiny else 300
        waits: list[float] = []
        cases: dict[str, Callable[[], float]] = {
            "ordered": partial(seconds, WORKS[name], n, True, waits),
            "unordered": partial(seconds, WORKS[name], n, False, waits),
        }
        figures = interleave(cases, effort.repeats, warm_up=not effort.tiny)
        ordered, unordered = (middle(figures[case]) for case in cases)
        table.add(name, ordered / n * 1e6, unordered / n * 1e6, unordered / ordered, middle(waits), n)
    return table


def main() -> None:
    """Measure and report."""
    effort: Effort = arguments(__doc__ or "").effort
    report("order", effort, [show(measure(effort))])


if __name__ == "__main__":
    main()
