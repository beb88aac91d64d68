"""The start of a graph, handlers for it, and how a refusal is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from sluiceway.graphs.builder.graph import Graph
from sluiceway.graphs.builder.streams import Stream
from sluiceway.nodes.errors import GraphError


def refuses(*texts: str) -> Any:
    """Expect a GraphError whose text holds all of `texts`, in order."""
    return pytest.raises(GraphError, match="(?s)" + ".*".join(map(re.escape, texts)))


def start() -> tuple[Graph, Stream[Any]]:
    graph = Graph("logins")
    return graph, graph.source(range(3))


async def fetch(event: Any) -> Any:
    return event


def numbers() -> Iterator[int]:
    yield from range(3)
