"""Readers over plain Python: iterables, generator functions and async generator functions.

Decides how such a subject is read event by event and how it is ended. A plain iterator cannot say whether its next
event is at hand, so these readers give one event per read (`one_by_one`) and show their raw `iterator` to a loop
that wants it without a call in between. This file knows nothing of numbers, batches or threads of the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from types import AsyncGeneratorType, GeneratorType
from typing import Any

_END = object()


class _OneByOne:
    """What these readers share: one event per read, waited for, and counted."""

    one_by_one = True
    _given = 0

    def _next(self) -> Any:
        """Give the next event, or `_END`."""
        raise NotImplementedError

    def read(self, limit: int, max_bytes: int, /) -> Sequence[Any] | None:
        """Give the next event, waiting for it, or `None` at the end."""
        event = self._next()
        if event is _END:
            return None
        self._given += 1
        return [event]

    def position(self) -> int:
        """Give the number of events that `read` gave."""
        return self._given


class IterableReader(_OneByOne):
    """Reads an iterable; `close` closes only an iterator that this reader made itself.

    An iterator or generator object that the user hands in stays the user's own.
    """

    def __init__(self, iterable: Iterable[Any]) -> None:
        self.iterator: Iterator[Any] = iter(iterable)
        self._own = self.iterator is not iterable
        self._closed = False

    def _next(self) -> Any:
        return _END if self._closed else next(self.iterator, _END)

    def close(self) -> None:
        """End the reading, and the generator behind it unless it is running in another thread just now."""
        self._closed = True
        iterator = self.iterator
        if self._own and isinstance(iterator, GeneratorType) and not iterator.gi_running:
            iterator.close()


class GeneratorReader(IterableReader):
    """Calls a function without arguments and reads the iterator that it gives; `close` ends a generator."""

    def __init__(self, function: Callable[[], Iterable[Any]]) -> None:
        super().__init__(function())
        self._own = True


class AsyncGeneratorReader(_OneByOne):
    """Reads an async iterator in an event loop of its own, in the thread that calls `read`.

    One task drives the iterator from its first event to its end, so that timeouts, task groups and context variables
    inside it keep their task. `close` may be called by any thread: beside a `read` that waits, it cancels the waiting,
    and the reading thread closes the iterator at the end of this `read` or in its next.
    """

    def __init__(self, function: Callable[[], AsyncIterator[Any]]) -> None:
        self._source = function()
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._asked = self._loop.create_future()
        self._task: asyncio.Task[None] | None = None
        self._event: Any = _END
        self._busy = threading.Lock()  # held by the thread that runs the loop
        self._closed = False
        self.iterator: Iterator[Any] = iter(self._next, _END)

    def close(self) -> None:
        """Cancel what the iterator waits for, close it and its loop; what its clean-up raises is raised here."""
        if self._busy.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._busy.release()
        else:
            with contextlib.suppress(RuntimeError):  # the reading thread has just closed the loop
                self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _stop(self, task: asyncio.Task[None]) -> None:
        self._loop.stop()

    def _end(self) -> None:
        """End the task, then the loop, and raise what the task raised."""
        if self._closed:
            return
        self._closed = True
        task = self._task
        try:
            if task is not None:
                task.remove_done_callback(self._stop)
                task.cancel()
                self._loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        finally:
            self._runner.close()
        if task is not None and not task.cancelled():
            task.result()

    def _next(self) -> Any:
        """Run the loop until the task has the next event or is done."""
        with self._busy:
            if self._closed:
                return _END
            if self._task is None:
                self._task = self._loop.create_task(self._drive())
                self._task.add_done_callback(self._stop)
            elif not self._asked.done():
                self._asked.set_result(None)
            self._event = _END
            self._loop.run_forever()
            if self._task.done():
                self._end()
            return self._event

    async def _drive(self) -> None:
        source = self._source
        try:
            async for event in source:
                self._event = event
                self._asked = self._loop.create_future()
                self._loop.stop()
                await self._asked
        finally:
            if isinstance(source, AsyncGeneratorType):
                await source.aclose()
