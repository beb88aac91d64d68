"""Chaos: a random worker is killed every few milliseconds, and the output is compared byte by byte with the inline runner's.

    python bench/chaos.py [--graph ints|census] [--events N] [--every-ms 50] [--workers 2] [--seed S]

`ints` writes a line for each number after a few microseconds of work, `census` measures the files of the standard
library. The same graph runs inline, undisturbed and under fire; exits with 1 when the bytes differ. A replacement is
timed from the kill to the moment at which the successor takes work. The loss is how
much longer the run under fire took, in seconds of all its workers; the table shows it beside what the kills alone cost,
the sum of the replacements' seconds. CPU seconds, with those of dead workers, show the same on a machine in use.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # with this folder in the path, bench/gzip.py would hide Python's gzip

import argparse
import logging
import os
import random
import signal
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, thread_time
from typing import Any

import psutil
import sluiceway as sw
from sluiceway.engine import options
from sluiceway.engine.hub.hub import Hub
from sluiceway.engine.local.backend import ChildBackend
from sluiceway.engine.local.site import LocalSite
from sluiceway.engine.plan import compiler
from sluiceway.engine.plan import shipping as ship
from sluiceway.engine.runners import processes as process_run
from sluiceway.graphs import census

from bench import tree
from bench.measure import Effort, Table, arguments, percentile, report, show
from bench.works import ints


def digits(seconds: float, number: int) -> str:
    """Return a number and its square as text, after this many seconds of CPU time; needs no late import."""
    end = thread_time() + seconds
    while thread_time() < end:
        pass
    return f"{number} {number * number}"


def make_graph(name: str, events: int, work_s: float, output: Path) -> sw.Graph:
    """Wire the graph that writes to `output`."""
    if name == "census":
        return census.graph(output=str(output))
    graph = sw.Graph("ints")
    graph.source(ints(events), name="ints").map(partial(digits, work_s), name="digits").sink(sw.lines(output))
    return graph


# -- the killer -------------------------------------------------------------------------------------------------


class Killer:
    """Kills a random worker of a run every few seconds, from when the first one is ready until the context ends.

    `kills` maps the name of each killed worker to the time of the kill, in seconds of the monotonic clock.
    """

    def __init__(self, hub: Hub, every_s: float, chance: random.Random) -> None:
        self.kills: dict[str, float] = {}
        assert isinstance(hub.backend, ChildBackend)
        self._hub, self._backend = hub, hub.backend
        self._every_s = every_s
        self._chance = chance
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._kill_on, name="killer", daemon=True)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _kill_on(self) -> None:
        due = monotonic()
        while not self._over.wait(max(0.0, due - monotonic())):
            due += self._every_s
            if not self._hub.up.is_set():
                continue
            workers = self._backend.supervisor.alive
            left = sorted(worker for worker in workers if worker not in self.kills and not worker.startswith("source"))
            if left:
                worker = self._chance.choice(left)
                self._kill(worker, workers[worker])

    def _kill(self, worker: str, pid: int) -> None:
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                # The number may be another process's by now; what the descriptor names stays the same.
                if _is_grandchild(pid):
                    at = monotonic()
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    self.kills[worker] = at
            finally:
                os.close(descriptor)


def _is_grandchild(pid: int) -> bool:
    """Whether a living process was started by a child of this one, as workers are."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and psutil.Process(process.ppid()).ppid() == os.getpid()
    except psutil.NoSuchProcess:
        return False


# -- the runs ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Ran:
    """One run: its report, its CPU seconds, the kills, and for each death the seconds to a working replacement."""

    report: sw.RunReport
    cpu_s: float
    kills: int = 0
    replaced_s: list[float] = field(default_factory=list)


def run_plainly(graph: sw.Graph, **words: Any) -> Ran:
    """Run undisturbed."""
    before = tree.cpu_seconds()
    done = sw.run(graph, **words)
    return Ran(done, tree.cpu_seconds() - before)


def run_under_fire(graph: sw.Graph, workers: int, every_s: float, seed: int) -> Ran:
    """Run while workers are killed."""
    before = tree.cpu_seconds()
    plan = compiler.compile_graph(graph, workers=workers)
    plan.shipped = ship.ship(plan)
    running = process_run.ProcessRun(plan, options.RunOptions(workers=workers, max_deaths=None), LocalSite())
    hub = running._hub
    with Killer(hub, every_s, random.Random(seed)) as killer:
        for _ in running.batches():
            continue
    kills = killer.kills
    replaced = [made.ready_at - kills[made.worker] for made in hub.restarts.made if made.worker in kills]
    return Ran(running.report(), tree.cpu_seconds() - before, len(kills), sorted(replaced))


def first_difference(one: Path, other: Path) -> int | None:
    """Return the position of the first byte in which two files differ, or `None`."""
    a, b = one.read_bytes(), other.read_bytes()
    if a == b:
        return None
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def measure(chosen: argparse.Namespace, folder: Path) -> tuple[list[Table], bool]:
    """Run all three ways, in turns; return the tables and whether all wrote the same."""
    work_s, every_s = chosen.work_us / 1e6, chosen.every_ms / 1e3
    files = {name: folder / f"{name}.out" for name in ("inline", "undisturbed", "under fire")}
    make = {name: partial(make_graph, chosen.graph, chosen.events, work_s, path) for name, path in files.items()}
    speed = Table(f"chaos: {chosen.graph}, {chosen.workers} workers", ("run", "s", "events/s", "CPU s", "events"))
    columns = ("seed", "kills", "deaths seen", "handed out again", "median ms", "p99 ms", "exit to ready ms")
    fire = Table(f"a kill every {chosen.every_ms:g} ms: deaths and the time to a working replacement", columns)
    columns = ("seed", "worker-s lost", "CPU s lost", "worker-s of the kills", "lost ÷ kills", "CPU lost ÷ kills", "same")
    lost = Table("what it cost", columns)
    same = True

    def add_row(name: str, ran: Ran) -> Ran:
        took = ran.report.wall_s
        speed.add(name, took, ran.report.released / took, ran.cpu_s, ran.report.released)
        return ran

    add_row("inline", run_plainly(make["inline"](), runner="inline"))
    for seed in range(chosen.seed, chosen.seed + min(chosen.effort.repeats, 3)):
        plain = add_row("undisturbed", run_plainly(make["undisturbed"](), workers=chosen.workers))
        shot = add_row("under fire", run_under_fire(make["under fire"](), chosen.workers, every_s, seed))
        took, done = shot.replaced_s or [0.0], shot.report
        ms = [1e3 * seconds for seconds in (percentile(took, 0.5), percentile(took, 0.99), done.restart_p50_s)]
        fire.add(seed, shot.kills, done.worker_deaths, done.replayed, *ms)
        seconds, cpu = chosen.workers * (done.wall_s - plain.report.wall_s), shot.cpu_s - plain.cpu_s
        cost = sum(took)
        wrong = [name for name in ("undisturbed", "under fire") if _differs(name, files)]
        same = same and not wrong
        lost.add(seed, seconds, cpu, cost, *([seconds / cost, cpu / cost] if cost else [None, None]), not wrong)
    return [show(speed), show(fire), show(lost)], same


def _differs(name: str, files: dict[str, Path]) -> bool:
    at = first_difference(files["inline"], files[name])
    if at is not None:
        print(f"  {name}: byte {at:,} is not what the inline runner wrote", file=sys.stderr)
    return at is not None


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--graph", choices=("ints", "census"), default="ints")
    parser.add_argument("--events", type=int, help="numbers of the graph ints (default: 300,000; quick: 100,000)")
    parser.add_argument("--work-us", type=float, default=15.0, help="CPU time of one number, in microseconds")
    every = "milliseconds from one kill to the next (default: 50; census: 250, which is what its longest files take)"
    parser.add_argument("--every-ms", type=float, help=every)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1, help="of the choice of victims; grows with each repetition")


def main() -> int:
    """Measure and report; return 1 when a run wrote something else than the inline runner."""
    chosen = arguments(__doc__ or "", _options)
    effort: Effort = chosen.effort
    # If no worker lives as long as an event takes, no run ever ends.
    chosen.every_ms = chosen.every_ms or (250.0 if chosen.graph == "census" else 50.0)
    chosen.events = chosen.events or {"full": 300_000, "quick": 100_000}.get(effort.name, 20_000)
    logging.getLogger("sluiceway").setLevel(logging.ERROR)  # every death is a warning
    with tempfile.TemporaryDirectory(prefix="bench-chaos-") as folder:
        tables, same = measure(chosen, Path(folder))
    report("chaos", effort, tables)
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
