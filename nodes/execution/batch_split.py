"""Splits a running batch: another thread removes from a list the events whose handling has not started.

Decides which events these are. The answer is exact and independent of timing: a list iterator ends where its list
ends, so what was removed from the end is never handled; and where the iterator had passed the split before it was
made, the number of results says so when the batch is finished.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from operator import length_hint
from typing import Any


def count_started(events: list[Any], rest: Iterator[Any]) -> int:
    """Return how many of `events` their iterator `rest` has yielded; atomic, so a split meanwhile changes nothing."""
    state: Any = rest.__reduce__()
    return int(state[2]) if len(state) > 2 else len(events)  # an exhausted iterator has dropped its list


class BatchSplitter:
    """Splits one list at a time, between `watch` and `finish` of the thread that handles its events."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[Any] | None = None
        self._rest: Iterator[Any] = iter(())
        self._removed: list[Any] = []

    def after_fork(self) -> None:
        """Replace the lock in a forked child, where the other thread does not exist."""
        self._lock = threading.Lock()

    def watch(self, events: list[Any], rest: Iterator[Any]) -> None:
        """Allow splitting `events`, which are handled through the iterator `rest`."""
        with self._lock:
            self._events, self._rest, self._removed = events, rest, []

    def split(self) -> None:
        """Remove all events that have not started, except the next one; from another thread, without effect if idle."""
        with self._lock:
            if self._events is None or self._removed:
                return
            # One more than has started: while the iterator has that one before it, it cannot have passed the split.
            at = count_started(self._events, self._rest) + 1
            self._removed = self._events[at:]
            del self._events[at:]

    def take_rest(self) -> list[Any]:
        """Return the removed events, once, if it is certain by now that none has started; from another thread."""
        with self._lock:
            if self._events is None or not length_hint(self._rest):
                return []
            removed, self._removed = self._removed, []
            return removed

    def restore(self, count: int) -> None:
        """Put back removed events that are among the first `count`, because those have started."""
        with self._lock:
            if self._events is not None and count > len(self._events):
                back = count - len(self._events)
                self._events += self._removed[:back]
                del self._removed[:back]

    def finish(self, count: int) -> list[Any]:
        """Stop watching the list, of which `count` events were handled; return what was removed and not taken."""
        self.restore(count)
        with self._lock:
            removed = self._removed
            self._events, self._rest, self._removed = None, iter(()), []
            return removed
