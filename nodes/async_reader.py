"""A reader over an async iterator.

Decides in which task it runs and how a `read` that waits is ended. It stands apart from the other readers because few
sources need it and asyncio takes a while to import.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import AsyncGeneratorType
from typing import Any

from .readers import END, OneByOne


class AsyncGeneratorReader(OneByOne):
    """Reads an async iterator in an event loop of its own, in the thread that calls `read`.

    One task drives the iterator from its first event to its end, so that timeouts, task groups and context variables
    inside it keep their task. `close` may be called by any thread: while a `read` waits, it cancels the waiting,
    and the reading thread closes the iterator at the end of this `read` or in its next. Only that ends it early: if
    other code cancels what it awaits, it has failed.
    """

    interruptible = True

    def __init__(self, function: Callable[[], AsyncIterator[Any]]) -> None:
        self._source = function()
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._asked = self._loop.create_future()
        self._task: asyncio.Task[None] | None = None
        self._event: Any = END
        self._busy = threading.Lock()  # held by the thread that runs the loop
        self._closed = False
        self._cancelled = False  # by this reader
        self.iterator: Iterator[Any] = iter(self._next, END)

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
        if self._task is not None and not self._task.done():
            self._cancelled = True
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
                self._cancel()
                self._loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        finally:
            self._runner.close()
        if task is None:
            return
        try:
            task.result()
        except asyncio.CancelledError as error:
            if not self._cancelled:
                raise RuntimeError("the source awaited what somebody else has cancelled") from error

    def _next(self) -> Any:
        """Run the loop until the task has the next event or is done."""
        with self._busy:
            if self._closed:
                return END
            if self._task is None:
                self._task = self._loop.create_task(self._drive())
                self._task.add_done_callback(self._stop)
            elif not self._asked.done():
                self._asked.set_result(None)
            self._event = END
            self._loop.run_forever()
            if self._task.done():
                self._end()
            event, self._event = self._event, END
            return event

    async def _drive(self) -> None:
        source = self._source
        try:
            async for self._event in source:  # no variable keeps it, so an event that is fresh stays so
                self._asked = self._loop.create_future()
                self._loop.stop()
                await self._asked
        finally:
            if isinstance(source, AsyncGeneratorType):
                await source.aclose()
