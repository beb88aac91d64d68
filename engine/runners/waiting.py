"""How a consumer waits for a run without being inside of it: in an event loop, or with a time limit.

Decides that a wait takes nothing, so that it can be given up at any moment. Knows nothing of runs.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

#: The longest wait, in seconds, so that what is due by the clock is done while nothing arrives.
_WAIT_S = 0.5


class Wakes:
    """Wakes the one who waits; `notify` is for any thread."""

    def __init__(self) -> None:
        self.waiting = False
        #: Whether there was a wait since it was last set to `False`.
        self.waited = True
        self.used_in_loop = False
        self._wake: Callable[[], object] | None = None

    def notify(self) -> None:
        """Wake the thread or task that waits, if there is one."""
        wake = self._wake
        if wake is not None:
            with suppress(RuntimeError):  # its loop is closed: nobody waits any more
                wake()

    def wait(self, ready: Callable[[], bool], deadline: float) -> bool:
        """Wait for `ready` or a notification until `deadline` (monotonic seconds); return whether it came in time."""
        woken = threading.Event()
        self.waiting, self._wake = True, woken.set
        try:
            while not ready() and not woken.is_set():
                left = deadline - monotonic()
                if left <= 0:
                    return False
                if not woken.wait(min(left, _WAIT_S)) and left > _WAIT_S:
                    break
        finally:
            self.waiting, self._wake, self.waited = False, None, True
        return True

    async def wait_in_loop(self, ready: Callable[[], bool]) -> None:
        """Wait for `ready` or a notification; give the loop a turn in any case."""
        import asyncio  # a third of the import time of sluiceway; callers of this have it loaded

        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        self.used_in_loop = True
        self.waiting, self._wake = True, lambda: loop.call_soon_threadsafe(_settle, woken)
        timer = None
        try:
            if ready():
                loop.call_soon(_settle, woken)
            else:
                timer = loop.call_later(_WAIT_S, _settle, woken)
            await woken
        finally:
            if timer is not None:
                timer.cancel()
            self.waiting, self._wake, self.waited = False, None, True


class AskingThread:
    """A thread that calls `ask` on request and keeps the result until it is taken."""

    def __init__(self, ask: Callable[[], list[Any]], notify: Callable[[], None]) -> None:
        self._ask = ask
        self._notify = notify
        self._orders: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._answered = threading.Event()
        self._result: tuple[list[Any], BaseException | None] | None = None
        self.busy = False
        self._thread = threading.Thread(target=self._serve, name="sluiceway-ask", daemon=True)

    @property
    def has_result(self) -> bool:
        """Whether there is something to take."""
        return self._result is not None

    def ask(self) -> None:
        """Call `ask` in the thread."""
        self.busy = True
        self._answered.clear()
        if self._thread.ident is None:
            self._thread.start()
        self._orders.put(True)

    async def ask_in_loop(self) -> None:
        """Call `ask` in the thread, once and for all, and wait for it in the running loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def notify() -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, done)

        self._notify = notify
        self.ask()
        self.end()
        await done
        self.pop()

    def pop(self) -> list[Any]:
        """Return what came, or raise it; `StopIteration` is the end."""
        assert self._result is not None
        (batch, error), self._result = self._result, None
        if error is not None:
            try:
                raise error
            finally:
                del error
        return batch

    def wait(self) -> None:
        """Wait until what was asked for is there."""
        if self.busy:
            self._answered.wait()

    def end(self) -> None:
        """End the thread once it has done what was requested."""
        self._orders.put(False)

    def _serve(self) -> None:
        while self._orders.get():
            try:
                result: tuple[list[Any], BaseException | None] = self._ask(), None
            except BaseException as error:
                result = [], error
            is_last = result[1] is not None
            self._result = result
            del result  # the consumer holds the only reference
            self.busy = False
            self._answered.set()
            self._notify()
            if is_last:
                return


def _settle(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
