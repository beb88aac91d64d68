"""All benches, one after the other: prints their tables, writes JSON and charts into out/bench.

    python bench/run.py [--quick] [--only compare floors ...]

Each bench is a process of its own; one that fails is told at the end and the others still run.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # beside this file, gzip.py would stand for Python's own

import argparse
import importlib.util
import os
import subprocess

from bench.charts import draw_all
from bench.measure import OUT, ROOT, arguments

BENCHES = ("compare", "floors", "latency", "order", "scale", "gzip")
MICRO = "micro"


def run(bench: str, words: list[str]) -> int:
    """Run one bench with its output shown; gives its exit code."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", f"bench.{bench}", *words]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=False).returncode


def run_micro(quick: bool) -> int:
    """Run the small benches of single parts by pytest-benchmark; gives the exit code."""
    if importlib.util.find_spec("pytest_benchmark") is None:
        print("  left out: micro: pytest-benchmark is not installed", file=sys.stderr)
        return 0
    OUT.mkdir(parents=True, exist_ok=True)
    words = ["--benchmark-only", f"--benchmark-json={OUT / 'micro.pytest.json'}", "--benchmark-sort=name"]
    words += ["--benchmark-max-time=0.1", "--benchmark-min-rounds=3"] if quick else []
    words += ["--benchmark-columns=median,iqr,ops,rounds", "--benchmark-group-by=group", "-q", "-p", "no:cacheprovider"]
    where = ["-c", os.devnull, f"--rootdir={ROOT}", str(ROOT / "bench" / "micro")]
    return subprocess.run([sys.executable, "-m", "pytest", *where, *words], check=False).returncode


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", choices=[*BENCHES, MICRO], default=[*BENCHES, MICRO], metavar="BENCH")


def main() -> int:
    """Run what the command line asks for; gives 1 when a bench failed."""
    options = arguments(__doc__ or "", _options)
    words = [f"--{options.effort.name}"] if options.effort.name != "full" else []
    words += [f"--repeats={options.repeats}"] if options.repeats else []
    failed = []
    for bench in options.only:
        print(f"== {bench}", flush=True)
        code = run_micro(bool(words)) if bench == MICRO else run(bench, words)
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
