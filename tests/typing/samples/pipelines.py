"""What a type checker infers from pipelines that are right. Read by mypy, never run."""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard, assert_type

import sluiceway as sw


@dataclass
class Login:
    user: str
    at: float


class Score:
    def __init__(self, path: str, device: str = "cpu") -> None: ...
    def __call__(self, event: Login) -> float:
        return event.at


class Fetch:
    async def __call__(self, event: int) -> bytes:
        return b""


class Words:
    def __call__(self, event: str) -> list[str]:
        return event.split()


class Embed:
    def __call__(self, events: list[str]) -> list[float]:
        return [0.0 for _ in events]


class Numbers:
    def read(self, limit: int, /) -> Sequence[int] | None:
        return None

    def position(self) -> object:
        return 0

    def close(self) -> None: ...

    def reader(self, position: object | None, /) -> "Numbers":
        return self


class Collector:
    def write(self, events: Sequence[float], /) -> None: ...
    def close(self) -> None: ...


class Numbered:
    def write(self, events: sw.Batch[float], /) -> None:
        for (seq, index), event in zip(events.numbers, events, strict=True):
            print(seq + index, event)

    def close(self) -> None: ...


def rows(limit: int = 3) -> Iterator[Login]:
    yield Login("ada", 1.0)


async def ticks() -> AsyncIterator[float]:
    yield 1.0


async def fetch(event: int) -> bytes:
    return b""


async def batch(events: list[int]) -> list[str]:
    return [str(event) for event in events]


async def several(event: int) -> list[str]:
    return [str(event)]


async def stream(event: int) -> AsyncIterator[str]:
    yield str(event)


def is_login(event: Login | None) -> TypeGuard[Login]:
    return event is not None


def either(event: int) -> int | str:
    return event


graph = sw.Graph("types")

# Sources
numbers = graph.source(range(3))
assert_type(numbers, sw.Stream[int])
assert_type(graph.source(rows, name="rows"), sw.Stream[Login])
assert_type(graph.source(partial(rows, limit=5)), sw.Stream[Login])
assert_type(graph.source(ticks), sw.Stream[float])
assert_type(graph.source(Numbers()), sw.Stream[int])
assert_type(graph.source(lambda: iter(["a"])), sw.Stream[str])
with open("access.log") as file:
    assert_type(graph.source(file), sw.Stream[str])
assert_type(graph.sequence(numbers, graph.source([1, 2]), key=lambda event: -event), sw.Stream[int])

# Functions
assert_type(numbers.map(str), sw.Stream[str])
assert_type(numbers.map(lambda event: event / 2), sw.Stream[float])
assert_type(numbers.map(str).map(Path), sw.Stream[Path])
assert_type(numbers.map(fetch), sw.Stream[bytes])
assert_type(numbers.filter(lambda event: event > 1), sw.Stream[int])
assert_type(numbers.flat_map(range), sw.Stream[int])
assert_type(numbers.flat_map(lambda event: [str(event)]), sw.Stream[str])
assert_type(numbers.flat_map(stream), sw.Stream[str])
assert_type(numbers.flat_map(several), sw.Stream[str])
assert_type(numbers.map_batches(lambda events: [str(event) for event in events], batch_size=8), sw.Stream[str])
assert_type(numbers.map_batches(batch), sw.Stream[str])
assert_type(graph.source([None, Login("ada", 1.0)]).filter(is_login), sw.Stream[Login])
assert_type(numbers.barrier(), sw.Stream[int])

# Handler classes
assert_type(numbers.map(Fetch), sw.Stream[bytes])
assert_type(numbers.map(Fetch()), sw.Stream[bytes])
assert_type(graph.source(rows).map(sw.per_worker(Score, "model.pt", device="cuda:0")), sw.Stream[float])
assert_type(numbers.map(str).flat_map(Words), sw.Stream[str])
assert_type(numbers.map(str).flat_map(Words()), sw.Stream[str])
assert_type(numbers.map(str).map_batches(Embed, batch_size=4), sw.Stream[float])
assert_type(numbers.filter(Fetch), sw.Stream[int])

# Options
assert_type(
    numbers.map(str, name="text", workers=4, retries=2, retry_on=OSError, backoff_s=0.5, timeout_s=1, on_error="skip"),
    sw.Stream[str],
)

# Joins and branches
assert_type(sw.zip(numbers, numbers.map(str)), sw.Stream[tuple[int, str]])
assert_type(sw.zip(numbers, numbers.map(str), numbers.map(float)), sw.Stream[tuple[int, str, float]])
branches: list[sw.Stream[int]] = [numbers, numbers]
assert_type(sw.zip(*branches), sw.Stream[tuple[int, ...]])
assert_type(sw.merge(numbers, numbers.map(abs)), sw.Stream[int])
wide: sw.Stream[int | str] = numbers

# Sinks
results: list[int] = []
numbers.sink(results.append)
numbers.sink(print, name="shown", ordered=False)
numbers.map(float).sink(Collector())
numbers.sink(Collector())
numbers.sink(Numbered())
numbers.map(float).sink(Numbered())
graph.dead_letters().map(lambda letter: letter.error).sink(print)
assert_type(graph.dead_letters(), sw.Stream[sw.DeadLetter])


# What is untyped stays usable
def untyped(path: str) -> None:
    events = graph.source(rows).map(lambda event: event.user).map(json.loads, on_error="dead_letter")
    events.filter(lambda e: e["type"] == "user_login").sink(print)
    anything: Any = json.loads(path)
    graph.source(anything).map(str).sink(print)
assert_type(numbers.map(str, retries=2, retry_on=(OSError, TimeoutError)), sw.Stream[str])
