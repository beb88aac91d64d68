"""What can be mended: which runs keep enough for it, which sinks can take all results anew, which nodes are behind which.

Decides what is refused, before anything is opened. What is forgotten is decided in `mending`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ...graphs.builder.spec import Node
from ...nodes.errors import GraphError
from ...nodes.program.kinds import NodeKind
from ..plan.plan import Plan
from .mending import Mend


def check_kept_whole(plan: Plan, durable: Sequence[Node]) -> None:
    """Raise `GraphError` for a run that cannot keep all that a mend needs."""
    if not durable:
        raise GraphError(
            f"cannot keep all answers of graph {plan.name!r}: no handler is durable; give those that are dear durable=True"
        )
    journaled = next((source.node.name for source in plan.sources if source.node.journal), None)
    if journaled is not None:
        raise GraphError(
            f"cannot keep all answers of graph {plan.name!r} for a mend: source {journaled!r} has a journal, from which events"
            " are removed when they are committed; store them in a file first, or leave out keep='all'"
        )


def check_mended(plan: Plan) -> None:
    """Raise `GraphError` for a sink that would get everything a second time."""
    for sink in plan.sinks:
        if not getattr(sink.node.subject, "rewrites", False):
            raise GraphError(
                f"cannot mend graph {plan.name!r}: sink {sink.node.name!r} is no file that is written anew and put in place at"
                " once, so it would hold all results twice; write them to sw.lines, sw.jsonl or sw.csv without append=True,"
                " or handle the failed numbers in a graph of their own"
            )


def mend_of(durable: Sequence[Node], numbers: Collection[int] | None) -> Mend:
    """Return what is to be mended in a graph with these durable nodes."""
    before = {node.name: {one.name for one in _nodes_before(node)} for node in durable}
    behind = {
        node.name: [other.name for other in durable if other is not node and node.name in before[other.name]]
        for node in durable
    }
    return Mend(numbers, behind)


def subjects_before(node: Node) -> list[Any]:
    """Return what the answers of a node are made by: its own handler, and those of all nodes before it."""
    return [part for one in _nodes_before(node) if one.kind is not NodeKind.SOURCE for part in (one.subject, one.key)]


def _nodes_before(node: Node) -> list[Node]:
    """Return a node and all nodes before it."""
    found, known = [node], {node}
    for one in found:
        for given in one.inputs:
            if given not in known:
                known.add(given)
                found.append(given)
    return found
