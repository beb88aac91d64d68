"""All benches, one after the other: prints their tables, writes JSON and charts into out/bench.

    python bench/run.py [--quick] [--only compare floors ...]

Each bench is a process of its own; one that fails is named at the end, and the others still run. `sluiceway bench
--help` lists them with what each measures; each has a `--help` of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # with this folder in the path, bench/gzip.py would hide Python's gzip

import argparse
import importlib.util
import json
import os
import subprocess
import tempfile

from sluiceway.engine.cli.bench import BENCHES

from bench.charts import draw_all
from bench.measure import OUT, ROOT, Effort, Table, arguments, report, show

#: The bench that pytest runs; all others are modules of this folder.
MICRO = "micro"


def run(bench: str, words: list[str]) -> int:
    """Run one bench with its output shown; return its exit code."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", f"bench.{bench}", *words]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=False).returncode


def run_micro(effort: Effort) -> int:
    """Run the small benches of single parts by pytest-benchmark and show their figures; return the exit code."""
    if importlib.util.find_spec("pytest_benchmark") is None:
        print("  left out: micro: pytest-benchmark is not installed, the bench extra brings it", file=sys.stderr)
        return 0
    words = [f"--benchmark-max-time={min(1.0, effort.seconds)}", f"--benchmark-min-rounds={effort.repeats}"]
    where = ["-c", os.devnull, f"--rootdir={ROOT}", str(ROOT / "bench" / "micro")]
    with tempfile.TemporaryDirectory(prefix="sluiceway-bench-") as folder:
        raw = Path(folder) / "raw.json"
        words += ["--benchmark-only", f"--benchmark-json={raw}", "--benchmark-quiet", "-q", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", *where, *words]
        # Inside a test session that runs in several processes, nothing would be measured.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        if done.returncode:
            print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
            return done.returncode
        results = json.loads(raw.read_text())
    table = Table("micro: the parts one by one", ("part", "ns/batch", "ns/event", "rounds"))
    for bench in results["benchmarks"]:
        extra = bench["extra_info"]
        name, rounds = bench["name"].removeprefix("test_"), bench["stats"]["rounds"]
        table.add(name, extra["ns_per_batch"], extra["ns_per_event"], rounds)
    report(MICRO, effort, [show(table)])
    return 0


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", choices=list(BENCHES), default=list(BENCHES), metavar="BENCH")


def main() -> int:
    """Run what the command line asks for; return 1 if a bench failed."""
    options = arguments(__doc__ or "", _options)
    words = [f"--{options.effort.name}"] if options.effort.name != "full" else []
    words += [f"--repeats={options.repeats}"] if options.repeats else []
    failed = []
    for bench in options.only:
        print(f"== {bench}", flush=True)
        code = run_micro(options.effort) if bench == MICRO else run(bench, words)
        if code:
            failed.append(bench)
    for picture in draw_all():
        print(f"drawn: {picture}")
    print(f"results: {OUT}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
