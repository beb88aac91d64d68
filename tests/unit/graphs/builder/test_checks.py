"""Every mistake that can be seen while a graph is built or compiled names the node, the rule and the remedy."""

from __future__ import annotations

import csv
import functools
import math
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from sluiceway.graphs.builder import streams as sw
from sluiceway.graphs.builder.checks import check_graph, claim_iterators
from sluiceway.graphs.builder.graph import Graph
from sluiceway.graphs.builder.streams import Stream
from sluiceway.nodes.errors import GraphError
from sluiceway.nodes.handlers import per_worker


def refuses(*texts: str) -> Any:
    """Expect a GraphError whose text holds all of `texts`, in order."""
    return pytest.raises(GraphError, match="(?s)" + ".*".join(map(re.escape, texts)))


def start() -> tuple[Graph, Stream[Any]]:
    graph = Graph("logins")
    return graph, graph.source(range(3))


def parse(event: Any) -> Any:
    return event


def split(event: Any) -> list[Any]:
    return [event, event]


async def fetch(event: Any) -> Any:
    return event


def halves(event: Any) -> Iterator[Any]:
    yield event


def numbers() -> Iterator[int]:
    yield from range(3)


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
