"""The command `penstock bench`: runs the benches of a checkout.

Decides only where they are looked for. The benches are scripts in the repository's folder `bench`, beside this
package where it is installed from a checkout (`pip install -e .`), and no part of what is installed otherwise.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

#: The script that runs all of them.
RUNNER = Path(__file__).resolve().parents[1] / "bench" / "run.py"


def add_bench_command(subparsers: Any) -> None:
    """Add the command `bench` to an `argparse` parser's subparsers; sets `command` to `run_bench`."""
    parser = subparsers.add_parser(
        "bench",
        help="measure penstock beside its peers and its floors",
        description="Measure penstock beside its peers and its floors. Needs a checkout of the repository.",
        epilog="Tables go to standard output, JSON and charts into out/bench of the checkout.",
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter repetitions")
    parser.add_argument("--tiny", action="store_true", help="only to see that it runs; the figures mean nothing")
    parser.add_argument("--repeats", type=int, metavar="N", help="repetitions of each case")
    names = "compare, floors, latency, order, scale, gzip, micro"
    parser.add_argument("--only", nargs="+", metavar="BENCH", help=f"of {names}: only these")
    parser.set_defaults(command=run_bench)


def run_bench(args: argparse.Namespace) -> int:
    """Run the benches in a process of their own and give their exit code; 2 where there is no checkout."""
    if not RUNNER.is_file():
        print(
            "penstock: cannot run the benches: they are not installed with the package; clone the repository, install"
            " it with pip install -e '.[bench]', and try again",
            file=sys.stderr,
        )
        return 2
    words = [f"--{name}" for name in ("quick", "tiny") if getattr(args, name)]
    words += [f"--repeats={args.repeats}"] if args.repeats else []
    words += ["--only", *args.only] if args.only else []
    code = subprocess.run([sys.executable, str(RUNNER), *words], check=False).returncode
    return code if code >= 0 else 1
