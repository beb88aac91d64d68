"""Payloads in a run: copies for each branch, exact types, arrays, and what cannot be sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import numpy
import sluiceway as sw
from each_runner import runner

__all__ = ["runner"]


def test_each_branch_has_its_own_copy(both: Callable[..., Any]) -> None:
    def spoil(event: dict[str, Any]) -> dict[str, Any]:
        event["spoilt"] = True
        return event

    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        source = graph.source([{"n": n} for n in range(20)])
        source.map(spoil).sink(seen.sink("spoilt"))
        source.filter(lambda event: event.pop("n") % 2).sink(seen.sink("odd"))
        source.sink(seen.sink("clean"))
        return graph

    _, seen = both(graph, workers=1)
    assert seen.events("clean") == [{"n": n} for n in range(20)]


def test_the_callers_own_events_are_never_changed(runner: Any) -> None:
    events = [{"n": 1}, {"n": 2}]

    def clear(event: dict[str, int]) -> dict[str, int]:
        event.clear()
        return event

    graph = sw.Graph()
    graph.source(events).map(clear).sink(lambda event: event.update(seen=1))
    sw.run(graph, workers=1, runner=runner)
    assert events == [{"n": 1}, {"n": 2}]


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Point:
    x: int
    tags: frozenset[str]


EXACT: list[Any] = [
    *[(1, (2, [3])), {1, 2}, frozenset({"a"}), b"bytes", bytearray(b"array"), 2**80, -1.5, float("inf"), 3 + 4j],
    *[datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=UTC), Decimal("1.10"), Path("/tmp"), Colour.RED, range(3), True, None],
    *[{"nested": {(1, 2): [Point(1, frozenset({"t"}))]}}, "\ud800", "ä", slice(1, 2), int, {3: "three"}],
    *[numpy.float32(1.5), numpy.int64(7)],
]


def test_payloads_arrive_with_their_exact_types(runner: Any) -> None:
    def tell(event: Any) -> Any:
        return repr(event), type(event).__name__, event

    found: list[Any] = []
    graph = sw.Graph()
    graph.source(EXACT).map(tell).sink(found.append)
    sw.run(graph, workers=1, runner=runner)
    assert len(found) == len(EXACT)
    for (text, kind, event), sent in zip(found, EXACT, strict=True):
        assert type(event) is type(sent)
        assert event == sent
        assert (text, kind) == (repr(sent), type(sent).__name__)


def test_arrays_arrive_writable(runner: Any) -> None:
    def double(array: Any) -> Any:
        array *= 2
        return array

    found: list[Any] = []
    graph = sw.Graph()
    graph.source([numpy.arange(n, dtype="int32") for n in (0, 3, 100_000)]).map(double).map(double).sink(found.append)
    sw.run(graph, workers=1, runner=runner)
    for array, size in zip(found, (0, 3, 100_000), strict=True):
        assert array.dtype == numpy.int32
        assert (array == 4 * numpy.arange(size)).all()
        array += 1


def test_a_result_that_cannot_be_sent_fails_its_event() -> None:
    found: list[Any] = []
    graph = sw.Graph()
    graph.source(range(5)).map(lambda n: (i for i in ()) if n == 3 else n, on_error="skip").sink(found.append)
    assert sw.run(graph, workers=1).skipped == 1
    assert found == [0, 1, 2, 4]
