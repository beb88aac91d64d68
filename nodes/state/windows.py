"""Windows of event time: their kinds, where they begin and end, and when the watermark closes one.

A window holds `start <= time < end`. Windows of one size are counted from 0, or from 1970-01-01 where times are
datetimes (in UTC where they have a zone). Nothing here holds an event.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from ..errors import GraphError
from ..public import public
from .times import Span, TimeScale, check_span

K = TypeVar("K")
V = TypeVar("V")

#: The most windows that an event may be in: it is put into each of them.
MAX_OVERLAP = 100_000


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

    Raises `GraphError` for lengths that are not above 0, or of two kinds, for a `slide` longer than `size`, and for one
    so short that an event would be in more than 100,000 windows.
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
    scale = TimeScale.of_grid(size, slide, slide)
    if scale.length(size) > MAX_OVERLAP * scale.length(slide):
        raise GraphError(
            f"sliding(size, slide): every event would be in more than {MAX_OVERLAP:,} windows, one of which begins every"
            " slide; make slide longer"
        )
    return Sliding(size, slide)


def session(gap: Span) -> Session:
    """Return windows of one key that end when the key has no event for `gap` of event time.

    Two events are in one session if they are less than `gap` apart; it ends `gap` after its last. Raises `GraphError`
    unless `gap` is above 0.
    """
    return Session(check_span("session(gap)", gap))


def length_of(window: AnyWindow) -> Span:
    """Return a length of a window; its type shows whether times are datetimes."""
    return window.gap if isinstance(window, Session) else window.size


def scale_of(window: AnyWindow, lateness: Any) -> TimeScale:
    """Return how the times of a window become ticks."""
    if isinstance(window, Session):
        return TimeScale.of_distance(window.gap, lateness, bounds=True)
    return TimeScale.of_grid(window.size, slide_of(window), lateness)


def slide_of(window: Tumbling | Sliding) -> Span:
    """Return the distance from the beginning of a window to that of the next."""
    return window.slide if isinstance(window, Sliding) else window.size


@dataclass(frozen=True, slots=True)
class Grid:
    """Windows of one size, numbered, in ticks: window j begins at `j * slide`."""

    size: int
    slide: int
    lateness: int

    @staticmethod
    def of(window: Tumbling | Sliding, lateness: Any) -> Grid:
        """Return the grid of tumbling or sliding windows that stay open for `lateness` longer."""
        length = scale_of(window, lateness).length
        return Grid(length(window.size), length(slide_of(window)), length(lateness))

    @property
    def single(self) -> bool:
        """Whether every time is in one window only."""
        return self.size == self.slide

    def start(self, j: int) -> int:
        """Return where window j begins."""
        return j * self.slide

    def end(self, j: int) -> int:
        """Return where window j ends."""
        return j * self.slide + self.size

    def passed(self, mark: int) -> int:
        """Return the highest window that a watermark closes."""
        return (mark - self.lateness - self.size) // self.slide

    def edge(self, mark: int) -> int:
        """Return the lowest watermark above `mark` that closes a window."""
        return self.end(self.passed(mark) + 1) + self.lateness

    def first(self, time: int) -> int:
        """Return the first window that a time is in."""
        return (time - self.size) // self.slide + 1
