"""Cutting a run short: another thread takes away those events of a list that are not begun.

Decides which these are, exactly and with no word on time: a list iterator ends where its list ends, so what was taken
off the end is never handled; and where the iterator had passed the cut before it was made, the number of results says
so when the run is over.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from operator import length_hint
from typing import Any


def begun(events: list[Any], rest: Iterator[Any]) -> int:
    """Give how many events of a list its iterator has given, in one step, so that a cut meanwhile changes nothing."""
    state: Any = rest.__reduce__()
    return int(state[2]) if len(state) > 2 else len(events)  # one that has ended has let go of its list


class Knife:
    """Cuts one list at a time, between `lay` and `settle` of the thread that handles its events."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[Any] | None = None
        self._rest: Iterator[Any] = iter(())
        self._taken: list[Any] = []

    def renew(self) -> None:
        """Begin anew in a fork, where the other thread is not."""
        self._lock = threading.Lock()

    def lay(self, events: list[Any], rest: Iterator[Any]) -> None:
        """Offer a list to be cut, of which `rest` is the iterator that it is handled by."""
        with self._lock:
            self._events, self._rest, self._taken = events, rest, []

    def cut(self) -> None:
        """Take away what is not begun, but for one event, if there is a list; from another thread."""
        with self._lock:
            if self._events is None or self._taken:
                return
            # One more than is begun: while the iterator has that one before it, it has certainly not passed the cut.
            at = begun(self._events, self._rest) + 1
            self._taken = self._events[at:]
            del self._events[at:]

    def claim(self) -> list[Any]:
        """Give what was taken away, once, if it is certain by now that none of it is begun; from another thread."""
        with self._lock:
            if self._events is None or not length_hint(self._rest):
                return []
            taken, self._taken = self._taken, []
            return taken

    def keep(self, count: int) -> None:
        """Put back those of the first `count` events that were cut off, for they are begun."""
        with self._lock:
            if self._events is not None and count > len(self._events):
                back = count - len(self._events)
                self._events += self._taken[:back]
                del self._taken[:back]

    def settle(self, count: int) -> list[Any]:
        """Take the list away again, of which `count` events were handled; give what was cut off it and not claimed."""
        self.keep(count)
        with self._lock:
            taken = self._taken
            self._events, self._taken = None, []
            return taken
