"""What a webhook has taken: events that wait to be read, and requests that wait until theirs are safe.

Decides when there is no room, which request is answered when a number of events is safe, and which can still be given
back. Two threads use it: the server's offers, the reading one takes; what is told across is the callers' affair.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any


class Entry:
    """The events of one request; `answer` is called with whether they are safe, in the thread that found out."""

    __slots__ = ("answer", "end", "events", "given", "size")

    def __init__(self, events: Sequence[Any], size: int, answer: Callable[[bool], None]) -> None:
        self.events = events
        self.size = size
        self.answer = answer
        self.given = 0
        self.end = 0  # how many events were given when its last one was


class WebhookQueue:
    """Keeps up to `most_events` events and `most_bytes` bytes of requests; `given` counts what was taken from it."""

    def __init__(self, most_events: int, most_bytes: int, given: int) -> None:
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._changed = threading.Condition()
        self._unread: deque[Entry] = deque()
        self._unsafe: deque[Entry] = deque()
        self._events = 0
        self._bytes = 0  # of the unread, and of bodies on their way
        self._given = given
        self._closed = False

    @property
    def given(self) -> int:
        """How many events were taken."""
        return self._given

    def reserve(self, size: int) -> bool:
        """Make room for a body of `size` bytes, to be given back by `give_back`; false when there is none."""
        with self._changed:
            room = not self._closed and self._events < self._most_events and self._bytes + size <= self._most_bytes
            if room:
                self._bytes += size
            return room

    def give_back(self, size: int) -> None:
        """Free what was reserved."""
        with self._changed:
            self._bytes -= size

    def offer(self, entry: Entry) -> bool:
        """Add the events of a request behind all others; false when closed."""
        with self._changed:
            if self._closed:
                return False
            self._unread.append(entry)
            self._events += len(entry.events)
            self._bytes += entry.size
            self._changed.notify()
            return True

    def withdraw(self, entry: Entry) -> bool:
        """Take the events of a request out again; false when one of them was read."""
        with self._changed:
            if entry.given or entry not in self._unread:
                return False
            self._unread.remove(entry)
            self._events -= len(entry.events)
            self._bytes -= entry.size
            return True

    def take(self, limit: int, max_bytes: int, wait_s: float) -> list[Any] | None:
        """Take events, up to the limits but one at least, waiting for the first; `None` when closed."""
        events: list[Any] = []
        with self._changed:
            if not self._unread and not self._closed:
                self._changed.wait(wait_s)
            if self._closed:
                return None
            size = 0
            while self._unread and len(events) < max(limit, 1) and (size < max_bytes or not events):
                entry = self._unread[0]
                taken = entry.events[entry.given : entry.given + max(limit, 1) - len(events)]
                events += taken
                entry.given += len(taken)
                self._given += len(taken)
                self._events -= len(taken)
                if entry.given == len(entry.events):
                    self._unread.popleft()
                    self._bytes -= entry.size
                    size += entry.size
                    entry.end, entry.events = self._given, ()
                    self._unsafe.append(entry)
        return events

    def safe(self, count: int) -> None:
        """Answer every request whose events are among the first `count`."""
        released = []
        with self._changed:
            while self._unsafe and self._unsafe[0].end <= count:
                released.append(self._unsafe.popleft())
        for entry in released:
            entry.answer(True)

    def close(self) -> None:
        """Answer all requests that are left: their events are not known to be safe."""
        with self._changed:
            self._closed = True
            left = [*self._unsafe, *self._unread]
            self._unsafe.clear()
            self._unread.clear()
            self._changed.notify_all()
        for entry in left:
            entry.answer(False)
