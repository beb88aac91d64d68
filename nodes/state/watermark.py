"""The watermark: the highest event time so far, and the numbers at which it moves far enough to close something.

Decides when the watermark is reported. Knows nothing of keys and of the events in a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Any

from ..handlers import Recipe
from ..program.column import Column
from ..program.failures import USER_ERRORS
from .stateful import EventCursor
from .times import MIXED, WallTime
from .windows import Grid


class ClockRecipe(Recipe):
    """The watermark: the highest time so far, reported where it may close a window; without a grid, wherever it moves."""

    def __init__(self, grid: Grid | None) -> None:
        self.grid = grid

    def make(self) -> Any:
        return Watermark(self.grid)


class Watermark:
    """The watermark of one stream of event times."""

    def __init__(self, grid: Grid | None) -> None:
        self._grid = grid
        self._mark: Any = None
        self._edge: Any = None  #: the lowest watermark that will be reported

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
        rest = self._of_one_kind(column.events, cursor.iterate(column, column.events))
        try:
            for row, time in self._peaks(column, rest):
                if mark is not None and time <= mark:
                    continue
                mark = time
                if edge is None or mark >= edge:
                    edge = mark if grid is None else grid.edge(mark)
                    marks.append(mark)
                    counts[row] = 1
        except USER_ERRORS as error:
            cursor.record_failure(error)
        self._mark, self._edge = mark, edge
        below = cursor.before_failure(column)
        return Column(column.start, column.size, marks, counts).slice(below.start, below.stop)

    def _of_one_kind(self, times: list[Any], rest: Iterator[Any]) -> Iterator[Any]:
        """Return the times, up to the first that differs from those before it in having a zone or none."""
        kinds = set(map(type, times))
        if self._mark is not None:
            kinds.add(type(self._mark))
        if WallTime not in kinds or len(kinds) == 1:
            return rest
        return _up_to_the_other(type(self._mark if self._mark is not None else times[0]) is WallTime, rest)

    @staticmethod
    def _peaks(column: Column, rest: Iterator[Any]) -> Iterator[tuple[int, Any]]:
        """Yield the row and the highest time of every number that has an event."""
        if column.counts is None:
            yield from enumerate(rest)
            return
        for row, count in enumerate(column.counts):
            if count:
                peak = next(rest)
                for _ in range(count - 1):
                    peak = max(peak, next(rest))
                yield row, peak


def _up_to_the_other(zoneless: bool, rest: Iterator[Any]) -> Iterator[Any]:
    for time in rest:
        if (type(time) is WallTime) is not zoneless:
            raise TypeError(MIXED)
        yield time


def rows_of(clock: Column) -> Iterator[int]:
    """Return the rows of the numbers at which the watermark was reported."""
    rows = range(clock.size)
    return iter(rows if clock.counts is None else compress(rows, clock.counts))
