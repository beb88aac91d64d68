"""Mistakes in names, options, joins, dead letters and whole graphs name the node, the rule and the remedy."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from check_parts import fetch, numbers, refuses, start
from sluiceway.graphs.builder import streams as sw
from sluiceway.graphs.builder.checks import check_graph
from sluiceway.graphs.builder.graph import Graph


def parse(event: Any) -> Any:
    return event


def split(event: Any) -> list[Any]:
    return [event, event]


# Names and options


@pytest.mark.parametrize("name", ["", "  ", "a\nb", 3, b"x"])
def test_names_are_printable_strings(name: Any) -> None:
    with refuses("a name is a string of printable characters"):
        Graph(name)
    _, events = start()
    with refuses("of graph 'logins'", "a name is a string of printable characters"):
        events.map(parse, name=name)


BAD_VALUES: dict[str, list[Any]] = {
    "workers": [0, -1, True, 1.5, "4"],
    "retries": [-1, True, 1.0, None],
    "backoff_s": [-1, math.nan, math.inf, True, "1", None],
    "timeout_s": [0, -2, math.inf, math.nan, False, "1"],
    "concurrency": [0, True, None],
    "on_error": ["ignore", None, True, []],
    "ordered": [1, None, "yes"],
}


@pytest.mark.parametrize(("option", "value"), [(key, value) for key, values in BAD_VALUES.items() for value in values])
def test_options_out_of_their_range_are_refused(option: str, value: Any) -> None:
    graph, events = start()
    for method in ("map", "filter", "flat_map", "map_batches"):
        with refuses(f"{method} 'parse' of graph 'logins': {option}={value!r}", "; "):
            getattr(events, method)(parse, **{option: value})
    assert len(graph.nodes) == 1


@pytest.mark.parametrize("value", [0, -1, True, 2.0])
def test_batch_sizes_out_of_their_range_are_refused(value: Any) -> None:
    with refuses(f"batch_size={value!r}"):
        start()[1].map_batches(parse, batch_size=value)


def test_numbers_of_other_types_become_plain_ones() -> None:
    graph, events = start()
    numpy = pytest.importorskip("numpy")
    half: Any = Fraction(1, 2)
    events.map(parse, workers=numpy.int64(2), timeout_s=numpy.float32(0.5), backoff_s=half)
    options = graph.nodes[1].options
    assert (options.workers, options.timeout_s, options.backoff_s) == (2, 0.5, 0.5)
    assert type(options.workers) is int
    assert type(options.timeout_s) is float


def test_ordered_handlers_have_one_worker() -> None:
    _, events = start()
    with refuses("map 'parse'", "ordered=True", "workers=2"):
        events.map(parse, ordered=True, workers=2)
    events.map(parse, ordered=True, workers=1)


# Sequences and joins


def test_a_sequence_takes_sources_as_they_came() -> None:
    graph = Graph("logins")
    a, b = graph.source([1], name="a"), graph.source([2], name="b")
    with refuses("joins 1 or more"):
        graph.sequence()
    with refuses("graph.sequence", "given a list"):
        graph.sequence([a, b])  # type: ignore[arg-type]
    with refuses("sequence 'sequence'", "source 'a' is given twice"):
        graph.sequence(a, a)
    with refuses("order='random'", "'arrival' or 'round_robin'"):
        graph.sequence(a, b, order="random")  # type: ignore[arg-type]
    with refuses("key='ts' cannot be called"):
        graph.sequence(a, b, key="ts")  # type: ignore[arg-type]
    with refuses("key=", "order='round_robin'"):
        graph.sequence(a, b, key=abs, order="round_robin")
    with refuses("map 'parse' is not a source"):
        graph.sequence(a, b.map(parse))
    with refuses("source 'b' is used by 'parse' already"):
        graph.sequence(a, b)
    with refuses("'x' is of graph 'other'", "'logins'"):
        graph.sequence(a, Graph("other").source([1], name="x"))


def test_a_graph_has_one_sequence_and_its_sources_are_used_up() -> None:
    graph = Graph("logins")
    a, b = graph.source([1], name="a"), graph.source([2], name="b")
    graph.sequence(a)
    with refuses("the graph has the sequence 'sequence'"):
        graph.sequence(b)
    with refuses("map 'parse'", "source 'a' is in a sequence"):
        a.map(parse)


@pytest.mark.parametrize("join", [sw.zip, sw.merge])
def test_joins_take_two_or_more_streams_of_one_graph(join: Any) -> None:
    _, a = start()
    other = Graph("other").source([1], name="x")
    with refuses("joins 2 or more"):
        join()
    with refuses("was given 1 streams", "joins 2 or more"):
        join(a)
    with refuses("'x' is of graph 'other'", "'logins'"):
        join(a, other)
    with refuses("was given a list", "graph.source"):
        join(a, [1])
    with refuses("was given a list"):
        join([a, a])


def test_a_zip_behind_a_flat_map_is_refused() -> None:
    graph, events = start()
    many = events.flat_map(split).map(parse)
    with refuses("zip 'zip' of graph 'logins'", "flat_map 'split'", "sw.merge"):
        sw.zip(events, many)
    with refuses("merge 'merge'"):
        sw.zip(events, sw.merge(events, events.map(parse)))
    sw.zip(events, events.filter(bool)).flat_map(split)
    sw.merge(many, events)
    assert graph.nodes[-1].name == "merge-2"


# Dead letters


def test_dead_letters_take_plain_handlers_and_sinks_only() -> None:
    graph, events = start()
    letters = graph.dead_letters()
    for build in (
        letters.barrier,
        lambda: letters.map_batches(parse),
        lambda: sw.zip(letters, letters),
        lambda: sw.merge(letters, events),
        lambda: sw.merge(events, letters.map(parse)),
    ):
        with refuses("of graph 'logins'", "dead letters take only map, filter, flat_map and sink"):
            build()
    with refuses("dead_letters", "is not a source"):
        graph.sequence(letters)


@pytest.mark.parametrize(
    "options", [{"workers": 1}, {"retries": 1}, {"timeout_s": 1.0}, {"on_error": "dead_letter"}, {"concurrency": 2}]
)
def test_handlers_on_dead_letters_have_no_options(options: Any) -> None:
    graph, _ = start()
    with refuses("map 'parse'", "handlers on dead letters", "leave it out"):
        graph.dead_letters().map(parse, **options)
    with refuses("filter 'parse'", "handlers on dead letters"):
        graph.dead_letters().map(parse).filter(parse, **options)
    graph.dead_letters().map(parse, name="named", ordered=True)


def test_handlers_and_sinks_on_dead_letters_are_plain_and_ordered() -> None:
    graph, _ = start()
    with refuses("map 'fetch'", "without an event loop"):
        graph.dead_letters().map(fetch)
    with refuses("sink 'print'", "ordered=False"):
        graph.dead_letters().sink(print, ordered=False)


def test_letters_that_nobody_reads_are_refused() -> None:
    graph, events = start()
    events.map(parse, on_error="dead_letter").sink(print)
    with refuses("map 'parse' of graph 'logins'", "nobody reads the dead letters", "on_error='skip'"):
        check_graph(graph)
    check_graph(graph, letters_read=True)
    check_graph(graph, outlets=[graph.dead_letters().node])
    graph.dead_letters().sink(print)
    check_graph(graph)


def test_a_handler_leads_somewhere_if_its_letters_are_read() -> None:
    graph, events = start()
    events.map(parse, on_error="dead_letter")
    graph.dead_letters().sink(print)
    assert check_graph(graph) == graph.nodes


# The whole graph


def test_a_graph_needs_a_source_and_a_sink() -> None:
    with refuses("graph 'logins' has no source", "graph.source"):
        check_graph(Graph("logins"))
    graph, events = start()
    events.map(parse)
    with refuses("graph 'logins' has no sink", ".sink(...)"):
        check_graph(graph)


def test_a_second_source_belongs_in_the_sequence() -> None:
    graph, events = start()
    events.sink(print)
    graph.source([1], name="late").sink(print)
    with refuses("source 'late' is outside a sequence", "graph.sequence"):
        check_graph(graph)
    graph = Graph()
    graph.sequence(graph.source([1])).sink(print)
    check_graph(graph)
    graph.source([2], name="late").sink(print)
    with refuses("source 'late' is outside a sequence"):
        check_graph(graph)


def test_a_stream_that_leads_nowhere_is_refused() -> None:
    graph, events = start()
    events.sink(print)
    events.map(parse, name="first").map(parse, name="last")
    with refuses("map 'last' of graph 'logins'", "nobody takes its events", ".sink(...)"):
        check_graph(graph)


def test_outlets_take_the_place_of_sinks_and_leave_the_rest_out() -> None:
    graph, events = start()
    wanted = events.map(parse, name="wanted")
    wanted.map(parse, name="unused")
    events.sink(print)
    graph.dead_letters()
    assert [node.name for node in check_graph(graph, outlets=[wanted.node])] == ["range", "wanted", "print"]


def test_an_outlet_is_of_the_graph_and_behind_its_sequence() -> None:
    graph, events = start()
    _, foreign = start()
    with refuses("'range' is not of this graph"):
        check_graph(graph, outlets=[foreign.node])
    graph.sequence(events)
    with refuses("source 'range' is in a sequence"):
        check_graph(graph, outlets=[events.node])


def test_a_graph_with_everything_passes() -> None:
    graph = Graph()
    joined = graph.sequence(graph.source([1]), graph.source(numbers), key=abs)
    good = joined.map(parse, on_error="dead_letter").barrier()
    sw.zip(good, joined.filter(bool)).sink(print)
    sw.merge(good, joined.flat_map(split)).map_batches(parse, ordered=True).sink(print, ordered=False)
    graph.dead_letters().map(parse).sink(print)
    assert check_graph(graph) == graph.nodes
