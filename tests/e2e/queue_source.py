"""A source that writes down what it is told; by itself, because its process imports the module that it comes from."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Queue:
    """A source of numbers that writes down what it is told, beside the highest number that its sink had committed."""

    acknowledges = True

    def __init__(self, events: int, log: Path, each: int = 10) -> None:
        self.events, self.log, self.each = events, log, each

    def reader(self, position: object | None) -> QueueReader:
        return QueueReader(self)


class QueueReader:
    """Reads the numbers of a `Queue`."""

    def __init__(self, queue: Queue) -> None:
        self._queue, self._next = queue, 0

    def read(self, limit: int) -> Sequence[int] | None:
        if self._next >= self._queue.events:
            return None
        first, self._next = self._next, min(self._queue.events, self._next + min(limit, self._queue.each))
        return range(first, self._next)

    def position(self) -> int:
        return self._next

    def acknowledge(self, position: int) -> None:
        self._say(f"ack {position}")

    def close(self) -> None:
        self._say("close")

    def _say(self, what: str) -> None:
        with open(self._queue.log, "a") as file:
            file.write(what + "\n")


class Unsendable(Queue):
    """Gives one event in the middle of a read that cannot be packed."""

    def reader(self, position: object | None) -> QueueReader:
        return UnsendableReader(self)


class UnsendableReader(QueueReader):
    def read(self, limit: int) -> Sequence[Any] | None:  # type: ignore[override]
        events = super().read(limit)
        return None if events is None else [threading.Lock() if n == 55 else n for n in events]


def dawdle(number: int) -> int:
    """Return a number after a little while."""
    threading.Event().wait(0.0001)
    return number
