"""Parallel gzip: sluiceway's ready-made graph beside `pigz -p` and `gzip`, where these are installed.

Each compresses the same file at the same level; what comes out is unpacked again and compared with what went in.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # with this folder in the path, bench/gzip.py would hide Python's gzip

import gzip
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from hashlib import sha256

import sluiceway as sw
from sluiceway.graphs import gzip as graphs_gzip

from bench.measure import Effort, Table, arguments, cores, interleave, middle, report, seconds_of, show

MIB = 1 << 20
LEVEL = 6


def write_input(path: Path, size: int) -> None:
    """Write `size` bytes of log lines: text that repeats itself about as much as logs do."""
    chance = random.Random(7)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(3, 9))) for _ in range(4000)]
    written = 0
    with path.open("wb") as file:
        while written < size:
            lines = [
                f"2024-05-{chance.randint(1, 28):02}T{chance.randint(0, 23):02}:{chance.randint(0, 59):02}:00Z"
                f" {chance.choice(('INFO', 'WARN', 'ERROR'))} {' '.join(chance.choices(words, k=8))}"
                f" id={chance.getrandbits(32):08x}\n"
                for _ in range(2000)
            ]
            part = "".join(lines).encode() * 4  # a few repetitions: making random text takes longer than packing it
            written += file.write(part[: size - written])


def sluiceway(source: Path, target: Path, workers: int) -> None:
    """Compress with sluiceway."""
    sw.run(graphs_gzip.graph(input=str(source), output=str(target), level=LEVEL), workers=workers)


def command(words: list[str], source: Path, target: Path) -> None:
    """Compress with a program that reads a file and writes to standard output."""
    with target.open("wb") as out:
        subprocess.run([*words, str(source)], stdout=out, check=True)


def digest(path: Path, packed: bool) -> str:
    """Return the SHA-256 of a file or of what is packed in it."""
    seen = sha256()
    with gzip.open(path) if packed else path.open("rb") as file:
        while part := file.read(MIB):
            seen.update(part)
    return seen.hexdigest()


def measure(effort: Effort, folder: Path) -> Table:
    """Measure every compressor that is there."""
    size = {"full": 256, "quick": 48}.get(effort.name, 1) * MIB
    threads = cores()
    source = folder / "input.log"
    write_input(source, size)
    runs: dict[str, Callable[[Path, Path], None]] = {f"sluiceway workers={threads}": partial(sluiceway, workers=threads)}
    for name, words in (
        (f"pigz -p {threads}", ["pigz", "-p", str(threads), f"-{LEVEL}", "-c"]),
        ("gzip", ["gzip", f"-{LEVEL}", "-c"]),
    ):
        if shutil.which(words[0]):
            runs[name] = partial(command, words)
        else:
            print(f"  left out: {words[0]} is not installed", file=sys.stderr)
    targets = {name: folder / f"{at}.gz" for at, name in enumerate(runs)}
    cases = {name: partial(seconds_of, partial(run, source, targets[name])) for name, run in runs.items()}
    figures = interleave(cases, min(effort.repeats, 3), warm_up=False)
    expected = digest(source, packed=False)
    reference = next((name for name in runs if name.startswith("pigz")), "gzip" if "gzip" in runs else next(iter(runs)))
    columns = ("compressor", "s", "MiB/s", "bytes", f"speed ÷ {reference}", f"size ÷ {reference}")
    table = Table(f"gzip -{LEVEL} of {size // MIB} MiB", columns)
    for name in runs:
        assert digest(targets[name], packed=True) == expected, f"{name} did not pack what it was given"
        seconds, out = middle(figures[name]), targets[name].stat().st_size
        speed = middle(figures[reference]) / seconds
        table.add(name, seconds, size / MIB / seconds, out, speed, out / targets[reference].stat().st_size)
    return table


def main() -> None:
    """Measure and report."""
    effort: Effort = arguments(__doc__ or "").effort
    with tempfile.TemporaryDirectory(prefix="sluiceway-bench-") as folder:
        report("gzip", effort, [show(measure(effort, Path(folder)))])


if __name__ == "__main__":
    main()
