"""How a node joins a graph: made, named, checked, appended.

Decides the order of these alone. What is refused is decided in `checks`, what the node is called in `names`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...nodes.program.kinds import NodeKind
from ...nodes.program.options import check_options
from . import checks
from .names import make_name_unique, name_of
from .spec import GraphSpec, Node


def add_node(
    graph: GraphSpec,
    kind: NodeKind,
    inputs: Iterable[Node],
    subject: Any = None,
    *,
    name: str | None = None,
    options: Mapping[str, Any] | None = None,
    **parts: Any,
) -> Node:
    """Add a node to `graph` and return it; `parts` are fields of `Node` that only some kinds have.

    Raises `GraphError` for a node that the checks refuse; then the graph is as it was.
    """
    called = name_of(kind, subject) if name is None else name
    node = Node(len(graph.nodes), kind, called, tuple(inputs), subject, named=name is not None, **parts)
    if options is not None:
        node.options = check_options(checks.node_label(graph.name, node), options)
    checks.check_node(graph, node)
    make_name_unique(graph.nodes, node)
    graph.nodes.append(node)
    return node
