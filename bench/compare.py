"""sluiceway beside its peers: the same workloads, the same checks, in one run, with the peers' defaults and tuned.

Every measurement is a process of its own (`bench.cell`). First each runner's speed is found and, where it has a chunk
size, the best of a few; then all runners take turns. Peers are timed with their workers started and warm, sluiceway
with the start and the end of its processes inside its time; beside it stands what it takes between its first and its
last result.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # with this folder in the path, bench/gzip.py would hide Python's gzip

import argparse
import json
import subprocess
from dataclasses import dataclass, field
from typing import Any

from bench.measure import Effort, Table, arguments, cores, middle, report, script, show, spread
from bench.peers import ALL, OURS, PEERS
from bench.works import WORKS, Work

WORKERS = 2
_TIMEOUT_S = 120.0
#: What a quick run measures, with half of the chunk sizes.
QUICK_WORKS = ("int identity", "dict identity", "dict + 20 µs", "1 MiB bytes")


@dataclass(slots=True)
class Case:
    """One runner on one work: its chunk size, its number of events, and its figures."""

    peer: str
    work: Work
    chunk: int | None = None
    tuned: bool = False
    n: int = 0
    figures: list[dict[str, Any]] = field(default_factory=list)
    failure: str = ""

    @property
    def label(self) -> str:
        """The name in tables."""
        return f"{self.peer} ({self.chunk})" if self.tuned else self.peer

    def take(self, n: int, *, cold: bool = False, watch: bool = False) -> dict[str, Any] | None:
        """Measure once; `None` when it failed, with `failure` telling why."""
        order = {"peer": self.peer, "work": self.work.name, "n": n, "chunk": self.chunk}
        order |= {"workers": WORKERS, "cold": cold, "watch": watch}
        try:
            done = script("cell", json.dumps(order), timeout_s=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.failure = f"nothing came back in {_TIMEOUT_S:g} s"
            return None
        if done.returncode or not done.stdout.strip():
            self.failure = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            return None
        figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return figures

    def us(self, what: str) -> float:
        """Return the median of a figure in microseconds for each event."""
        return middle(1e6 * figures[what] / figures["n"] for figures in self.figures)


def cases_of(work: Work, peers: list[str], effort: Effort) -> list[Case]:
    """Find each runner's speed and best chunk size; return the cases that run."""
    found = []
    for peer in peers:
        default = _sized(Case(peer, work), effort)
        found.append(default)
        if default.failure:
            continue
        best = _best_chunk(default, effort)
        if best is not None:
            found.append(best)
    for case in found:
        case.figures.clear()
        if case.failure:
            print(f"  left out: {case.label} on {work.name}: {case.failure}", file=sys.stderr)
    return [case for case in found if not case.failure]


def _best_chunk(default: Case, effort: Effort) -> Case | None:
    """Try a runner's chunk sizes, once each; return the best case where it beats the default."""
    work = default.work
    # A chunk of 1 MiB events is a message of many MiB; few are enough to see which way it goes.
    chunks = [chunk for chunk in ALL[default.peer].chunks if not work.bytes_each or chunk <= 8]
    best, least = None, default.us("wall_s")
    n = max(default.n, default.figures[0]["n"])
    for chunk in chunks[:1] if effort.tiny else chunks[1::2] if effort.quick else chunks:
        case = Case(default.peer, work, chunk, tuned=True)
        figures = case.take(n)
        if figures is not None and 1e6 * figures["wall_s"] / n < least:
            best, least = case, 1e6 * figures["wall_s"] / n
    if best is None or effort.tiny:
        return None
    return _sized(best, effort, n)


def _sized(case: Case, effort: Effort, n: int = 0) -> Case:
    """Find how many events take about as long as the effort says, beginning with `n`."""
    most = min(case.work.most, ALL[case.peer].most)
    if case.work.bytes_each:
        most = min(most, 2000)
    n = n or (16 if case.work.bytes_each else 200)
    case.n = n
    while True:
        figures = case.take(n)
        if figures is None:
            return case
        case.figures = [figures]
        took = figures["wall_s"] if ALL[case.peer].keeps_pool else figures["steady_s"]
        if took >= effort.seconds / 4 or n >= most or effort.tiny:
            break
        n = min(most, int(n * min(50.0, max(2.0, effort.seconds / 2 / max(took, 1e-6)))))
    case.n = n if effort.tiny else max(1, min(most, int(n * effort.seconds / max(took, 1e-6))))
    return case


def run_work(work: Work, peers: list[str], effort: Effort) -> tuple[Table, list[Case]]:
    """Measure one work; return its table and its cases."""
    cases = cases_of(work, peers, effort)
    for _ in range(effort.repeats):
        for case in cases:
            figures = case.take(case.n)
            if figures is not None:
                case.figures.append(figures)
    cases = [case for case in cases if case.figures]
    return table_of(work, cases), cases


def table_of(work: Work, cases: list[Case]) -> Table:
    """Write one work's table; all times are medians in microseconds for each event."""
    columns = ("runner", "µs/event", "first→last", "CPU µs", "spread", "× loop", "× best peer")
    table = Table(f"{work.name}: µs for each event, {WORKERS} workers", columns)
    loop = next((case.us("wall_s") for case in cases if case.peer == "loop"), None)
    peer = min((case.us("wall_s") for case in cases if case.peer not in OURS), default=None)
    for case in sorted(cases, key=lambda case: (case.peer not in OURS, case.us("wall_s"))):
        us = case.us("wall_s")
        spread_ = spread([figures["wall_s"] for figures in case.figures])
        ours = case.peer in OURS
        table.add(
            case.label, us, case.us("steady_s") if ours else None, case.us("cpu_s"), f"{spread_:.0%}",
            loop / us if loop else None, peer / us if peer else None,
        )  # fmt: skip
    if work.core_s:
        ideal = work.core_s * 1e6 / min(WORKERS, cores())
        table.note = f"ideal, work ÷ cores: {ideal:,.1f} µs"
    return table


def first_results(peers: list[str], effort: Effort) -> Table:
    """Measure how long the first result takes, the start of the workers included."""
    cases = [Case(peer, WORKS["dict identity"]) for peer in peers]
    for _ in range(effort.repeats):
        for case in cases:
            figures = case.take(64, cold=True)
            if figures is not None:
                case.figures.append(figures)
    table = Table("first result after, workers not yet started", ("runner", "ms", "spread"))
    for case in cases:
        if case.figures:
            firsts = [figures["first_s"] for figures in case.figures]
            table.add(case.label, middle(firsts) * 1e3, f"{spread(firsts):.0%}")
    return table


def memory(work: Work, cases: list[Case], effort: Effort) -> Table:
    """Measure the peak memory of all processes together while one work runs."""
    columns = ("runner", "all processes MiB", "largest MiB", "grew most MiB", "events")
    table = Table(f"peak memory on {work.name}", columns)
    for case in cases:
        figures = case.take(case.n, watch=True)
        if figures is not None:
            sizes = [figures[name] / (1 << 20) for name in ("peak_bytes", "peak_of_one_bytes", "growth_bytes")]
            table.add(case.label, *sizes, case.n)
    return table


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--works", nargs="+", choices=list(WORKS), metavar="WORK")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS), metavar="PEER")
    parser.add_argument("--only-speed", action="store_true", help="leave out first results and memory")


def main() -> None:
    """Measure what the command line asks for."""
    options = arguments(__doc__ or "", _options)
    effort: Effort = options.effort
    peers = []
    for peer in options.peers:
        missing = ALL[peer].missing()
        if missing is None:
            peers.append(peer)
        else:
            print(f"  left out: {peer}: {missing} is not installed", file=sys.stderr)
    tables: list[Table] = []
    raw: list[dict[str, Any]] = []
    for name in options.works or (["dict identity"] if effort.tiny else QUICK_WORKS if effort.quick else WORKS):
        work = WORKS[name]
        print(f"-- {name}, {len(peers)} runners", flush=True)
        table, cases = run_work(work, peers, effort)
        tables.append(show(table))
        raw += [{"work": name, "runner": case.label, "figures": case.figures} for case in cases]
        if name in ("dict identity", "1 MiB bytes") and not options.only_speed:
            tables.append(show(memory(work, cases, effort)))
    if not options.only_speed:
        tables.append(show(first_results(peers, effort)))
    report("compare", effort, tables, {"raw": raw})


if __name__ == "__main__":
    main()
