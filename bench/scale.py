"""How the cost of an event grows: with workers, with the graph's depth, with branches, window and events in flight.

The work is next to nothing, so the figures are those of the engine. One thing changes at a time; all else is default.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # with this folder in the path, bench/gzip.py would hide Python's gzip

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import sluiceway as sw

from bench import tree
from bench.decks import simulate
from bench.measure import Effort, Table, arguments, interleave, middle, report, show
from bench.works import dicts, spin_20us


def same(event: Any) -> Any:
    """Return the event back."""
    return event


def handlers(depth: int) -> list[Callable[[Any], Any]]:
    """Make `depth` different handlers."""
    return [partial(same) for _ in range(depth)]


class Count:
    """A sink that counts, and records when the first events arrived."""

    def __init__(self) -> None:
        self.events = 0
        self.first_at = 0.0

    def write(self, events: Sequence[Any]) -> None:
        """Count a batch."""
        self.first_at = self.first_at or perf_counter()
        self.events += len(events)

    def close(self) -> None:
        """Do nothing: nothing is open."""


def run(build: Callable[[Any, Count], int], n: int, cpu: dict[str, list[float]], name: str, **options: Any) -> float:
    """Run one graph; return µs for each event read, from the first result to the last."""
    graph, count = sw.Graph("scale"), Count()
    sinks = build(graph.source(dicts(n), name="dicts"), count)
    before = tree.cpu_seconds()
    sw.run(graph, **options)
    took = perf_counter() - count.first_at
    cpu.setdefault(name, []).append((tree.cpu_seconds() - before) / n * 1e6)
    assert count.events == n * sinks, f"{count.events} of {n * sinks} events came"
    return took / n * 1e6


def chain(depth: int, barriers: bool, stream: Any, count: Count) -> int:
    """Wire `depth` handlers, fused into one pool or with a barrier between each two."""
    for at, handler in enumerate(handlers(depth)):
        stream = stream.map(handler, name=f"step{at}")
        if barriers and at + 1 < depth:
            stream = stream.barrier()
    stream.sink(count)
    return 1


def fan_out(branches: int, stream: Any, count: Count) -> int:
    """Wire `branches` handlers in parallel, each with a sink."""
    for at, handler in enumerate(handlers(branches)):
        stream.map(handler, name=f"branch{at}").sink(count)
    return branches


def busy(stream: Any, count: Count) -> int:
    """Wire one handler of 20 µs."""
    stream.map(spin_20us).sink(count)
    return 1


Case = tuple[str, Callable[[Any, Count], int], int, dict[str, Any]]


def experiments(n: int) -> Iterator[tuple[str, list[Case]]]:
    """Yield each experiment: what changes, and its cases (label, graph, events, options)."""
    one = partial(chain, 1, False)
    workers = (1, 2, 3, 4, 6, 8)
    yield "workers, identity", [(str(w), one, n, {"workers": w}) for w in workers]
    yield "workers, 20 µs", [(str(w), busy, n // 3, {"workers": w}) for w in workers]
    yield "depth, fused", [(str(d), partial(chain, d, False), n // 2, {"workers": 2}) for d in (1, 2, 4, 8)]
    yield "depth, barriers", [(str(d), partial(chain, d, True), n // 4, {"workers": 1}) for d in (1, 2, 4)]
    yield "fan-out", [(str(b), partial(fan_out, b), n // 4, {"workers": 2}) for b in (1, 2, 4)]
    windows = (1 << 18, 1 << 20, 1 << 23, 1 << 26)
    yield "window bytes", [(f"{w >> 10} KiB", one, n, {"workers": 2, "window_bytes": w}) for w in windows]
    numbers = (16, 256, 4096, 65536)
    yield "events in flight", [(str(w), one, min(n, 500 * w), {"workers": 2, "window_numbers": w}) for w in numbers]


def measure(effort: Effort, title: str, cases: list[Case]) -> Table:
    """Measure one experiment."""
    cpu: dict[str, list[float]] = {}
    calls = {name: partial(run, build, n, cpu, name, **options) for name, build, n, options in cases}
    figures = interleave(calls, effort.repeats, warm_up=False)
    table = Table(f"scale: {title}", (title, "µs/event", "CPU µs", "× first", "events"))
    first = middle(figures[cases[0][0]])
    for name, _, n, _ in cases:
        us = middle(figures[name])
        table.add(name, us, middle(cpu[name]), us / first, n)
    return table


def decks_table(effort: Effort) -> Table:
    """Simulate runs on 1 to 1,000 decks; see `bench/decks.py`."""
    table = Table(
        "scale: decks of 8 workers, simulated",
        ("decks", "µs an event", "events a batch", "core µs/batch", "in flight", "events/s", "workers busy", "caller busy"),
    )
    for event_s in (2e-5, 1e-3, 2e-2):
        for decks in (1,) if effort.tiny else (1, 10, 100, 1000):
            batches = 3 if effort.tiny or decks == 1000 else 20
            one = simulate(decks, event_s, batches)
            figures = (one.batch, one.core_us, one.in_flight, one.rate, one.busy, one.caller)
            table.add(f"{decks:,}", event_s * 1e6, *figures)
    return table


def main() -> None:
    """Measure and report."""
    effort: Effort = arguments(__doc__ or "").effort
    n = {"full": 400_000, "quick": 60_000}.get(effort.name, 400)
    tables = []
    for title, cases in experiments(n):
        tables.append(show(measure(effort, title, cases[:2] if effort.tiny else cases)))
    tables.append(show(decks_table(effort)))
    report("scale", effort, tables)


if __name__ == "__main__":
    main()
