"""A graph with a running sum whose handler fails until it is mended."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import sluiceway as sw


def sums_of(out: Path, events: Any = range(5_000), more: Any = None) -> sw.Graph:
    graph = sw.Graph("sums")
    graph.source(events).map(abs if more is None else more, name="work").scan(lambda s, n: (s + n, s + n), 0).map(str).sink(
        sw.lines(out)
    )
    return graph


class Fails:
    """Fails at a number until it is mended: a handler whose code was changed."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.__qualname__ = self.__name__ = "work"

    def __call__(self, number: int) -> int:
        if number == self.at:
            raise ValueError("broken")
        time.sleep(0.0002)
        return number

    def of_text(self, text: str) -> int:
        return self(int(text))
