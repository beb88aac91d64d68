"""Readers over plain Python: iterables and generator functions.

Decides how such a subject is read event by event and how it is ended. A plain iterator cannot say whether its next
event is at hand, so these readers return one event per read (`one_by_one`) and offer their raw `iterator` to a loop
that wants it without a call in between. This file knows nothing of numbers, batches or threads of the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import GeneratorType
from typing import Any

#: What `_next` returns at the end.
END = object()


class OneByOne:
    """What these readers share: one event per read, waited for, and counted."""

    one_by_one = True
    #: Whether `close` ends a `read` that waits in another thread.
    interruptible = False
    _given = 0

    def _next(self) -> Any:
        """Return the next event, or `END`."""
        raise NotImplementedError

    def read(self, limit: int, max_bytes: int, /) -> Sequence[Any] | None:
        """Return the next event, waiting for it, or `None` at the end."""
        event = self._next()
        if event is END:
            return None
        self._given += 1
        return [event]

    def position(self) -> int:
        """Return the number of events that `read` gave."""
        return self._given


class IterableReader(OneByOne):
    """Reads an iterable; `close` closes only an iterator that this reader made itself.

    An iterator or generator object that the user hands in stays the user's own.
    """

    def __init__(self, iterable: Iterable[Any]) -> None:
        self.iterator: Iterator[Any] = iter(iterable)
        self._own = self.iterator is not iterable
        self._closed = False

    def _next(self) -> Any:
        return END if self._closed else next(self.iterator, END)

    def close(self) -> None:
        """End the reading, and the generator behind it unless it is running in another thread just now."""
        self._closed = True
        iterator = self.iterator
        if self._own and isinstance(iterator, GeneratorType) and not iterator.gi_running:
            iterator.close()


class GeneratorReader(IterableReader):
    """Calls a function without arguments and reads the iterator that it returns; `close` ends a generator."""

    def __init__(self, function: Callable[[], Iterable[Any]]) -> None:
        super().__init__(function())
        self._own = True
