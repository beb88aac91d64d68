"""Runs a handler from hell among ordinary events."""

from __future__ import annotations

from typing import Any

import sluiceway as sw
from conftest import Seen

N = 200


def run(handler: Any, count: int = N, **words: Any) -> Seen:
    """Run numbers through a handler in two processes, with letters where they are asked for."""
    of_run = {name: words.pop(name) for name in ("max_deaths", "workers") if name in words}
    seen = Seen()
    graph = sw.Graph()
    graph.source(range(count)).map(handler, name="hell", **words).sink(seen.sink("out"))
    if words.get("on_error") == "dead_letter":
        graph.dead_letters().sink(seen.sink("letters"))
    try:
        seen.report = sw.run(graph, **{"workers": 2, **of_run})
    except sw.SluicewayError as error:
        seen.error, seen.report = error, error.report
    return seen


def others(number: int) -> list[int]:
    return [n for n in range(N) if n != number]
