"""Open tumbling and sliding windows, and what is done with the events of one.

The events of a number are added first, by the watermark of the number before; then the watermark of the number closes
the windows that it has passed. So which events are late, and which number closes a window, is the same for any number
of partitions.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..handlers import Recipe
from ..program.column import Column
from ..program.failures import USER_ERRORS
from .stateful import EventCursor, form_of, fresh_state
from .times import TimeScale
from .watermark import rows_of
from .windows import Grid


@dataclass(frozen=True)
class Aggregate:
    """How the events of a window are combined: `kind` is "count", "reduce", "aggregate" or "collect"."""

    kind: str
    fn: Callable[[Any, Any], Any] | None = None
    initial: Any = None
    merge: Callable[[Any, Any], Any] | None = None

    @property
    def form(self) -> str:
        """What must be equal in a resumed run for the value of a window to mean the same."""
        return f"{self.kind} {form_of(self.initial)}" if self.kind == "aggregate" else self.kind

    def begin(self, event: Any) -> Any:
        """Return the value of a window after its first event."""
        if self.kind == "collect":
            return [event]
        if self.kind == "aggregate":
            assert self.fn is not None
            return self.fn(fresh_state(self.initial), event)
        return event if self.kind == "reduce" else 1

    def step(self) -> Callable[[Any, Any], Any]:
        """Return the function from the value of a window and an event to its next value."""
        if self.fn is not None:
            return self.fn
        return _append if self.kind == "collect" else _one_more

    def join(self) -> Callable[[Any, Any], Any]:
        """Return the function that merges the values of an earlier and a later window."""
        return self.merge or self.fn or _plus


def _append(value: list[Any], event: Any) -> list[Any]:
    value.append(event)
    return value


def _one_more(value: int, event: Any) -> int:
    return value + 1


def _plus(a: Any, b: Any) -> Any:
    return a + b


class Output:
    """Closed windows, as results of the numbers that closed them."""

    def __init__(self, column: Column) -> None:
        self._column = column
        self._events: list[Any] = []
        self._counts = [0] * column.size

    def add(self, row: int, records: list[tuple[Any, ...]]) -> None:
        """Add the windows that a number closed; rows come in order."""
        for record in records:
            self._events += record
            self._counts[row] += len(record)

    def column(self, below: Column) -> Column:
        """Return the output for the numbers of `below`."""
        column = Column(self._column.start, self._column.size, self._events, self._counts)
        return column.slice(below.start, below.stop)


class WindowRecipe(Recipe):
    """Windows of one size, tumbling or sliding."""

    def __init__(self, scale: TimeScale, grid: Grid, aggregate: Aggregate) -> None:
        self.scale = scale
        self.grid = grid
        self.aggregate = aggregate

    def make(self) -> Any:
        return _Windows(self.scale, self.grid, self.aggregate)


class _Windows:
    """The open windows of the keys of one partition: `[value, seq, index]`, with `(seq, index)` of the first event."""

    def __init__(self, scale: TimeScale, grid: Grid, aggregate: Aggregate) -> None:
        self._scale = scale
        self._grid = grid
        self._aggregate = aggregate
        self._counting = aggregate.kind == "count"
        self._width = 2 if self._counting else 3
        self._open: dict[int, dict[Any, list[Any]]] = {}
        self._order: list[int] = []  #: a heap of the open windows' numbers
        self._count = 0
        self._closed: int | None = None  #: the highest window that the watermark has closed
        self._like: Any = None  #: any time of the stream

    def size(self) -> int:
        return self._count

    def snapshot(self) -> Any:
        return self._open, self._closed, self._like

    def restore(self, state: Any) -> None:
        self._open, self._closed, self._like = state
        self._order = sorted(self._open)
        self._count = sum(map(len, self._open.values()))

    def _opened(self, j: int) -> dict[Any, list[Any]]:
        """Return the open windows of number j, by key."""
        windows = self._open.get(j)
        if windows is None:
            windows = self._open[j] = {}
            heapq.heappush(self._order, j)
        return windows

    def process(self, columns: Sequence[Column], cursor: EventCursor, end: int | None) -> Column:
        column, clock = columns
        width = self._width
        keys, times = column.events[::width], column.events[1::width]
        events = times if self._counting else column.events[2::width]
        output = Output(column)
        rest = cursor.iterate(column, events, width)
        try:
            if self._like is None and times:
                self._like = times[0]
            slide = self._grid.slide
            js = [time // slide for time in times]
            at, ends = 0, column.offsets()
            for row, mark in zip(rows_of(clock), clock.events, strict=True):
                upto = ends[row + 1] // width
                self._add(keys[at:upto], js[at:upto], times, rest, cursor)
                self._close(row, mark, output)
                at = upto
            self._add(keys[at:], js[at:], times, rest, cursor)
        except USER_ERRORS as error:
            cursor.record_failure(error)
        if end is not None and not cursor.failures:
            output.add(end - column.start, self._removed(sorted(self._open)))
        return output.column(cursor.before_failure(column))

    def _add(self, keys: list[Any], js: list[int], times: list[Any], rest: Iterator[Any], cursor: EventCursor) -> None:
        if not self._grid.single:
            self._add_to_several(keys, js, times, rest, cursor)
            return
        closed, counting = self._closed, self._counting
        begin, step = self._aggregate.begin, self._aggregate.step()
        last: int | None = None
        windows: dict[Any, list[Any]] = {}
        for key, j, event in zip(keys, js, rest, strict=False):
            if j != last:
                if closed is not None and j <= closed:
                    cursor.late += 1
                    continue
                windows = self._opened(j)
                last = j
            window = windows.get(key)
            if window is None:
                windows[key] = [begin(event), *cursor.name()]
                self._count += 1
            elif counting:
                window[0] += 1
            else:
                window[0] = step(window[0], event)

    def _add_to_several(
        self, keys: list[Any], js: list[int], times: list[Any], rest: Iterator[Any], cursor: EventCursor
    ) -> None:
        open_, closed, counting = self._open, self._closed, self._counting
        begin, step, grid = self._aggregate.begin, self._aggregate.step(), self._grid
        for key, j, event in zip(keys, js, rest, strict=False):
            first = grid.first(times[cursor.position])
            if closed is not None and first <= closed:
                first = closed + 1
                if first > j:
                    cursor.late += 1
                    continue
            for at in range(first, j + 1):
                # Each window gets a copy of its own, because their values change independently.
                own = event if at == j or counting else cursor.own_copy(event)
                windows = open_.get(at)
                if windows is None:
                    windows = self._opened(at)
                window = windows.get(key)
                if window is None:
                    windows[key] = [begin(own), *cursor.name()]
                    self._count += 1
                else:
                    window[0] = step(window[0], own)

    def _close(self, row: int, mark: int, output: Output) -> None:
        self._closed = closed = self._grid.passed(mark)
        passed = []
        while self._order and self._order[0] <= closed:
            passed.append(heapq.heappop(self._order))
        if passed:
            output.add(row, self._removed(passed))

    def _removed(self, js: list[int]) -> list[tuple[Any, ...]]:
        """Remove windows and return their records; merging the partitions puts them in order."""
        records: list[tuple[Any, ...]] = []
        bound, like = self._scale.bound, self._like
        for j in js:
            start, end = bound(self._grid.start(j), like), bound(self._grid.end(j), like, end=True)
            windows = self._open.pop(j)
            self._count -= len(windows)
            records += [(key, start, end, *window) for key, window in windows.items()]
        return records
