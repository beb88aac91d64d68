"""Building graphs with state: what is refused, what nodes are called, and how a plan shows the parts."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import sluiceway as sw


def stream() -> Any:
    return sw.Graph("g").source([1, 2, 3])


def keyed() -> Any:
    return stream().key_by(abs)


class Handler:
    def __call__(self, event: int) -> int:
        return event


async def later(event: Any) -> Any:
    return event


async def each_later(event: Any) -> AsyncIterator[Any]:
    yield event


def windowed(**options: Any) -> Any:
    return keyed().window(sw.tumbling(5), **{"time": abs, **options})


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: stream().scan(3, 0), r"an int cannot be called; give it a function of \(state, event\)"),
        (lambda: stream().scan(abs, 0), r"cannot be called with \(state, event\)"),
        (lambda: stream().scan(Handler, 0), "handler class"),
        (lambda: stream().scan(lambda s, e: (s, e), threading.Lock()), "a lock cannot be copied"),
        (lambda: stream().key_by("user"), "a str cannot be called"),
        (lambda: stream().key_by(later), "plain function"),
        (lambda: stream().key_by(each_later), "plain function"),
        (lambda: stream().key_by(abs, ttl=5), "ttl= without time="),
        (lambda: stream().key_by(abs, time=abs), "time= without ttl="),
        (lambda: stream().key_by(abs, ttl=0, time=abs), "0 is too short"),
        (lambda: stream().key_by(abs, ttl=5, time=abs).map(abs), "ttl= has no place here"),
        (lambda: stream().key_by(abs, ttl=5, time=abs).window(sw.session(5), time=abs), "ttl= has no place here"),
        (lambda: keyed().map(3), "an int cannot be called"),
        (lambda: keyed().scan(abs, 0), r"\(state, event\)"),
        (lambda: keyed().reduce(abs), r"\(value, event\)"),
        (lambda: keyed().count(final="yes"), "use True or False"),
        (lambda: sw.tumbling(0), "0 is too short"),
        (lambda: sw.tumbling("1h"), "'1h' is no length of time"),
        (lambda: sw.tumbling(float("inf")), "inf is no length of time"),
        (lambda: sw.tumbling(True), "True is no length of time"),
        (lambda: sw.session(-1), "too short"),
        (lambda: sw.sliding(5, 10), "longer than size"),
        (lambda: sw.sliding(5, timedelta(1)), "both in one unit"),
        (lambda: keyed().window(5, time=abs), "an int is no window"),
        (lambda: keyed().window(sw.session(5), time=3), "cannot be called"),
        (lambda: windowed(allowed_lateness=-1), "too short"),
        (lambda: windowed(allowed_lateness=timedelta(1)), "another unit"),
        (lambda: keyed().window(sw.session(5), time=abs).aggregate(lambda a, e: a, 0), "give it merge="),
        (lambda: windowed().reduce(3), "cannot be called"),
        (lambda: sw.zip(stream(), 3), "joins streams"),
    ],
)
def test_mistakes_are_refused_where_they_are_made(build: Any, said: str) -> None:
    with pytest.raises(sw.GraphError, match=said):
        build()


def test_a_key_that_nothing_follows_is_refused_when_the_graph_is_to_run() -> None:
    graph = sw.Graph()
    events = graph.source([1])
    events.sink(print)
    events.key_by(abs)
    with pytest.raises(sw.GraphError, match=r"nothing is done with its keys; follow it with .map, .scan"):
        sw.run(graph)


def test_a_keyed_stream_is_no_stream() -> None:
    with pytest.raises(sw.GraphError, match="was given a KeyedStream"):
        sw.merge(keyed(), keyed())
    with pytest.raises(sw.GraphError, match="got a KeyedStream"):
        sw.iterate(keyed())


@pytest.mark.parametrize(
    "make",
    [
        lambda events: events.key_by(abs).count(final=True),
        lambda events: events.key_by(abs).reduce(max, final=True).map(str),
        lambda events: events.key_by(abs).window(sw.tumbling(5), time=abs).count(),
    ],
)
def test_several_events_for_a_number_cannot_be_zipped(make: Any) -> None:
    events = stream()
    with pytest.raises(sw.GraphError, match="may give several events for one number"):
        sw.zip(events, make(events))


def test_running_results_can_be_zipped_with_their_events() -> None:
    events = sw.Graph().source([5, 6, 5])
    assert list(sw.iterate(sw.zip(events, events.key_by(abs).count()), runner="inline")) == [
        (5, (5, 1)),
        (6, (6, 1)),
        (5, (5, 2)),
    ]


def test_nodes_are_called_by_their_functions() -> None:
    def user_of(event: int) -> int:
        return event

    def total(held: int, event: int) -> tuple[int, int]:
        return held, event

    graph = sw.Graph()
    keys = graph.source([1]).key_by(user_of)
    keys.scan(total, 0)
    keys.reduce(max)
    keys.count()
    keys.window(sw.tumbling(5), time=abs).count()
    keys.window(sw.tumbling(5), time=abs).count(name="hourly")
    graph.source([1]).scan(lambda a, e: (a, e), 0)
    names = [node.name for node in graph.nodes]
    assert names == ["list", "user_of", "total", "max", "count", "window", "hourly", "list-2", "scan"]


def test_a_plan_shows_the_parts_in_one_line() -> None:
    graph = sw.Graph()
    graph.source([1, 2]).map(abs).key_by(abs, name="user").window(sw.tumbling(5), time=abs).count().sink(print)
    plan = sw.compile(graph, workers=3)
    rows = [(place, nodes) for place, nodes, _, _ in plan.rows()]
    assert ("pool abs+user x 3", "abs, user") in rows
    assert ("pools window x 3", "window") in rows
    assert sum("window x" in place for place, _ in rows) == 2  # the parts, and the clock before them
    assert plan.processes == 3 + 1 + 3
    assert "by key: each worker has a part of the keys" in str(plan)
    assert plan.mermaid().count("x 3") == 2


def test_only_graphs_with_an_end_get_a_number_for_it() -> None:
    def needs_end(make: Any) -> bool:
        graph = sw.Graph()
        make(graph.source([1]).key_by(abs)).sink(print)
        return sw.compile(graph, workers=2).wiring.needs_end

    assert not needs_end(lambda keys: keys.count())
    assert not needs_end(lambda keys: keys.scan(lambda a, e: (a, e), 0))
    assert needs_end(lambda keys: keys.count(final=True))
    assert needs_end(lambda keys: keys.window(sw.session(3), time=abs).count())


def test_the_pools_that_remember_are_known() -> None:
    class Kept:
        def __call__(self, event: int) -> int:
            return event

        def snapshot(self) -> int:
            return 0

        def restore(self, state: int) -> None: ...

    graph = sw.Graph()
    events = graph.source([1])
    events.map(abs, name="plain").map(Kept, ordered=True, name="kept").map(abs, name="after").key_by(abs).count().sink(print)
    events.map(Kept, name="loose").sink(print)
    pools = {pool.name: pool.stateful for pool in sw.compile(graph, workers=2).wiring.pools}
    assert pools == {"plain+loose": False, "kept": True, "after+abs": False, "count 1/2": True, "count 2/2": True}
