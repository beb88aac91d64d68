"""A feed that can be taken back: some events in front of those of another feed, and a record of all that was read of it.

Decides that as long as it may be taken back, the feed behind it is never ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from .feed import Feed
from .slice_feed import FeedBatch, SliceFeed

_ALL = 1 << 30  # events


class HeldFeed:
    """Gives `first`, then what `feed` gives; until `release` all of the latter can be had back by `take_back`."""

    def __init__(self, first: list[Any], feed: Feed | SliceFeed) -> None:
        self._first = first
        self._feed = feed
        self._given: list[Any] = []
        self._held = True
        self._taken_back = False
        self._lock = threading.Lock()  #: whoever takes back is another thread than the reader

    def release(self) -> None:
        """Record nothing any more: what was read will not be put back."""
        with self._lock:
            self._held = False
            self._given = []

    def take_back(self) -> list[Any]:
        """Return, once, all that was read of the feed behind; from then on this one gives nothing."""
        with self._lock:
            self._taken_back = True
            given, self._given = self._given, []
            return given

    def read(self, most: int, event_bytes: float) -> FeedBatch | None:
        """Return up to `most` events, or `None` if there are none yet."""
        with self._lock:
            if self._taken_back:
                return None
            if self._first:
                events, self._first = self._first[:most], self._first[most:]
                return FeedBatch(events, None, False)
            return self._record(self._feed.read(most, event_bytes))

    def stop(self) -> FeedBatch:
        """End the reading and return what was read ahead; the feed behind goes on as long as it may be taken back."""
        with self._lock:
            if self._taken_back:
                return FeedBatch([], None, True)
            if not self._held:
                return self._feed.stop()
            ahead = self._record(self._feed.read(_ALL, 0.0)) if isinstance(self._feed, Feed) else None
            events = [*self._first, *(ahead.events if ahead is not None else ())]
            self._first = []
            return FeedBatch(events, None, True, ahead.error if ahead is not None else None)

    def _record(self, taken: FeedBatch | None) -> FeedBatch | None:
        if self._held and taken is not None:
            self._given.extend(taken.events)
        return taken

    def close(self) -> None:
        """End the feed behind, unless it may be taken back or was."""
        with self._lock:
            if not self._held and not self._taken_back:
                self._feed.close()

    def attach(self, wake: Callable[[], None]) -> None:
        """Set what is called when there is something to read."""
        self._feed.attach(wake)

    @property
    def bulk(self) -> bool:
        """Whether the reader cannot wake anybody just now."""
        return self._feed.bulk

    @property
    def fraction(self) -> float | None:
        """How much of the source was read, 0..1, if that is known."""
        return self._feed.fraction

    @property
    def position(self) -> object:
        """The position up to which the source is read."""
        return self._feed.position

    @property
    def count(self) -> int:
        """How many events of the source were read."""
        return self._feed.count

    @property
    def read_s(self) -> float:
        """Seconds in which the source was not held back."""
        return self._feed.read_s
