"""A feed over a list, tuple or range, and what any feed returns.

Decides nothing about threads: such a source cannot block, so it is read in the thread that asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from ...nodes.ordering.source_positions import ReadMark


@dataclass(slots=True)
class Taken:
    """What a feed gave: events, their keys where a key was asked for, and whether that was the end."""

    events: Sequence[Any]
    keys: list[Any] | None
    ended: bool
    error: BaseException | None = None
    marks: Sequence[ReadMark] = ()  #: of the reads that gave these events, where the source's places count

    def marks_of(self, count: int) -> Sequence[ReadMark]:
        """Give the marks of so many of the events: known only where that is all of them."""
        return self.marks if count == len(self.events) else ()


class SliceFeed:
    """A feed over a list, tuple or range: nothing can block, so there is no thread and nothing is read ahead."""

    bulk = False

    def __init__(self, subject: Sequence[Any]) -> None:
        self._subject = subject
        self.count = 0
        self.read_s = 0.0
        self.size_hint: int | None = len(subject)

    @property
    def fraction(self) -> float | None:
        """How much of the source was taken, 0..1."""
        return self.count / len(self._subject) if self._subject else 1.0

    def take(self, most: int, event_bytes: float) -> Taken | None:
        """Give up to `most` events; there are always some until the end."""
        started = monotonic()
        # A slice of a range stays one: its events are written down only where they are worked on.
        events = self._subject[self.count : self.count + most]
        if type(events) is tuple:
            events = list(events)
        self.count += len(events)
        self.read_s += monotonic() - started
        return Taken(events, None, self.count >= len(self._subject))

    def put_back(self, events: list[Any]) -> None:
        """Take back the last events that were given; nobody has touched them."""
        self.count -= len(events)

    @property
    def position(self) -> int:
        """How many events were taken."""
        return self.count

    def start(self, wake: Callable[[], None]) -> None:
        """Do nothing: there is no thread to start."""

    def attach(self, wake: Callable[[], None]) -> None:
        """Do nothing: nobody ever waits."""

    def stop(self) -> Taken:
        """End the reading; nothing was read ahead."""
        return Taken([], None, True)

    def close(self) -> None:
        """Do nothing: there is nobody to let go."""
