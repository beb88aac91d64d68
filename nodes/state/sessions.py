"""Open sessions: windows of one key that end when the key has no event for a while.

Decides which session an event joins or extends, when it merges two sessions, and which ones the watermark closes.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from ..handlers import Recipe
from ..program.column import Column
from ..program.failures import USER_ERRORS
from .stateful import EventCursor
from .times import TimeScale
from .watermark import rows_of
from .window_state import Aggregate, Output

_START = attrgetter("start")


class SessionRecipe(Recipe):
    """Sessions that end `gap` after their last event and stay open for `lateness` longer."""

    def __init__(self, scale: TimeScale, gap: Any, lateness: Any, aggregate: Aggregate) -> None:
        self.scale = scale
        self.gap = gap
        self.lateness = lateness
        self.aggregate = aggregate

    def make(self) -> Any:
        return _OpenSessions(self.scale, self.gap, self.lateness, self.aggregate)


@dataclass(slots=True, eq=False)
class _OpenSession:
    key: Any
    start: Any
    last: Any
    value: Any
    seq: int
    index: int
    joined: bool = False  #: whether it was merged into another one


class _OpenSessions:
    """The open sessions of the keys of one partition."""

    def __init__(self, scale: TimeScale, gap: Any, lateness: Any, aggregate: Aggregate) -> None:
        self._scale = scale
        self._gap = scale.length(gap)
        self._lateness = scale.length(lateness)
        self._aggregate = aggregate
        self._counting = aggregate.kind == "count"
        self._width = 2 if self._counting else 3
        #: The sessions of each key by their starts; they are at least a gap apart, so their ends are in order too.
        self._open: dict[Any, list[_OpenSession]] = {}
        self._count = 0
        #: A heap of all open sessions by an end that they had, which may be later by now.
        self._ends: list[tuple[Any, int, int, _OpenSession]] = []
        self._mark: Any = None

    def size(self) -> int:
        return self._count

    def snapshot(self) -> Any:
        """Return the open sessions, each with its entry in the heap of ends, and the watermark."""
        entries = {id(session): entry for *entry, session in self._ends if not session.joined}
        sessions = [
            (s.key, s.start, s.last, s.value, s.seq, s.index, *entries[id(s)]) for of in self._open.values() for s in of
        ]
        return sessions, self._mark

    def restore(self, state: Any) -> None:
        sessions, self._mark = state
        self._open, self._count, self._ends = {}, len(sessions), []
        for key, start, last, value, seq, index, *entry in sessions:
            session = _OpenSession(key, start, last, value, seq, index)
            self._open.setdefault(key, []).append(session)
            self._ends.append((*entry, session))
        heapq.heapify(self._ends)

    def process(self, columns: Sequence[Column], cursor: EventCursor, end: int | None) -> Column:
        column, clock = columns
        width = self._width
        keys, times = column.events[::width], column.events[1::width]
        events = times if self._counting else column.events[2::width]
        output = Output(column)
        try:
            marks = _Marks(column, clock, width, self._mark)
            self._run(keys, times, cursor.iterate(column, events, width), marks, cursor, output)
        except USER_ERRORS as error:
            cursor.record_failure(error)
        if clock.events:
            self._mark = clock.events[-1]
        if end is not None and not cursor.failures:
            self._close(None, end - column.start, output)
        return output.column(cursor.before_failure(column))

    def _run(
        self, keys: list[Any], times: list[Any], rest: Iterator[Any], marks: _Marks, cursor: EventCursor, output: Output
    ) -> None:
        """Add events up to the next number that closes a session, close it, and so on."""
        at = following = 0
        while True:
            found = len(marks.values)
            if self._ends:
                found = bisect_left(marks.values, self._ends[0][0] + self._lateness, following)
            upto = len(keys) if found == len(marks.values) else marks.upto(found)
            at, sooner = self._add(keys, times, at, upto, rest, marks, cursor)
            if sooner:  # no watermark before the number of its first event can close it
                following = max(following, marks.at_or_after(cursor.name()[0]))
            elif found == len(marks.values):
                return
            else:
                self._close(marks.values[found], marks.rows[found], output)
                following = found + 1

    def _add(
        self, keys: list[Any], times: list[Any], at: int, upto: int, rest: Iterator[Any], marks: _Marks, cursor: EventCursor
    ) -> tuple[int, bool]:
        """Add the events `at .. upto - 1`, or fewer: stop after one that opens the session that ends first.

        Return the position after the last event added, and whether it stopped early.
        """
        open_, gap, counting = self._open, self._gap, self._counting
        begin, step = self._aggregate.begin, self._aggregate.step()
        for key, time, event in zip(keys[at:upto], times[at:upto], rest, strict=False):
            at += 1
            sessions = open_.get(key)
            if sessions is not None:
                session = sessions[-1]
                if session.start - gap < time < session.last + gap and (time >= session.start or len(sessions) == 1):
                    if counting:
                        session.value += 1
                    else:
                        session.value = step(session.value, event)
                    if time > session.last:
                        session.last = time
                    elif time < session.start:
                        session.start = time
                    continue
                upper = lower = bisect_left(sessions, time + gap, key=_START)
                while lower and sessions[lower - 1].last + gap > time:
                    lower -= 1
                if lower < upper:
                    self._join(sessions, lower, upper, time, event)
                    continue
            seq, index = cursor.name()
            mark = marks.before(seq)
            if mark is not None and time + gap + self._lateness <= mark:
                cursor.late += 1
                continue
            session = _OpenSession(key, time, time, begin(event), seq, index)
            if sessions is None:
                open_[key] = [session]
            else:
                sessions.insert(upper, session)
            self._count += 1
            entry = (time + gap, seq, index, session)
            heapq.heappush(self._ends, entry)
            if self._ends[0] is entry:
                return at, True
        return at, False

    def _join(self, sessions: list[_OpenSession], lower: int, upper: int, time: Any, event: Any) -> None:
        """Add an event to the session it is near, or merge the sessions `lower .. upper - 1` between which it falls."""
        session = sessions[lower]
        session.value = self._aggregate.step()(session.value, event)
        session.start, session.last = min(session.start, time), max(session.last, time)
        for later in sessions[lower + 1 : upper]:
            session.value = self._aggregate.join()(session.value, later.value)
            session.last = max(session.last, later.last)
            session.seq, session.index = min((session.seq, session.index), (later.seq, later.index))
            later.joined = True
            self._count -= 1
        del sessions[lower + 1 : upper]

    def _close(self, mark: Any, row: int, output: Output) -> None:
        """Close the sessions that a watermark has passed, or all; merging the partitions puts them in order."""
        records: list[tuple[Any, ...]] = []
        closed: Counter[Any] = Counter()
        ends, gap, lateness, bound = self._ends, self._gap, self._lateness, self._scale.bound
        while ends and (mark is None or ends[0][0] + lateness <= mark):
            _, seq, index, session = heapq.heappop(ends)
            end = session.last + gap
            if session.joined:
                continue
            if mark is not None and end + lateness > mark:
                heapq.heappush(ends, (end, seq, index, session))
                continue
            closed[session.key] += 1
            start = session.start
            times = bound(start, start), bound(end, start, end=True)
            records.append((session.key, *times, session.value, session.seq, session.index))
        for key, count in closed.items():
            sessions = self._open[key]
            if count == len(sessions):
                del self._open[key]
            else:
                del sessions[:count]  # those of a key end in their order
            self._count -= count
        output.add(row, records)


class _Marks:
    """The watermarks of one run of numbers, and their positions among the events of a partition."""

    def __init__(self, column: Column, clock: Column, width: int, mark: Any) -> None:
        self.values = clock.events
        self.rows = list(rows_of(clock))
        self._start = column.start
        self._ends = column.offsets()
        self._width = width
        self._mark = mark

    def upto(self, at: int) -> int:
        """Return the number of events up to the number of a watermark, that number included."""
        return self._ends[self.rows[at] + 1] // self._width

    def at_or_after(self, seq: int) -> int:
        """Return the index of the first watermark at number `seq` or later."""
        return bisect_left(self.rows, seq - self._start)

    def before(self, seq: int) -> Any:
        """Return the watermark before a number, `None` if there is none."""
        at = bisect_left(self.rows, seq - self._start)
        return self.values[at - 1] if at else self._mark

