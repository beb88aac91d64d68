"""The watermark: the highest event time so far, and the numbers at which it moves far enough to close something.

Decides when the watermark is reported. Knows nothing of keys and of the events in a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Any

from ..handlers import Recipe
from ..program.column import Column
from .stateful import EventCursor
from .windows import MIXED, Grid, origin_of


class ClockRecipe(Recipe):
    """The watermark: the highest time so far, told where it may close something; without a grid wherever it moves."""

    def __init__(self, grid: Grid | None) -> None:
        self.grid = grid

    def make(self) -> Any:
        return _Clock(self.grid)


class _Clock:
    def __init__(self, grid: Grid | None) -> None:
        self._grid = grid
        self._mark: Any = None
        self._edge: Any = None  #: the lowest watermark that is told next

    def size(self) -> int:
        return 0

    def snapshot(self) -> Any:
        return self._mark, self._edge

    def restore(self, state: Any) -> None:
        self._mark, self._edge = state

    def process(self, columns: Sequence[Column], cursor: EventCursor, end: int | None) -> Column:
        column = columns[0]
        marks: list[Any] = []
        counts = [0] * column.size
        mark, edge, grid = self._mark, self._edge, self._grid
        rest = cursor.iterate(column, column.events)
        try:
            for row, time in self._peaks(column, rest):
                if mark is not None and time <= mark:
                    continue
                mark = time
                if edge is None or mark >= edge:
                    edge = mark if grid is None else grid.edge(origin_of(mark), mark)
                    marks.append(mark)
                    counts[row] = 1
        except TypeError:
            cursor.record_failure(TypeError(MIXED))
        self._mark, self._edge = mark, edge
        below = cursor.before_failure(column)
        return Column(column.start, column.size, marks, counts).slice(below.start, below.stop)

    @staticmethod
    def _peaks(column: Column, rest: Iterator[Any]) -> Iterator[tuple[int, Any]]:
        """Give the row and the highest time of every number that has one."""
        if column.counts is None:
            yield from enumerate(rest)
            return
        for row, count in enumerate(column.counts):
            if count:
                peak = next(rest)
                for _ in range(count - 1):
                    peak = max(peak, next(rest))
                yield row, peak


def rows_of(clock: Column) -> Iterator[int]:
    """Give the places of the numbers at which the watermark was told."""
    rows = range(clock.size)
    return iter(rows if clock.counts is None else compress(rows, clock.counts))
