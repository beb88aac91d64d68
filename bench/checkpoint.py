"""What checkpoints cost: the same run without any, and with one every second and every tenth of a second.

    python bench/checkpoint.py [--graphs files counts] [--events N] [--keys 10000] [--workers 2]

`files` reads JSON lines, changes a field of each and writes JSON lines: at every checkpoint the output is made durable
and the position of the source is saved. `counts` counts the events of each key and writes a line for every event: there
the states of all keys are packed and kept as well. The runs take turns; medians of the whole call are compared, with
the start and the end of the processes and the last checkpoint inside. Every output is compared byte by byte with what
the inline runner writes; exits with 1 where one differs.

Files and stores are in the folder of the results, for what is made durable in a file system that is memory costs
nothing. "in the store" is the time inside the store, of all checkpoints; the rest of the cost is the sink's commit and
the states.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # with this folder in the path, bench/gzip.py would hide Python's gzip

import argparse
import filecmp
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

import sluiceway as sw
from sluiceway.engine.checkpoints.sqlite_store import file_store
from sluiceway.engine.checkpoints.store import Saved

from bench import tree
from bench.measure import OUT, Effort, Table, arguments, interleave, middle, report, seconds_of, show, spread
from bench.works import rescored

#: How many events of each graph make about a second of a run.
EVENTS = {"files": 120_000, "counts": 60_000}
#: Seconds between two checkpoints.
INTERVALS = (1.0, 0.1)


class TimedStore:
    """A store in a file that counts the checkpoints that are written to it; all else it leaves to the store itself."""

    def __init__(self, path: Path) -> None:
        self.written = 0
        self.seconds = 0.0
        self._path = path
        self._store = file_store(path)

    def write(self, saved: Saved) -> None:
        """Keep a checkpoint."""
        self.seconds += seconds_of(partial(self._store.write, saved))
        self.written += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @property
    def bytes(self) -> int:
        """What the file holds."""
        return self._path.stat().st_size


@dataclass(slots=True)
class Case:
    """One way to run a graph, and what was seen of it; `interval_s` is `None` without checkpoints."""

    interval_s: float | None
    cpu_s: list[float] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    store_s: list[float] = field(default_factory=list)
    store_bytes: int = 0
    same: bool = True

    @property
    def name(self) -> str:
        """What it is called in the table."""
        return "without" if self.interval_s is None else f"every {self.interval_s:g} s"


def counted(pair: tuple[str, int]) -> str:
    """Write a key and its count as a line."""
    return f"{pair[0]} {pair[1]}"


def user_of(event: dict[str, Any]) -> str:
    """Return the key of an event."""
    user: str = event["user"]
    return user


def make_graph(name: str, source: Path, output: Path) -> sw.Graph:
    """Wire the graph from `source` to `output`."""
    graph = sw.Graph(name)
    events = graph.source(sw.jsonl(source), name="source")
    if name == "files":
        events.map(rescored).sink(sw.jsonl(output))
    else:
        events.key_by(user_of).count().map(counted).sink(sw.lines(output))
    return graph


def write_events(path: Path, n: int, keys: int) -> None:
    """Write `n` records of five fields, of `users` users."""
    with path.open("w") as file:
        for i in range(n):
            # A prime steps through the users in an order that is not theirs.
            event = {"id": i, "user": f"user{i * 7919 % keys}", "type": "login", "ok": True, "score": 0.5}
            file.write(json.dumps(event) + "\n")


def run(name: str, case: Case, source: Path, expected: Path, workers: int) -> float:
    """Run once, into a folder and a store of its own; return the seconds of the call."""
    with tempfile.TemporaryDirectory(prefix="run-", dir=source.parent) as folder:
        output = Path(folder) / "output"
        store = None if case.interval_s is None else TimedStore(Path(folder) / "run.db")
        words: dict[str, Any] = {"checkpoint": store, "checkpoint_interval_s": case.interval_s} if store else {}
        graph = make_graph(name, source, output)
        before = tree.cpu_seconds()
        started = perf_counter()
        sw.run(graph, workers=workers, **words)
        took = perf_counter() - started
        case.cpu_s.append(tree.cpu_seconds() - before)
        if store is not None:
            case.written.append(store.written)
            case.store_s.append(store.seconds)
            case.store_bytes = max(case.store_bytes, store.bytes)
        if not filecmp.cmp(expected, output, shallow=False):
            case.same = False
            print(f"  {name}, {case.name}: the output is not what the inline runner wrote", file=sys.stderr)
        return took


def measure(name: str, n: int, keys: int, workers: int, effort: Effort) -> tuple[Table, bool]:
    """Measure one graph in every way, in turns; return its table and whether all outputs were the same."""
    cases = [Case(interval_s) for interval_s in (None, *INTERVALS)]
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="checkpoint-", dir=OUT) as folder:
        source, expected = Path(folder) / "source", Path(folder) / "expected"
        write_events(source, n, keys)
        sw.run(make_graph(name, source, expected), runner="inline")
        calls: dict[str, Callable[[], float]] = {
            case.name: partial(run, name, case, source, expected, workers) for case in cases
        }
        # The inline run has just read the input: nobody reads it cold.
        walls = interleave(calls, effort.repeats, warm_up=False)
    return table_of(f"checkpoint: {name}, {n:,} events, {workers} workers", cases, walls), all(c.same for c in cases)


def table_of(title: str, cases: list[Case], walls: Mapping[str, list[float]]) -> Table:
    """Write one graph's table."""
    columns = (
        "checkpoints", "s", "× without", "CPU s", "CPU × without", "spread", "made", "in the store s", "store bytes", "same",
    )  # fmt: skip
    table = Table(title, columns)
    base, base_cpu = middle(walls[cases[0].name]), middle(cases[0].cpu_s)
    for case in cases:
        wall, cpu = middle(walls[case.name]), middle(case.cpu_s)
        row = [wall, wall / base, cpu, cpu / base_cpu, f"{spread(walls[case.name]):.0%}"]
        kept = [middle(case.written), middle(case.store_s), case.store_bytes] if case.written else [None, None, None]
        table.add(case.name, *row, *kept, case.same)
    table.note = "medians; 'made' counts those at the beginning and at the end as well"
    return table


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--graphs", nargs="+", choices=list(EVENTS), default=list(EVENTS), metavar="GRAPH", help="files, counts")
    parser.add_argument("--events", type=int, help="of each run (default: what takes about 6 s; quick: 1.5 s)")
    parser.add_argument("--keys", type=int, default=10_000, help="of the graph counts (default: 10,000)")
    parser.add_argument("--workers", type=int, default=2)


def main() -> int:
    """Measure and report; return 1 when a run wrote something else than the inline runner."""
    chosen = arguments(__doc__ or "", _options)
    effort: Effort = chosen.effort
    tables, same = [], True
    for name in chosen.graphs:
        n = chosen.events or (2_000 if effort.tiny else int(3 * effort.seconds * EVENTS[name]))
        table, alike = measure(name, n, chosen.keys, chosen.workers, effort)
        tables.append(show(table))
        same = same and alike
    report("checkpoint", effort, tables)
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
