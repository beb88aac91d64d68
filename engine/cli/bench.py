"""The command `sluiceway bench`: runs the benches of a checkout.

Decides where they are looked for, and lists them. The benches are scripts in the repository's folder `bench`, which
is not installed: they are beside this package after an editable install from a checkout, else they must be in the
current folder.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Every bench and what it measures, in the order in which they run.
BENCHES = {
    "compare": "sluiceway beside its peers: the same workloads and checks, speed, first result, peak memory",
    "floors": "sluiceway as a multiple of what the loop, the codec, the sockets and the memory take",
    "latency": "from the moment an event is due to the moment the sink has it, at fixed rates",
    "order": "what order costs: the same run ordered and unordered",
    "scale": "what an event costs with more workers, depth, branches, window, events in flight",
    "gzip": "a gzip on all cores beside gzip and pigz",
    "checkpoint": "what checkpoints cost: the same run without, every second and every tenth of one",
    "durable": "what it costs to keep each answer: the same handlers durable and not, and the time from source to sink",
    "memory": "whether the memory of the caller and every child stays flat, within the budget and a fixed sum",
    "chaos": "workers killed all the time: the output must be the same, and what it costs",
    "micro": "the parts one by one",
}

#: The script that runs them, in a clone.
_SCRIPT = Path("bench", "run.py")
#: Where it is when the package is an editable one.
RUNNER = Path(__file__).resolve().parents[2] / _SCRIPT

_USAGE = """\
One of them, quickly:    sluiceway bench --only memory --quick
With its own options:    python bench/memory.py --help

Needs a clone of the repository (the current folder, or the one that an editable install came from) and the extra
`bench`; `make bench` in the clone brings that along. Peers that are not installed are left out and named: Ray, Dask and
torchdata take gigabytes and come with the extra `peers` (`make bench BENCH_WITH=peers`). Tables go to
standard output, JSON and charts into out/bench of the clone, or into $SLUICEWAY_BENCH_OUT.
"""


def add_bench_command(subparsers: Any) -> None:
    """Add the command `bench` to an `argparse` parser's subparsers; sets `command` to `run_bench`."""
    listed = "\n".join(f"  {name:<12}{what}" for name, what in BENCHES.items())
    parser = subparsers.add_parser(
        "bench",
        help="measure sluiceway beside its peers and its floors",
        description=f"Measure sluiceway: all of its benches, one after the other, or those named by --only.\n\n{listed}",
        epilog=_USAGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter repetitions")
    parser.add_argument("--tiny", action="store_true", help="only to see that it runs; the figures mean nothing")
    parser.add_argument("--repeats", type=int, metavar="N", help="repetitions of each case")
    parser.add_argument("--only", nargs="+", metavar="BENCH", choices=tuple(BENCHES), help="only these of the above")
    parser.set_defaults(command=run_bench)


def run_bench(args: argparse.Namespace) -> int:
    """Run the benches in a process of their own and return their exit code, or 2 where there is no checkout."""
    runner = _runner()
    if runner is None:
        print(
            "sluiceway: cannot run the benches: they are not installed with the package; clone the repository and run"
            " `make bench` there, or `sluiceway bench` in that folder",
            file=sys.stderr,
        )
        return 2
    arguments = [f"--{name}" for name in ("quick", "tiny") if getattr(args, name)]
    arguments += [f"--repeats={args.repeats}"] if args.repeats else []
    arguments += ["--only", *args.only] if args.only else []
    code = subprocess.run([sys.executable, str(runner), *arguments], check=False).returncode
    return code if code >= 0 else 1


def _runner() -> Path | None:
    """Return the path of the script; a `bench/run.py` in the current folder counts only in a checkout of sluiceway."""
    if RUNNER.is_file():
        return RUNNER
    folder = Path.cwd()
    is_checkout = (folder / _SCRIPT).is_file() and (folder / "engine" / "cli" / "bench.py").is_file()
    return folder / _SCRIPT if is_checkout else None
