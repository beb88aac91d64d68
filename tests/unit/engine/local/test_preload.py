"""Which modules a worker and its successor need not import."""

from __future__ import annotations

import json
import operator
from functools import partial
from typing import Any

import pytest
import sluiceway as sw
from sluiceway.engine.local.preload import modules_of
from sluiceway.engine.plan.compiler import compile_graph
from sluiceway.graphs import census


@pytest.mark.parametrize(
    ("handler", "home"),
    [
        (json.loads, "json"),
        (partial(census.measure, root="/"), "sluiceway.graphs.census"),
        (sw.per_worker(operator.itemgetter, 0), "operator"),
        (lambda n: n, None),
        (pytest.approx, None),
    ],
)
def test_own_modules_and_those_of_python_are_imported_once(handler: Any, home: str | None) -> None:
    graph = sw.Graph()
    graph.source(["1"]).map(handler).sink(print)
    assert modules_of(compile_graph(graph, workers=1), paused=False) == ([] if home is None else [home])
