"""Windows of event time: their kinds, where they begin and end, and when the watermark closes one.

A window holds `start <= time < end`. Windows of one size are counted from 0, or from 1970-01-01 where times are
datetimes (in UTC where they have a zone). Nothing here holds an event.
"""

from __future__ import annotations

import math
import numbers
import reprlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from ..errors import GraphError
from ..public import public

K = TypeVar("K")
V = TypeVar("V")

#: A length of event time: seconds, milliseconds, whatever the times count, or a timedelta where they are datetimes.
Span: TypeAlias = int | float | timedelta

MIXED = "event times with and without a zone, or numbers and datetimes, cannot be compared; let time= give one kind"


@public
class Window(NamedTuple, Generic[K, V]):
    """The result of one key's window: it holds the events with `start <= time < end`."""

    key: K
    start: Any
    end: Any
    value: V


@dataclass(frozen=True, slots=True)
class Tumbling:
    """Windows of one size that follow each other without a gap."""

    size: Span


@dataclass(frozen=True, slots=True)
class Sliding:
    """Windows of one size; one begins every `slide`."""

    size: Span
    slide: Span


@dataclass(frozen=True, slots=True)
class Session:
    """Windows of one key that end when the key has no event for `gap`."""

    gap: Span


AnyWindow: TypeAlias = Tumbling | Sliding | Session


def tumbling(size: Span) -> Tumbling:
    """Return windows of `size` that follow each other without a gap.

    `size` is in the unit of the times, a `timedelta` where they are datetimes. Raises `GraphError` unless above 0.
    """
    return Tumbling(check_span("tumbling(size)", size))


def sliding(size: Span, slide: Span) -> Sliding:
    """Return windows of `size`, one of which begins every `slide`, so that an event is in `size / slide` of them.

    Raises `GraphError` for lengths that are not above 0, or of two kinds, and for a `slide` longer than `size`.
    """
    check_span("sliding(size, slide)", size)
    check_span("sliding(size, slide)", slide)
    if isinstance(size, timedelta) != isinstance(slide, timedelta):
        raise GraphError("sliding(size, slide): one is a timedelta and one a number; give both in one unit")
    if slide > size:  # type: ignore[operator]
        raise GraphError(
            f"sliding(size, slide): slide={slide} is longer than size={size}, so events between two windows would be"
            " in none; make it at most the size"
        )
    return Sliding(size, slide)


def session(gap: Span) -> Session:
    """Return windows of one key that end when the key has no event for `gap` of event time.

    Two events are in one session if they are less than `gap` apart; it ends `gap` after its last. Raises `GraphError`
    unless `gap` is above 0.
    """
    return Session(check_span("session(gap)", gap))


def check_span(where: str, span: Any, *, zero: bool = False) -> Any:
    """Return `span` if it is a finite number or timedelta above 0 (with `zero`, or 0). Raises `GraphError` otherwise."""
    wrong = isinstance(span, bool) or not isinstance(span, numbers.Real | timedelta)
    if wrong or (not isinstance(span, timedelta) and not math.isfinite(span)):
        raise GraphError(f"{where}: {reprlib.repr(span)} is no length of time; give a number or a timedelta")
    least: Any = timedelta(0) if isinstance(span, timedelta) else 0
    if span < least or (span == least and not zero):
        raise GraphError(f"{where}: {reprlib.repr(span)} is too short; make it {'0 or more' if zero else 'more than 0'}")
    return span


def length_of(window: AnyWindow) -> Span:
    """Return a length of a window; its type shows whether times are datetimes."""
    return window.gap if isinstance(window, Session) else window.size


@dataclass(frozen=True, slots=True)
class TimeCheck:
    """Finds the first value that is no event time; with `clock` times are datetimes, else numbers."""

    clock: bool

    def __call__(self, times: list[Any]) -> tuple[int, Exception] | None:
        """Return the position of the first invalid time and the error for it; `None` where all are valid."""
        types = set(map(type, times))
        if not self.clock and (types <= {int} or (types <= {int, float} and all(map(math.isfinite, times)))):
            return None
        if self.clock and types == {datetime}:
            return None
        for at, given in enumerate(times):
            if not self._is_time(given):
                return at, TypeError(self._explain(given))
        return None

    def _is_time(self, given: Any) -> bool:
        if self.clock:
            return isinstance(given, datetime)
        return type(given) is not bool and isinstance(given, numbers.Real) and math.isfinite(given)

    def _explain(self, given: Any) -> str:
        what = f"a {type(given).__name__}" if not isinstance(given, float) else "a float that is not finite"
        if isinstance(given, datetime):
            return "time= gave a datetime, but lengths of time are numbers; give them as timedelta"
        if self.clock:
            return f"time= gave {what}, but lengths of time are timedelta; let it give a datetime"
        return f"time= gave {what}; let it give a finite number, or a datetime with lengths as timedelta"


def origin_of(time: Any) -> Any:
    """Return the time from which windows are counted."""
    if not isinstance(time, datetime):
        return 0
    return datetime(1970, 1, 1) if time.utcoffset() is None else datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Grid:
    """Windows of one size, numbered: window j begins at `origin + j * slide`."""

    size: Any
    slide: Any
    lateness: Any

    @staticmethod
    def of(window: Tumbling | Sliding, lateness: Any) -> Grid:
        """Return the grid of tumbling or sliding windows that stay open for `lateness` longer."""
        return Grid(window.size, window.slide if isinstance(window, Sliding) else window.size, lateness)

    @property
    def single(self) -> bool:
        """Whether every time is in one window only."""
        return bool(self.size == self.slide)

    def start(self, origin: Any, j: int) -> Any:
        """Return where window j begins."""
        return origin + j * self.slide

    def end(self, origin: Any, j: int) -> Any:
        """Return where window j ends."""
        return origin + (j + 1) * self.slide if self.single else origin + j * self.slide + self.size

    def passed(self, origin: Any, mark: Any) -> int:
        """Return the highest window that a watermark closes."""
        j = int((mark - self.lateness - self.size - origin) // self.slide) - 1
        while self.end(origin, j + 1) + self.lateness <= mark:
            j += 1
        return j

    def edge(self, origin: Any, mark: Any) -> Any:
        """Return the lowest watermark above `mark` that closes a window."""
        return self.end(origin, self.passed(origin, mark) + 1) + self.lateness

    def numbers(self, origin: Any, times: list[Any]) -> list[int]:
        """Return the last window that each time is in."""
        slide = self.slide
        if isinstance(origin, datetime):
            return [(time - origin) // slide for time in times]
        if isinstance(slide, int) and set(map(type, times)) <= {int}:
            return [time // slide for time in times]
        return [int(time // slide) for time in times]

    def first(self, origin: Any, time: Any) -> int:
        """Return the first window that a time is in."""
        return int((time - self.size - origin) // self.slide) + 1
