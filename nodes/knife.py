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
            at = len(self._events) - length_hint(self._rest) + 1
            self._taken = self._events[at:]
            del self._events[at:]

    def claim(self) -> list[Any]:
        """Give what was taken away, once, if it is certain by now that none of it is begun; from another thread."""
        with self._lock:
            if self._events is None or not length_hint(self._rest):
                return []
            taken, self._taken = self._taken, []
            return taken

    def settle(self, begun: int) -> list[Any]:
        """Take the list away again; give what was cut off it, is not begun and not claimed.

        `begun` is how many events were handled; those of them that were cut off are put back.
        """
        with self._lock:
            events, taken = self._events, self._taken
            self._events, self._taken = None, []
            if events is not None and begun > len(events):
                back = begun - len(events)
                events += taken[:back]
                del taken[:back]
            return taken
