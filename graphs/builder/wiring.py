"""Which nodes may follow which: sequences, joins, and what may be behind the dead letters.

Checks read nodes and raise `GraphError` with the node, the rule and the remedy. They are called from `checks`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from ...nodes.errors import GraphError, kind_of
from ...nodes.handlers import is_async
from ...nodes.program.kinds import NodeKind
from ...nodes.program.options import Options
from .spec import GraphSpec, Node


def check_streams(call: str, streams: Sequence[Any], *, least: int, graph: GraphSpec | None = None) -> None:
    """Check the arguments of a call that joins streams: at least `least` streams, all of one graph."""
    for stream in streams:
        if not isinstance(getattr(stream, "node", None), Node):
            kind = kind_of(stream)
            raise GraphError(f"{call} joins streams, but was given {kind}; make it a stream with graph.source")
        home = graph if graph is not None else streams[0].graph
        if stream.graph is not home:
            raise GraphError(
                f"{call} joins streams of one graph, but {stream.node.name!r} is of graph {stream.graph.name!r},"
                f" not of this {home.name!r}; build all of it in one graph"
            )
    if len(streams) < least:
        raise GraphError(f"{call} was given {len(streams)} streams, but joins {least} or more; give it those to join")


def upstream(starts: Iterable[Node]) -> set[Node]:
    """Return `starts` and all nodes upstream of them."""
    found: set[Node] = set()
    waiting = list(starts)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(node.inputs)
    return found


def is_behind_letters(node: Node) -> bool:
    """Whether a node handles dead letters: it is their source, or downstream of it."""
    return any(other.kind is NodeKind.LETTERS for other in upstream([node]))


def check_wiring(where: str, nodes: Sequence[Node], node: Node) -> None:
    if node.kind is NodeKind.SEQUENCE:
        _check_sequence(where, nodes, node)
        return
    for given in node.inputs:
        check_not_sequenced(where, nodes, given)
    if node.kind is not NodeKind.LETTERS and is_behind_letters(node):
        _check_behind_letters(where, node)
    if node.kind is NodeKind.ZIP:
        for other in sorted(upstream(node.inputs), key=lambda other: other.id):
            if other.kind.traits.multiplies or getattr(other.subject, "final", False) is True:
                raise GraphError(
                    f"{where}: {other.kind.value} {other.name!r} before it may give several events for one number, and"
                    " zip joins one with one; zip before it, or use sw.merge"
                )


def _check_sequence(where: str, nodes: Sequence[Node], node: Node) -> None:
    if node.order not in ("arrival", "round_robin"):
        raise GraphError(f"{where}: order={reprlib.repr(node.order)}; use 'arrival' or 'round_robin'")
    if node.key is not None and not callable(node.key):
        raise GraphError(f"{where}: key={reprlib.repr(node.key)} cannot be called; give it a function of one event")
    if node.key is not None and node.order != "arrival":
        raise GraphError(f"{where}: key= decides the order by itself, but order={node.order!r}; leave one of them out")
    for other in nodes:
        if other.kind is NodeKind.SEQUENCE:
            raise GraphError(f"{where}: the graph has the sequence {other.name!r}; give all sources to that one")
    for index, source in enumerate(node.inputs):
        if source.kind is not NodeKind.SOURCE:
            raise GraphError(
                f"{where}: {source.kind.value} {source.name!r} is not a source; give it the streams as graph.source"
                " returned them, and put handlers behind the sequence"
            )
        if source in node.inputs[:index]:
            raise GraphError(f"{where}: source {source.name!r} is given twice; give each source once")
        for other in nodes:
            if source in other.inputs:
                raise GraphError(
                    f"{where}: source {source.name!r} is used by {other.name!r} already;"
                    " use the stream that graph.sequence returns instead"
                )


def check_not_sequenced(where: str, nodes: Sequence[Node], given: Node) -> None:
    if given.kind is NodeKind.SOURCE and any(other.kind is NodeKind.SEQUENCE and given in other.inputs for other in nodes):
        raise GraphError(
            f"{where}: source {given.name!r} is in a sequence; use what graph.sequence returned instead"
        )


def _check_behind_letters(where: str, node: Node) -> None:
    if not node.kind.traits.event_by_event and node.kind is not NodeKind.SINK:
        raise GraphError(f"{where}: dead letters take only map, filter, flat_map and sink; leave it out")
    if node.kind is NodeKind.SINK:
        if node.ordered is False:
            raise GraphError(f"{where}: dead letters come in order, but ordered=False; leave it out")
        return
    for option in fields(Options):
        value = getattr(node.options, option.name)
        if value != option.default and option.name != "ordered":
            raise GraphError(
                f"{where}: handlers on dead letters run beside the sinks in the calling process, so {option.name}="
                f"{reprlib.repr(value)} has no place there; leave it out"
            )
    if is_async(node.subject):
        raise GraphError(
            f"{where}: handlers on dead letters run beside the sinks, without an event loop; give it a plain function"
        )
