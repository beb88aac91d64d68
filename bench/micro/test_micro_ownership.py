"""What it costs to see that nobody else can change an event, beside the same without looking: a generator of `SIZE` events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sluiceway.engine.codec.copying import safe_copies
from sluiceway.nodes.ownership.ownership import Ownership

from bench.micro.cases import timed

SIZE = 1000


def ints() -> Iterator[Any]:
    yield from range(SIZE)


def texts() -> Iterator[Any]:
    for n in range(SIZE):
        yield str(n)


def tuples() -> Iterator[Any]:
    for n in range(SIZE):
        yield n, "ada", 0.5


def fresh_dicts() -> Iterator[Any]:
    for n in range(SIZE):
        yield {"id": n, "user": "ada", "type": "login", "ok": True, "score": 0.5}


def one_dict() -> Iterator[Any]:
    event = {"id": 0, "user": "ada", "type": "login", "ok": True, "score": 0.5}
    for n in range(SIZE):
        event["id"] = n
        yield event


def nested() -> Iterator[Any]:
    for n in range(SIZE):
        yield {"id": n, "tags": ["a", "b"], "user": {"name": "ada"}}


def fresh_arrays() -> Iterator[Any]:
    numpy = pytest.importorskip("numpy")
    for _ in range(SIZE):
        yield numpy.empty(128)


def one_array() -> Iterator[Any]:
    array = pytest.importorskip("numpy").empty(128)
    for n in range(SIZE):
        array[0] = n
        yield array


SOURCES = pytest.mark.parametrize(
    "source", [ints, texts, tuples, fresh_dicts, one_dict, nested, fresh_arrays, one_array], ids=lambda source: source.__name__
)


def each(given: Iterator[Any]) -> Iterator[Any]:
    return Ownership(safe_copies, "the source gave").each(given)


@SOURCES
@pytest.mark.parametrize("look", [iter, each], ids=["without looking", "owned"])
def test_own_what_a_generator_gives(benchmark: Any, look: Callable[[Any], Any], source: Callable[[], Iterator[Any]]) -> None:
    last = timed(benchmark, SIZE, lambda: deque(look(source()), maxlen=1))
    assert len(last) == 1
