"""Runs whose events a test lets through, for the tests of `Results`."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pytest


def endless() -> Iterator[int]:
    n = 0
    while True:
        yield n
        n += 1


class Gated:
    """Events that come when they are let through."""

    def __init__(self) -> None:
        self.gate: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def events(self) -> Iterator[Any]:
        while (event := self.gate.get()) is not None:
            yield event

    def let(self, *events: Any) -> None:
        for event in events:
            self.gate.put(event)

    def end(self) -> None:
        self.gate.put(None)


@pytest.fixture(params=["inline", "processes", "left out"])
def words(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The three ways in which a run may work."""
    ways: dict[str, dict[str, Any]] = {"inline": {"runner": "inline"}, "processes": {"workers": 1}, "left out": {}}
    return ways[request.param]


def same(n: Any) -> Any:
    return n
