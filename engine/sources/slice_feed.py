"""A feed over a list, tuple or range, and what any feed returns.

Decides nothing about threads: such a source cannot block, so it is read in the thread that asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from msgspec import Struct

from ...nodes.ordering.source_positions import ReadMark


class FeedBatch(Struct):
    """What a feed returned: events, their keys if it has a key function, and whether that was the end."""

    events: Sequence[Any]
    keys: list[Any] | None
    ended: bool
    error: BaseException | None = None
    marks: Sequence[ReadMark] = ()  #: of the reads that these events come from, if the source's positions are recorded

    def marks_of(self, count: int) -> Sequence[ReadMark]:
        """Return the marks of the first `count` events: known only if these are all of them."""
        return self.marks if count == len(self.events) else ()


class SliceFeed:
    """A feed over a list, tuple or range: it cannot block, so there is no thread and nothing is read ahead."""

    bulk = False

    def __init__(self, subject: Sequence[Any]) -> None:
        self._subject = subject
        self.count = 0
        self.read_s = 0.0
        self.size_hint: int | None = len(subject)

    @property
    def fraction(self) -> float | None:
        """How much of the source was read, 0..1."""
        return self.count / len(self._subject) if self._subject else 1.0

    def read(self, most: int, event_bytes: float) -> FeedBatch | None:
        """Return up to `most` events; never empty before the end."""
        started = monotonic()
        # A slice of a range is a range: it becomes a list only where it is worked on.
        events = self._subject[self.count : self.count + most]
        if type(events) is tuple:
            events = list(events)
        self.count += len(events)
        self.read_s += monotonic() - started
        return FeedBatch(events, None, self.count >= len(self._subject))

    def put_back(self, events: list[Any]) -> None:
        """Undo the reading of the last events, which are unchanged."""
        self.count -= len(events)

    @property
    def position(self) -> int:
        """The number of events read."""
        return self.count

    def start(self, wake: Callable[[], None]) -> None:
        """Do nothing: there is no thread to start."""

    def attach(self, wake: Callable[[], None]) -> None:
        """Do nothing: no thread ever waits."""

    def stop(self) -> FeedBatch:
        """End the reading; nothing was read ahead."""
        return FeedBatch([], None, True)

    def close(self) -> None:
        """Do nothing: there is no thread to end."""
