"""Ready-made graph: the logins out of a log of user events.

    python -m sluiceway.graphs.logins sample.jsonl --events 100000
    sluiceway run sluiceway.graphs.logins:graph --set input=sample.jsonl --set output=logins.jsonl

Every line is one JSON object with a "type". Lines that are not go to the dead letters with their number and reason;
the rest of the log is handled on. Files named `.gz`, `.bz2` and `.xz` are read and written compressed.

To make it your own, copy it and write `from sluiceway import Graph, jsonl, lines` in the place of its relative imports
(or `import sluiceway as sw`, and `sw.` before each of the three).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from ..nodes.files.api import jsonl, lines
from .builder.graph import Graph


def graph(*, input: str = "events.jsonl", output: str = "logins.jsonl", rejected: str = "rejected.jsonl") -> Graph:
    """Wire the graph: `input` is read line by line, logins go to `output` in their order, bad lines to `rejected`."""
    logins = Graph("logins")
    events = logins.source(lines(input)).map(parse, on_error="dead_letter")
    events.filter(is_login).sink(jsonl(output))
    logins.dead_letters().sink(jsonl(rejected))
    return logins


def parse(line: str) -> dict[str, Any]:
    """Read one line; raises `ValueError` for what is not a JSON object with a type."""
    event = json.loads(line)
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise ValueError("a user event is a JSON object with a type")
    return event


def is_login(event: dict[str, Any]) -> bool:
    """Whether an event is a login."""
    return bool(event["type"] == "user_login")


# A sample to run it on


class Sample(NamedTuple):
    """What was written: lines in all, how many of them are logins, and how many are malformed."""

    events: int
    logins: int
    malformed: int


#: What users do, and how often.
TYPES = {"page_view": 60, "user_login": 15, "search": 12, "add_to_cart": 8, "user_logout": 4, "purchase": 1}
PAGES = ("/", "/search", "/cart", "/account", "/help", "/item/1842", "/item/977", "/item/30291")
AGENTS = ("Firefox/128.0", "Chrome/126.0", "Safari/17.5", "Edge/126.0", "okhttp/4.12")
_START_MS = 1_700_000_000_000


def write_sample(
    path: str | os.PathLike[str], *, events: int = 100_000, seed: int = 1, malformed: float = 0.001
) -> Sample:
    """Write a log of `events` lines, of which about the fraction `malformed` is broken; equal seeds, equal bytes.

    A path that ends in `.gz` is written compressed.
    """
    logins = broken = 0
    with _create(os.fspath(path)) as file:
        for line, type_ in _sample_lines(random.Random(seed), events, malformed):
            file.write(line.encode() + b"\n")
            logins += type_ == "user_login"
            broken += type_ is None
    return Sample(events, logins, broken)


def _create(path: str) -> IO[bytes]:
    if path.endswith(".gz"):
        return gzip.GzipFile(path, "wb", 6, mtime=0)  # type: ignore[return-value]
    return open(path, "wb")


def _sample_lines(chance: random.Random, events: int, malformed: float) -> Iterator[tuple[str, str | None]]:
    """Return lines with the type of each event, `None` for a malformed line."""
    types, weights = list(TYPES), list(TYPES.values())
    at_ms = _START_MS
    for number in range(events):
        at_ms += int(chance.expovariate(1 / 40)) + 1
        type_ = chance.choices(types, weights)[0]
        line = json.dumps(_event(chance, number, at_ms, type_))
        if chance.random() < malformed:
            yield _spoil(chance, line), None
        else:
            yield line, type_


def _event(chance: random.Random, number: int, at_ms: int, type_: str) -> dict[str, Any]:
    user = min(int(chance.paretovariate(1.2)), 50_000)  # a few users do most of it
    return {
        "id": f"{number:012x}",
        "at_ms": at_ms,
        "type": type_,
        "user": f"u{user:05}",
        "session": f"{chance.getrandbits(64):016x}",
        "address": f"10.{user >> 8 & 255}.{user & 255}.{chance.randrange(1, 255)}",
        "agent": chance.choice(AGENTS),
        "page": chance.choice(PAGES),
        "took_ms": round(chance.lognormvariate(3, 0.8), 1),
    }


def _spoil(chance: random.Random, line: str) -> str:
    """Damage a line as logs are damaged: cut short, written by something else, or of another shape."""
    return chance.choice((line[: chance.randrange(1, len(line))], "-- log rotated --", f"[{line}]", '{"at_ms": 0}'))


def main() -> None:
    """Write a sample from the shell."""
    parser = argparse.ArgumentParser(prog="python -m sluiceway.graphs.logins", description="Write a sample log.")
    parser.add_argument("path", help="file to write; .gz is compressed")
    parser.add_argument("--events", type=int, default=100_000, help="lines to write (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="equal seeds give equal files (%(default)s)")
    parser.add_argument("--malformed", type=float, default=0.001, help="fraction of broken lines (%(default)s)")
    args = parser.parse_args()
    sample = write_sample(args.path, events=args.events, seed=args.seed, malformed=args.malformed)
    print(f"{args.path}: {sample.events:,} events, {sample.logins:,} logins, {sample.malformed:,} malformed lines")


if __name__ == "__main__":
    main()
