"""An event loop in a thread of its own, for the inline runner: the calling thread may already run one.

Decides nothing about handlers, and starts no thread until something is awaited.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ...nodes.handlers import close_handler
from ..interpreter.forks import OwnerProcess

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")


class LoopThread:
    """Runs coroutines one after another, always in the same loop, and waits for each."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._thread: ThreadPoolExecutor | None = None
        #: Whether what runs in the loop was cancelled, because nobody waits for it any more.
        self.cancelled = False
        self._owner = OwnerProcess()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the result of a coroutine; if the wait is interrupted, the coroutine is cancelled."""
        if self._thread is None or self._runner is None:
            # Imported here because most runs await nothing. Not later: a run may still be wanted while the interpreter
            # ends, when nothing can be imported any more.
            import asyncio
            from concurrent.futures import ThreadPoolExecutor

            self._thread = ThreadPoolExecutor(1, thread_name_prefix="sluiceway-loop")
            self._runner = asyncio.Runner()
        self.cancelled = False
        loop = self._thread.submit(self._runner.get_loop).result()
        future = self._thread.submit(self._runner.run, coroutine)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                self.cancelled = True
                loop.call_soon_threadsafe(_cancel_all, loop)
            raise

    def close_with(self, close: Callable[[], Any]) -> None:
        """Call a handler's `close`, inside the loop where there is one."""
        if self._thread is None:
            close_handler(close)
        else:
            self.run(_call(close))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._thread is not None and self._runner is not None and not self._owner.is_forked():
            self._thread.submit(self._runner.close).result()
            self._thread.shutdown()


async def _call(close: Callable[[], Any]) -> None:
    result = close()
    if inspect.isawaitable(result):
        await result


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    import asyncio

    for task in asyncio.all_tasks(loop):
        task.cancel()
