"""A demonstration: the census of the standard library on all cores, then in one process, and how long each took.

    python -m sluiceway.engine.cli.demo [FOLDER]

Decides only what is shown. Both runs must write the same bytes, or the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...graphs import census
from ..reporting.progress import Bar
from ..reporting.report import RunReport
from ..run import default_workers, run


def main() -> int:
    """Run the demonstration and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sluiceway.engine.cli.demo", description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("out"), help="where to write (%(default)s)")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    output, check = folder / "census.jsonl", folder / "census-inline.jsonl"

    workers = default_workers()
    print(f"a census of the Python files of the standard library, {workers} worker processes", flush=True)
    bar = Bar()
    try:
        parallel = run(census.graph(output=str(output)), workers=workers, progress=sys.stderr.isatty() and bar)
    finally:
        bar.close()
    print(parallel)
    print("\nthe same in one process, for comparison", flush=True)
    serial = run(census.graph(output=str(check)), runner="inline")
    return _compare(parallel, serial, output, check)


def _compare(parallel: RunReport, serial: RunReport, output: Path, check: Path) -> int:
    print(f"  inline {serial.wall_s:.2f} s, processes {parallel.wall_s:.2f} s with start-up and end:", end=" ")
    print(f"{serial.wall_s / parallel.wall_s:.2f} times as fast")
    if output.read_bytes() != check.read_bytes():
        print(f"the outputs differ: compare {output} and {check}", file=sys.stderr)
        return 1
    check.unlink()
    print(f"  both outputs are the same {output.stat().st_size:,} bytes, in the same order")
    print(f"\n{output} has one record for each of {parallel.events_out:,} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
