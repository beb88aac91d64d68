"""Graph and Stream: which nodes a user's calls leave behind, and what they are called."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sluiceway.graphs.builder import streams as sw
from sluiceway.graphs.builder.graph import Graph
from sluiceway.graphs.builder.streams import Stream
from sluiceway.nodes.errors import GraphError
from sluiceway.nodes.files.api import lines
from sluiceway.nodes.handlers import per_worker
from sluiceway.nodes.program.kinds import NodeKind
from sluiceway.nodes.program.options import Options


class Model:
    def __init__(self, path: str = "model.pt") -> None:
        self.path = path

    def __call__(self, event: Any) -> Any:
        return event


class Rows:
    def __init__(self, path: str) -> None:
        self.path = path

    def reader(self, position: object | None, /) -> Any:
        raise NotImplementedError

    def write(self, events: Any, /) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def read_rows() -> Iterator[int]:
    yield 1


def parse(event: Any, strict: bool = False) -> Any:
    return event


def start() -> tuple[Graph, Stream[int]]:
    graph = Graph()
    return graph, graph.source(range(3))


def test_nodes_stand_in_order_with_their_places_as_ids() -> None:
    graph, events = start()
    parsed = events.map(parse)
    parsed.filter(bool).barrier().sink(print)
    assert [(node.id, node.kind, node.name) for node in graph.nodes] == [
        (0, NodeKind.SOURCE, "range"),
        (1, NodeKind.MAP, "parse"),
        (2, NodeKind.FILTER, "bool"),
        (3, NodeKind.BARRIER, "barrier"),
        (4, NodeKind.SINK, "print"),
    ]
    assert [node.inputs for node in graph.nodes] == [(), *((node,) for node in graph.nodes[:-1])]
    assert parsed == Stream(graph, graph.nodes[1])


def test_a_handler_keeps_its_options() -> None:
    graph, events = start()
    events.map(parse, workers=3, retries=2, backoff_s=1, timeout_s=2.5, concurrency=4, on_error="skip")
    events.map_batches(parse, batch_size=32, ordered=True)
    assert graph.nodes[1].options == Options(
        workers=3, retries=2, backoff_s=1.0, timeout_s=2.5, concurrency=4, on_error="skip"
    )
    assert graph.nodes[2].options == Options(ordered=True, batch_size=32)


def test_options_left_out_or_none_are_the_defaults() -> None:
    graph, events = start()
    events.map(parse, workers=None, timeout_s=None)
    events.map_batches(parse, batch_size=None)
    assert graph.nodes[1].options == graph.nodes[2].options == Options()


def test_a_sink_keeps_whether_it_is_ordered() -> None:
    graph, events = start()
    results: list[int] = []
    events.sink(results.append)
    events.sink(results.append, ordered=False)
    assert [(node.name, node.ordered) for node in graph.nodes[1:]] == [("append", True), ("append-2", False)]


def test_a_sequence_joins_sources() -> None:
    graph = Graph()
    joined = graph.sequence(graph.source([1]), graph.source([2]), order="round_robin")
    assert joined.node.inputs == tuple(graph.nodes[:2])
    assert (joined.node.order, joined.node.key) == ("round_robin", None)


def test_a_sequence_keeps_its_key() -> None:
    graph = Graph()
    assert graph.sequence(graph.source([1]), key=abs).node.key is abs


def test_zip_and_merge_join_branches_of_one_graph() -> None:
    graph, events = start()
    pairs = sw.zip(events, events.map(parse))
    both = sw.merge(pairs, pairs.map(parse))
    assert (pairs.node.kind, both.node.kind) == (NodeKind.ZIP, NodeKind.MERGE)
    assert pairs.node.inputs == (graph.nodes[0], graph.nodes[1])
    assert both.node.inputs == (graph.nodes[2], graph.nodes[3])


def test_dead_letters_are_one_stream() -> None:
    graph, _ = start()
    letters = graph.dead_letters()
    letters.map(parse).filter(bool).flat_map(list).sink(print)
    assert graph.dead_letters() == letters
    assert [node.kind for node in graph.nodes].count(NodeKind.LETTERS) == 1


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (parse, "parse"),
        (json.loads, "loads"),
        (int, "int"),
        (Path, "Path"),
        (lambda event: event, "map"),
        (functools.partial(parse, strict=True), "parse"),
        (functools.partial(functools.partial(parse)), "parse"),
        (Model, "Model"),
        (Model(), "Model"),
        (per_worker(Model, "other.pt"), "Model"),
        ("-".join, "join"),
    ],
)
def test_a_handler_is_named_by_its_function(fn: Callable[[Any], Any], name: str) -> None:
    graph = Graph()
    graph.source([1]).map(fn)
    assert graph.nodes[1].name == name


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ([1], "list"),
        (read_rows, "read_rows"),
        (read_rows(), "read_rows"),
        ((number for number in [1]), "source"),
        (Rows("/data/logs/rows.csv"), "rows.csv"),
        (lines(["/data/logs/a.log", "/data/logs/b.log"]), "a.log"),
        (lines("-"), "TextFile"),
        (io.StringIO("a"), "StringIO"),
        (lambda: iter([1]), "source"),
    ],
)
def test_a_source_is_named_by_its_function_or_file(source: Any, name: str) -> None:
    graph = Graph()
    graph.source(source)
    assert graph.nodes[0].name == name


def test_files_name_their_nodes(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text("a\n")
    graph = Graph()
    with open(tmp_path / "access.log") as file:
        graph.source(file).sink(Rows(str(tmp_path / "out.csv")))
    assert [node.name for node in graph.nodes] == ["access.log", "out.csv"]


def test_generated_names_are_made_unique() -> None:
    graph, events = start()
    for _ in range(3):
        events = events.map(parse)
    assert [node.name for node in graph.nodes[1:]] == ["parse", "parse-2", "parse-3"]


def test_a_generated_name_gives_way_to_a_chosen_one() -> None:
    graph, events = start()
    events.map(parse).map(parse).map(parse, name="parse-2").map(parse, name="parse").map(parse)
    assert [node.name for node in graph.nodes[1:]] == ["parse-4", "parse-3", "parse-2", "parse", "parse-5"]
    assert len({node.name for node in graph.nodes}) == len(graph.nodes)


def test_two_equal_chosen_names_are_refused_and_leave_nothing_behind() -> None:
    graph, events = start()
    events.map(parse, name="clean")
    with pytest.raises(GraphError, match="sink 'clean' of graph 'graph': another node has this name"):
        events.sink(print, name="clean")
    assert len(graph.nodes) == 2


def test_streams_are_frozen_and_say_where_they_are() -> None:
    graph, events = start()
    with pytest.raises(AttributeError):
        events.node = graph.nodes[0]  # type: ignore[misc]
    assert repr(events) == "<Stream of source 'range' of graph 'graph'>"
    assert repr(graph) == "<Graph 'graph', 1 nodes>"
