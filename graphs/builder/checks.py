"""Every mistake in a graph that can be seen while it is built or compiled: names, wiring, the whole.

Checks read nodes and raise `GraphError` with the node, the rule and the remedy. What may be a source, a handler or a
sink is decided in `subjects`, what may follow what in `wiring`, which options a call has in `option_names`.
Nothing here changes a graph, except that a run claims the sources that can be read only once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Any

from ...nodes.checks import check_flag
from ...nodes.errors import GraphError
from ...nodes.program.kinds import NodeKind
from . import subjects
from .spec import GraphSpec, Node
from .wiring import check_not_sequenced, check_wiring, upstream

# One node


def node_label(graph_name: str, node: Node) -> str:
    """Return how an error text names a node of a graph."""
    return f"{node.kind.value} {node.name!r} of graph {graph_name!r}"


def check_graph_name(name: Any) -> None:
    """Check the name of a graph; raises `GraphError` for one that is empty or cannot be printed."""
    _check_name("Graph(name)", name)


def check_node(graph: GraphSpec, node: Node) -> None:
    """Check a node before it joins the nodes of `graph`: its name, its wiring, the user's part."""
    where = node_label(graph.name, node)
    if node.named:
        _check_name(where, node.name)
        if any(other.named and other.name == node.name for other in graph.nodes):
            raise GraphError(f"{where}: another node has this name; give each node a name of its own")
    check_wiring(where, graph.nodes, node)
    if node.kind is NodeKind.SOURCE:
        subjects.check_source(where, node.subject)
        check_flag(where, "journal", node.journal)
        if node.journal:
            subjects.check_journal(where, node.subject)
        if subjects.is_one_shot(node.subject) and any(other.subject is node.subject for other in graph.nodes):
            raise GraphError(f"{where}: another source reads this iterator already; use that stream twice instead")
    elif node.kind is NodeKind.SINK:
        check_flag(where, "ordered", node.ordered)
        subjects.check_sink(where, node.subject)
    elif node.kind.traits.has_handler:
        subjects.check_handler(where, node.kind, node.subject)
    elif node.kind is NodeKind.KEYED_MAP:
        subjects.check_handler(where, NodeKind.MAP, node.subject)


def _check_name(where: str, name: Any) -> None:
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise GraphError(f"{where}: a name is a string of printable characters, not empty; choose another one")


# The whole graph


def check_graph(graph: GraphSpec, *, outlets: Sequence[Node] = (), letters_read: bool = False) -> list[Node]:
    """Return the nodes of a graph that take part in a run, in order of their ids, after checking the whole graph.

    `outlets` are nodes whose events are consumed without a sink, as `iterate` does; then nodes that lead nowhere are
    left out instead of refused. `letters_read` says that the dead letters are consumed without a sink.
    """
    where = f"graph {graph.name!r}"
    for outlet in outlets:
        if outlet not in graph.nodes:
            raise GraphError(f"{where}: {outlet.name!r} is not of this graph; give a stream that this graph returned")
        check_not_sequenced(where, graph.nodes, outlet)
    _check_sources(where, graph.nodes)
    ends = [node for node in graph.nodes if node.kind is NodeKind.SINK or node in outlets]
    if not ends:
        raise GraphError(f"{where} has no sink, so nothing would come of it; end a stream with .sink(...)")
    live = upstream(ends)
    if letters_read or any(node.kind is NodeKind.LETTERS for node in live):
        # A handler whose letters are read leads somewhere, even if nobody reads its outputs.
        live |= upstream(node for node in graph.nodes if node.options.on_error == "dead_letter")
    else:
        _check_letters_unread(graph, live)
    if not outlets:
        _check_dangling(graph, live)
    return sorted(live, key=lambda node: node.id)


def _check_sources(where: str, nodes: Sequence[Node]) -> None:
    sources = [node for node in nodes if node.kind is NodeKind.SOURCE]
    sequenced = {source for node in nodes if node.kind is NodeKind.SEQUENCE for source in node.inputs}
    outside = [source for source in sources if source not in sequenced]
    if not sources:
        raise GraphError(f"{where} has no source, so nothing can be read; begin with graph.source(...)")
    if len(sources) > 1 and outside:
        raise GraphError(
            f"{where} has {len(sources)} sources, but source {outside[-1].name!r} is outside a sequence;"
            " one sequencer numbers all events, so give all sources to graph.sequence(...)"
        )


def _check_letters_unread(graph: GraphSpec, live: set[Node]) -> None:
    for node in sorted(live, key=lambda node: node.id):
        if node.options.on_error == "dead_letter":
            raise GraphError(
                f"{node_label(graph.name, node)}: on_error='dead_letter', but nobody reads the dead letters;"
                " end graph.dead_letters() with .sink(...), or use on_error='skip'"
            )


def _check_dangling(graph: GraphSpec, live: set[Node]) -> None:
    fed = {given for node in graph.nodes for given in node.inputs}
    for node in graph.nodes:
        if node.kind is NodeKind.KEY_BY and node not in fed:
            raise GraphError(
                f"{node_label(graph.name, node)}: nothing is done with its keys; follow it with .map, .scan, .reduce, .count"
                " or .window"
            )
        if node not in live and node not in fed and node.kind is not NodeKind.LETTERS:
            raise GraphError(f"{node_label(graph.name, node)}: nobody takes its events; end its stream with .sink(...)")


_claiming = Lock()


def claim_iterators(graph: GraphSpec, live: Iterable[Node] | None = None) -> None:
    """Claim the sources that can be read only once for the run that begins now.

    `live` are the nodes that take part in the run. Raises `GraphError` for an iterator that an earlier run has begun
    to read, or that is used up; then nothing is claimed.
    """
    sources = [node for node in (graph.nodes if live is None else live) if node.kind is NodeKind.SOURCE]
    with _claiming:  # two threads may run one graph at the same time
        for node in sources:
            subjects.check_unread(node_label(graph.name, node), node.subject, claimed=node.claimed)
        for node in sources:
            node.claimed = True
