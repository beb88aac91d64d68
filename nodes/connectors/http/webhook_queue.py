"""The queue of a webhook: events that wait to be read, and requests that wait until their events are safe.

Decides when there is no room, which requests are answered when a number of events is safe, and which can still be
withdrawn. Two threads use it: the server's offers, the reading one reads. It does not know how a request is answered.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any


class PendingRequest:
    """The events of one request; `answer` is called with whether they are safe, in the thread that knows it first."""

    __slots__ = ("answer", "end", "events", "events_read", "size")

    def __init__(self, events: Sequence[Any], size: int, answer: Callable[[bool], None]) -> None:
        self.events = events
        self.size = size
        self.answer = answer
        self.events_read = 0
        self.end = 0  # the number of events read when its last one was


class WebhookQueue:
    """Holds up to `max_events` events and `max_bytes` bytes of requests; `events_read` counts what was read from it."""

    def __init__(self, max_events: int, max_bytes: int, events_read: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._unread: deque[PendingRequest] = deque()
        self._unsafe: deque[PendingRequest] = deque()
        self._events = 0
        self._bytes = 0  # of the unread, and of bodies that are being received
        self._events_read = events_read
        self._closed = False

    @property
    def events_read(self) -> int:
        """How many events were read."""
        return self._events_read

    def reserve(self, size: int) -> bool:
        """Make room for a body of `size` bytes, to be events_read back by `free`; false when there is none."""
        with self._changed:
            room = not self._closed and self._events < self._max_events and self._bytes + size <= self._max_bytes
            if room:
                self._bytes += size
            return room

    def free(self, size: int) -> None:
        """Free the room that was reserved."""
        with self._changed:
            self._bytes -= size

    def offer(self, entry: PendingRequest) -> bool:
        """Append the events of a request; false when closed."""
        with self._changed:
            if self._closed:
                return False
            self._unread.append(entry)
            self._events += len(entry.events)
            self._bytes += entry.size
            self._changed.notify()
            return True

    def withdraw(self, entry: PendingRequest) -> bool:
        """Remove the events of a request; false if one of them was already read."""
        with self._changed:
            if entry.events_read or entry not in self._unread:
                return False
            self._unread.remove(entry)
            self._events -= len(entry.events)
            self._bytes -= entry.size
            return True

    def read(self, limit: int, max_bytes: int, wait_s: float) -> list[Any] | None:
        """Return events, up to the limits but at least one, waiting for the first; `None` when closed."""
        events: list[Any] = []
        with self._changed:
            if not self._unread and not self._closed:
                self._changed.wait(wait_s)
            if self._closed:
                return None
            size = 0
            while self._unread and len(events) < max(limit, 1) and (size < max_bytes or not events):
                entry = self._unread[0]
                taken = entry.events[entry.events_read : entry.events_read + max(limit, 1) - len(events)]
                events += taken
                entry.events_read += len(taken)
                self._events_read += len(taken)
                self._events -= len(taken)
                if entry.events_read == len(entry.events):
                    self._unread.popleft()
                    self._bytes -= entry.size
                    size += entry.size
                    entry.end, entry.events = self._events_read, ()
                    self._unsafe.append(entry)
        return events

    def mark_safe(self, count: int) -> None:
        """Answer every request whose events are among the first `count`."""
        released = []
        with self._changed:
            while self._unsafe and self._unsafe[0].end <= count:
                released.append(self._unsafe.popleft())
        for entry in released:
            entry.answer(True)

    def close(self) -> None:
        """Answer all remaining requests: their events are not known to be safe."""
        with self._changed:
            self._closed = True
            left = [*self._unsafe, *self._unread]
            self._unsafe.clear()
            self._unread.clear()
            self._changed.notify_all()
        for entry in left:
            entry.answer(False)
