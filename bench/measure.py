"""Measuring: what every bench shares. Interleaved repetitions, medians, the machine, JSON files, tables.

Decides how figures are taken, kept and shown; what is measured is up to each bench. Cases take turns, so that a
machine that slows down slows all of them, and the median of each is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import sluiceway

ROOT = Path(__file__).resolve().parents[1]
#: Where results go: `$SLUICEWAY_BENCH_OUT`, else `out/bench` in the checkout.
OUT = Path(os.environ.get("SLUICEWAY_BENCH_OUT", ROOT / "out" / "bench"))
_PACKAGES = (
    *("sluiceway", "ormsgpack", "pyzmq", "cloudpickle", "numpy"),
    *("joblib", "mpire", "ray", "dask", "distributed", "pypeln", "torchdata", "torch"),
)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: `repeats` of each case, each of about `seconds`."""

    name: str
    repeats: int
    seconds: float

    @property
    def tiny(self) -> bool:
        """Whether this is only to see that the bench still runs."""
        return self.name == "tiny"


    @property
    def quick(self) -> bool:
        """Whether rough figures in minutes are wanted."""
        return self.name == "quick"


FULL = Effort("full", 5, 2.0)
QUICK = Effort("quick", 3, 0.5)
TINY = Effort("tiny", 1, 0.01)


def arguments(description: str, add: Callable[[argparse.ArgumentParser], object] | None = None) -> argparse.Namespace:
    """Read a bench's command line; return the namespace with `effort` set."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_true", help="fewer and shorter repetitions")
    effort.add_argument("--tiny", action="store_true", help="only to see that it runs; the figures mean nothing")
    parser.add_argument("--repeats", type=int, help="repetitions of each case (default: 5, quick: 3)")
    if add is not None:
        add(parser)
    options = parser.parse_args()
    chosen = TINY if options.tiny else QUICK if options.quick else FULL
    options.effort = Effort(chosen.name, options.repeats or chosen.repeats, chosen.seconds)
    return options


# -- taking figures ---------------------------------------------------------------------------------------------


def interleave(
    cases: Mapping[str, Callable[[], float]], repeats: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Call every case `repeats` times, in turns; return the figures of each case. The first turn is discarded."""
    figures: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(repeats + warm_up):
        for name, case in cases.items():
            figure = case()
            if turn or not warm_up:
                figures[name].append(figure)
    return figures


def seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds that one call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def seconds_each(call: Callable[[], object], least_s: float) -> float:
    """Return the seconds of one call out of as many calls as fill `least_s`; for calls that are much shorter."""
    count = 1
    while True:
        started = time.perf_counter()
        for _ in range(count):
            call()
        took = time.perf_counter() - started
        if took >= least_s:
            return took / count
        count = max(count * 2, int(count * least_s / max(took, 1e-9)))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0..1) of the sorted `values` lie."""
    return values[min(len(values) - 1, int(share * len(values)))]


def middle(values: Iterable[float]) -> float:
    """Return the median."""
    return median(values)


def spread(values: Sequence[float]) -> float:
    """Return the spread of the figures: (greatest - least) / median."""
    mid = median(values)
    return (max(values) - min(values)) / mid if mid else 0.0


# -- the machine ------------------------------------------------------------------------------------------------


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else psutil.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Describe the machine, the versions and the commit that figures belong to."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": cores(),
        "memory_bytes": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := version_of(name))},
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def version_of(package: str) -> str | None:
    """Return the installed version of a distribution, `None` where there is none."""
    try:
        return sluiceway.__version__ if package == "sluiceway" else metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _memory() -> int:
    return int(psutil.virtual_memory().total)


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


# -- showing and keeping ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Table:
    """A table of figures: printed for people, kept as JSON for programs and charts."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[Any]] = field(default_factory=list)
    note: str = ""

    def add(self, *cells: Any) -> None:
        """Add a row."""
        self.rows.append(cells)

    def __str__(self) -> str:
        lines = [[str(column) for column in self.columns], *([shown(cell) for cell in row] for row in self.rows)]
        widths = [max(len(line[at]) for line in lines) for at in range(len(self.columns))]
        text = [self.title]
        for number, line in enumerate(lines):
            cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
            cells[0] = line[0].ljust(widths[0])
            text.append("  " + "  ".join(cells).rstrip())
            if not number:
                text.append("  " + "  ".join("-" * width for width in widths))
        return "\n".join([*text, f"  {self.note}"] if self.note else text)

    def as_dict(self) -> dict[str, Any]:
        """Return the table as plain values."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"title": self.title, "rows": rows, "note": self.note}


def show(table: Table) -> Table:
    """Print a table and return it."""
    print(table, end="\n\n", flush=True)
    return table


def shown(cell: Any) -> str:
    """Write one cell: three digits that count, nothing for `None`."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)


def report(bench: str, effort: Effort, tables: Sequence[Table], more: Mapping[str, Any] | None = None) -> Path:
    """Write `OUT/<bench>.json`; return its path."""
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{bench}.json"
    content = {
        "bench": bench,
        "effort": {"name": effort.name, "repeats": effort.repeats, "seconds": effort.seconds},
        "machine": machine(),
        "tables": [table.as_dict() for table in tables],
        **(more or {}),
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def script(name: str, *words: str, timeout_s: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run another file of the bench folder in a fresh interpreter that finds `bench`; its output is captured.

    It runs in a session of its own, and what is left of that at its end is killed: some peers leave processes
    behind. Raises `subprocess.TimeoutExpired`.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", f"bench.{name}", *words]
    # Files, not pipes: a process that is left behind would hold a pipe open.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(
            command, stdout=out, stderr=err, env=os.environ | {"PYTHONPATH": path}, start_new_session=True
        )
        try:
            code = child.wait(timeout_s)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), err.read())
