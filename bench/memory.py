"""Memory: whether the calling process and every child stay flat, and inside the window and 40 MiB, for as long as one likes.

    python bench/memory.py [--seconds 30] [--cases slow-dicts slow-bytes long-dicts long-bytes] [--window-mib 64]

`slow`: an endless source and a sink that consumes far less than the graph could deliver, so that the window is full all the
time. `long`: the same source and a sink that takes all it gets, so that as many events as possible pass. Every case is
a run in a process of its own (`bench.endless`), watched from this one. Everybody is weighed at rest first, with the
workers built and no event read; what a process had at its peak is shown above that.

Memory is the proportional share (PSS, from `smaps_rollup`): a page that several processes have is divided among them.
With RSS every page of the shared-memory arena, and all that the children still share with the process that they were
forked from, would be counted in full in each of them, and the sum would be several times what is taken from the
machine. So the rows add up to the last one, "all". PSS is sampled, and a short peak can pass unseen; the column
"RSS ever" is the kernel's own high-water mark, which misses nothing and counts the shared pages in full.

A process is flat when the median of the last quarter of the time is at most 4 MiB or 5 % above that of the first. The
arena grows with the peak of what was in flight, up to the window and 32 MiB, and keeps what it has: a run of large
events may take a while until it is as large as it gets, so give it minutes before reading a slope as a leak.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # with this folder in the path, bench/gzip.py would hide Python's gzip

import argparse
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from bench import tree
from bench.endless import Order
from bench.measure import ROOT, Effort, Table, arguments, middle, report, show
from bench.works import MIB

#: What a process may have at its peak, above what it has at rest and beside the window.
SPARE_BYTES = 40 * MIB
_FLAT_BYTES, _FLAT_SHARE = 4 * MIB, 0.05
_START_S, _END_S = 60.0, 60.0
#: Each case: what it is called, the work, and how many events a second the sink takes (0: all it gets).
CASES = {
    "slow-dicts": ("slow sink, small dicts", "dict identity", 5_000.0),
    "slow-bytes": ("slow sink, 1 MiB bytes", "1 MiB bytes", 20.0),
    "long-dicts": ("long run, small dicts", "dict identity", 0.0),
    "long-bytes": ("long run, 1 MiB bytes", "1 MiB bytes", 0.0),
}
#: One of each kind of sink and of work.
_TINY = ("slow-bytes", "long-dicts")


@dataclass(slots=True)
class Watched:
    """What was seen of one run: bytes at rest, and over time, of each process by its role."""

    idle: dict[str, int]
    series: dict[str, list[int]] = field(default_factory=dict)
    at_s: list[float] = field(default_factory=list)
    high_water: dict[str, int | None] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def record(self, at_s: float, sizes: dict[str, int]) -> None:
        """Keep one sample; raises `RuntimeError` when the processes are others than at rest."""
        if sizes.keys() != self.idle.keys():
            raise RuntimeError(f"there were {', '.join(self.idle)}, and now {', '.join(sizes)}")
        self.at_s.append(at_s)
        for role, size in sizes.items():
            self.series.setdefault(role, []).append(size)


class Runs:
    """One endless run in a process of its own, and who is who among its processes."""

    def __init__(self, order: Order, listener: socket.socket, process: subprocess.Popen[str]) -> None:
        self._order = order
        self._listener = listener
        self._process = process
        self._source: socket.socket | None = None
        self.roles: dict[int, str] = {process.pid: "caller"}

    def meet(self) -> None:
        """Take the calls of the source and of all workers; what else descends from the caller started them.

        Raises `RuntimeError` when one of them does not call.
        """
        workers = 0
        while self._source is None or workers < self._order.workers:
            line = self._next_call()
            with line.makefile() as words:
                role, pid = words.readline().split()
            if role == "source":
                self._source = line
                self.roles[int(pid)] = role
            else:
                line.close()
                workers += 1
                self.roles[int(pid)] = f"{role} {workers}"
        for descendant in tree.descendants(self._process.pid):
            self.roles.setdefault(descendant, "zygote")

    def _next_call(self) -> socket.socket:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            with suppress(TimeoutError):
                return self._listener.accept()[0]
            if self._process.poll() is not None:
                break
        raise RuntimeError("the run did not start: its source or a worker did not call")

    def go(self) -> None:
        """Let the source begin."""
        assert self._source is not None
        self._source.sendall(b"!")

    def weigh(self) -> dict[str, int]:
        """Return the bytes of each process, by its role; raises `RuntimeError` when the run has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the run ended by itself with exit code {self._process.returncode}")
        sizes = tree.memory_bytes(self._process.pid)
        return {self.roles.get(pid, f"process {pid}"): size for pid, size in sizes.items()}

    def end(self) -> dict[str, Any]:
        """End the run and return its figures; raises `RuntimeError` if it failed."""
        out, _ = self._process.communicate(timeout=_END_S)
        if self._process.returncode:
            raise RuntimeError(f"the run failed with exit code {self._process.returncode}")
        figures: dict[str, Any] = json.loads(out)
        return figures

    def close(self) -> None:
        """Return the line to the source back."""
        if self._source is not None:
            self._source.close()


@contextmanager
def started(work: str, sink_rate: float, workers: int, window_bytes: int) -> Iterator[Runs]:
    """Start a run that waits to go; whatever of it is left at the end is killed."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as folder, socket.socket(socket.AF_UNIX) as listener:
        order = Order(work, f"{folder}/calls", sink_rate, workers, window_bytes)
        listener.bind(order.address)
        listener.listen()
        listener.settimeout(1.0)
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.endless", order.as_word()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": path}, start_new_session=True,
        )  # fmt: skip
        runs = Runs(order, listener, process)
        try:
            runs.meet()
            yield runs
        finally:
            runs.close()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()


def watch(work: str, sink_rate: float, seconds: float, workers: int, window_bytes: int) -> Watched:
    """Run one case for so long; return what was seen."""
    with started(work, sink_rate, workers, window_bytes) as runs:
        seen = Watched(runs.weigh())
        runs.go()
        interval_s = max(0.02, min(1.0, seconds / 200))
        began = due = time.monotonic()
        while True:
            now = time.monotonic()
            seen.record(now - began, runs.weigh())
            if now >= began + seconds:
                break
            due = min(max(due + interval_s, time.monotonic()), began + seconds)
            time.sleep(max(0.0, due - time.monotonic()))
        seen.high_water = {role: tree.high_water_bytes(pid) for pid, role in runs.roles.items()}
        seen.figures = runs.end()
    seen.series["all"] = [sum(sizes) for sizes in zip(*seen.series.values(), strict=True)]
    seen.idle["all"] = sum(seen.idle.values())
    return seen


def table_of(title: str, seen: Watched, seconds: float, window_bytes: int) -> Table:
    """Write one case's table."""
    columns = (
        "process", "idle MiB", "first quarter MiB", "last quarter MiB", "last − first MiB", "flat", "peak MiB",
        "peak − idle MiB", "inside", "RSS ever MiB",
    )  # fmt: skip
    figures = seen.figures
    table = Table(f"memory: {title}", columns)
    for role, series in seen.series.items():
        first = middle(size for at, size in zip(seen.at_s, series, strict=True) if at <= seconds / 4)
        last = middle(size for at, size in zip(seen.at_s, series, strict=True) if at >= seconds * 3 / 4)
        peak, idle, ever = max(series), seen.idle[role], seen.high_water.get(role)
        single = role != "all"
        flat = last - first <= max(_FLAT_BYTES, _FLAT_SHARE * first) if single else None
        inside = peak - idle <= window_bytes + SPARE_BYTES if single else None
        sizes = [size / MIB for size in (idle, first, last, last - first)]
        table.add(role, *sizes, flat, peak / MIB, (peak - idle) / MIB, inside, ever / MIB if ever else None)
    table.note = (
        f"window {window_bytes // MIB} MiB, at most {figures['peak_in_flight_bytes'] / MIB:,.3g} MiB of it in flight;"
        f" inside: {window_bytes // MIB} + {SPARE_BYTES // MIB} MiB; {figures['events']:,} events in"
        f" {figures['wall_s']:,.3g} s; {'PSS' if tree.has_pss() else 'RSS, for there is no PSS here'},"
        f" {len(seen.at_s)} samples in {seconds:g} s"
    )
    return table


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, help="of each case (default: 30; quick: 6)")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), metavar="CASE", help=f"only these of {', '.join(CASES)}")
    parser.add_argument("--window-mib", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)


def main() -> None:
    """Measure and report; each case is taken once, for what counts is how long."""
    chosen = arguments(__doc__ or "", _options)
    effort: Effort = chosen.effort
    seconds = chosen.seconds or {"full": 30.0, "quick": 6.0}.get(effort.name, 0.4)
    tables, raw = [], []
    for case in chosen.cases or (_TINY if effort.tiny else CASES):
        title, work, rate = CASES[case]
        seen = watch(work, rate, seconds, chosen.workers, chosen.window_mib * MIB)
        tables.append(show(table_of(title, seen, seconds, chosen.window_mib * MIB)))
        raw.append({"case": case, "at_s": seen.at_s, "idle": seen.idle, "bytes": seen.series, "run": seen.figures})
    report("memory", effort, tables, {"seconds": seconds, "window_bytes": chosen.window_mib * MIB, "raw": raw})


if __name__ == "__main__":
    main()
