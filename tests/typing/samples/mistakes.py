"""What a type checker refuses: each such line is marked with `# E:` and what is wrong. Read by mypy, never run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sluiceway as sw


class Score:
    def __init__(self, path: str) -> None: ...
    def __call__(self, event: str) -> float:
        return 0.0


class Collector:
    def write(self, events: Sequence[str], /) -> None: ...
    def close(self) -> None: ...


def takes_text(event: str) -> str:
    return event


graph = sw.Graph("mistakes")
numbers = graph.source(range(3))
texts: list[str] = []

numbers.map(takes_text)  # E: arguments
numbers.map(takes_text, worker=3)  # E: arguments
numbers.map(str, worker=3)  # E: arguments
numbers.map(str, workers="4")  # E: arguments
numbers.map(str, on_error="ignore")  # E: arguments
numbers.map(str, chunksize=10)  # E: arguments
numbers.map(Score)  # E: arguments
numbers.map(sw.per_worker(Score, "model.pt"))  # E: arguments
sw.per_worker(Score, 3)  # E: arguments
sw.per_worker(Score)  # E: arguments
sw.per_worker(Path, "a")  # E: arguments
numbers.filter(takes_text)  # E: arguments
numbers.flat_map(abs)  # E: arguments
numbers.map_batches(len)  # E: arguments
numbers.map_batches(sorted, batch_size="8")  # E: arguments
numbers.sink(texts.append)  # E: arguments
numbers.sink(Collector())  # E: arguments
numbers.sink("out.jsonl")  # E: arguments
numbers.sink(print, ordered="no")  # E: arguments
graph.source(3)  # E: arguments
graph.source([1], nam="a")  # E: arguments
graph.sequence(numbers, order="random")  # E: arguments
graph.sequence(numbers, [1])  # E: arguments
sw.zip(numbers, [1])  # E: arguments
sw.merge(numbers, "abc")  # E: arguments
numbers.mapp(str)  # E: attr-defined
keys = numbers.key_by(str)
numbers.scan(lambda state, event: (state, event))  # E: arguments
numbers.scan(takes_text, 0)  # E: arguments
numbers.key_by(takes_text)  # E: arguments
numbers.key_by(str, ttl="1h", time=float)  # E: arguments
keys.map(takes_text)  # E: arguments
keys.reduce(takes_text)  # E: arguments
keys.count(final="yes")  # E: arguments
keys.window(5, time=float)  # E: arguments
keys.window(sw.tumbling(5))  # E: arguments
keys.window(sw.tumbling("5"), time=float)  # E: arguments
keys.window(sw.session(5), time=takes_text)  # E: arguments
keys.sink(print)  # E: attr-defined
keys.window(sw.session(5), time=float).sink(print)  # E: attr-defined
narrow: sw.Stream[bool] = numbers  # E: assignment


def from_path() -> Any:
    graph.source("access.log")
    return numbers  # E: unreachable


def from_bytes() -> Any:
    graph.source(b"a")
    return numbers  # E: unreachable


def from_pathlike() -> Any:
    graph.source(Path("access.log")).map(str)
    return numbers  # E: unreachable
