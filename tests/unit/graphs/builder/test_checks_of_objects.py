"""What is refused as a source, a handler or a sink, and what is taken."""

from __future__ import annotations

import csv
import functools
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from check_parts import fetch, numbers, refuses, start
from sluiceway.graphs.builder.checks import claim_iterators
from sluiceway.graphs.builder.graph import Graph
from sluiceway.nodes.handlers import per_worker


def halves(event: Any) -> Iterator[Any]:
    yield event


def numbers_to(stop: int) -> Iterator[int]:
    yield from range(stop)


async def ticks() -> AsyncIterator[int]:
    yield 1


async def one_value() -> int:
    return 1


class Model:
    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, event: Any) -> Any:
        return event


class Plain:
    def __call__(self, event: Any) -> Any:
        return event


class NoArgument:
    def __call__(self) -> Any:
        return None


class AsyncModel:
    async def __call__(self, event: Any) -> Any:
        return event


class Source:
    def reader(self, position: object | None, /) -> Any:
        raise NotImplementedError


class OnlyWrite:
    def write(self, events: Any, /) -> None:
        raise NotImplementedError


class Collector(OnlyWrite):
    def close(self) -> None:
        raise NotImplementedError


# Sources


@pytest.mark.parametrize("source", ["access.log", b"x", bytearray(b"x"), Path("x"), {"a": 1}, OrderedDict(a=1)])
def test_text_and_paths_are_not_sources(source: Any) -> None:
    graph = Graph("logins")
    with refuses("of graph 'logins'", "sw.lines(path)"):
        graph.source(source)
    assert graph.nodes == []


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"a": 1}, ".items()"),
        (3, "an int cannot be read"),
        (None, "None cannot be read"),
        (numbers_to, "needs arguments"),
        (lambda stop: iter(range(stop)), "needs arguments"),
        (one_value, "let it `yield`"),
        (Source, "give it an instance, Source(...)"),
    ],
)
def test_what_cannot_be_read_is_refused(source: Any, text: str) -> None:
    with refuses("source ", "of graph 'logins'", text):
        Graph("logins").source(source)


def test_an_async_generator_is_given_as_a_function() -> None:
    with refuses("source 'ticks'", "the async generator function"):
        Graph().source(ticks())  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "source",
    [
        [1],
        numbers,
        ticks,
        functools.partial(numbers_to, 3),
        functools.partial(numbers_to, stop=3),
        lambda: iter([1]),
        numbers(),
        map(str, [1]),
        Source(),
        {1, 2},
        csv.DictReader(["a,b", "1,2"]),
    ],
)
def test_what_can_be_read_is_taken(source: Any) -> None:
    graph = Graph()
    graph.source(source)
    assert graph.nodes[0].subject is source


def test_iterators_that_are_used_up_are_refused(tmp_path: Path) -> None:
    used = numbers()
    list(used)
    with refuses("source 'numbers'", "used up", "a list, or a generator function"):
        Graph().source(used)
    with open(tmp_path / "a.txt", "w+") as file:
        pass
    with refuses("source 'a.txt'", "used up"):
        Graph().source(file)


def test_one_iterator_feeds_one_source() -> None:
    graph, once = Graph(), iter([1])
    graph.source(once)
    with refuses("another source reads this iterator"):
        graph.source(once)


def test_an_iterator_is_read_by_one_run_only() -> None:
    graph = Graph("logins")
    graph.source(iter([1, 2]), name="rows").sink(print)
    claim_iterators(graph)
    with refuses("source 'rows' of graph 'logins'", "was read before", "a list, or a generator function"):
        claim_iterators(graph)


def test_a_generator_that_another_graph_used_up_is_refused() -> None:
    used = numbers()
    graph = Graph()
    graph.source(used).sink(print)
    list(used)
    with refuses("used up"):
        claim_iterators(graph)


@pytest.mark.parametrize("source", [[1, 2], range(3), numbers, Source()])
def test_other_sources_are_read_again_and_again(source: Any) -> None:
    graph = Graph()
    graph.source(source).sink(print)
    claim_iterators(graph)
    claim_iterators(graph)


def test_a_refused_claim_claims_nothing() -> None:
    graph, used = Graph(), numbers()
    graph.sequence(graph.source(iter([1])), graph.source(used)).sink(print)
    list(used)
    for _ in range(2):
        with refuses("source 'numbers'"):
            claim_iterators(graph)
    assert not any(node.claimed for node in graph.nodes)


# Handlers and sinks


@pytest.mark.parametrize(
    ("fn", "text"),
    [
        (3, "an int cannot be called"),
        (None, "None cannot be called"),
        (Model, "give it sw.per_worker(Model, ...)"),
        (functools.partial(Model, "model.pt"), "give it sw.per_worker(Model, ...)"),
        (lambda: None, "cannot be called with one event alone"),
        (lambda a, b: None, "cannot be called with one event alone"),
        (NoArgument, "cannot be called with one event alone"),
        (NoArgument(), "cannot be called with one event alone"),
        (halves, "use .flat_map(...)"),
    ],
)
def test_what_cannot_handle_an_event_is_refused(fn: Any, text: str) -> None:
    for method in ("map", "filter"):
        with refuses(f"{method} ", "of graph 'logins': ", text):
            getattr(start()[1], method)(fn)


@pytest.mark.parametrize(
    "fn", [int, Path, Plain, Plain(), per_worker(Model, "model.pt"), fetch, max, lambda *events: None, "".join, type]
)
def test_what_can_handle_an_event_is_taken(fn: Any) -> None:
    graph, events = start()
    events.map(fn)
    assert graph.nodes[1].subject is fn


def test_a_decorator_may_add_arguments() -> None:
    def with_database(fn: Callable[..., Any]) -> Callable[[Any], Any]:
        @functools.wraps(fn)
        def wrapper(event: Any) -> Any:
            return fn("database", event)

        return wrapper

    graph, events = start()
    events.map(with_database(lambda database, event: event), name="stored")
    assert graph.nodes[1].name == "stored"


def test_a_flat_map_takes_generators() -> None:
    graph, events = start()
    events.flat_map(halves)
    assert graph.nodes[1].name == "halves"


@pytest.mark.parametrize(
    ("sink", "text"),
    [
        ("out.jsonl", "sw.jsonl(path)"),
        (Path("out.txt"), "sw.lines(path)"),
        ([], "results.append"),
        (3, "cannot sink to an int"),
        (Collector, "give it an instance"),
        (per_worker(Model, "x"), "give it an instance"),
        (OnlyWrite(), "add close()"),
        (fetch, "a sink is a plain function"),
        (halves, "a sink is a plain function"),
        (AsyncModel(), "a sink is a plain function"),
        (lambda: None, "cannot be called with one event alone"),
    ],
)
def test_what_is_no_sink_is_refused(sink: Any, text: str) -> None:
    with refuses("sink ", "of graph 'logins': ", text):
        start()[1].sink(sink)


def test_an_open_file_is_no_sink(tmp_path: Path) -> None:
    with open(tmp_path / "out.txt", "w") as file:
        with refuses("sink 'out.txt'", "open file"):
            start()[1].sink(file)  # type: ignore[arg-type]
        start()[1].sink(file.write)


def test_a_sinks_order_is_true_or_false() -> None:
    with refuses("sink 'print'", "ordered=1"):
        start()[1].sink(print, ordered=1)  # type: ignore[arg-type]
