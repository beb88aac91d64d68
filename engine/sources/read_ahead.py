"""A pump: reads a plain iterator in a thread of its own, so that what it gave can be stored while it is waited for.

Decides how far the iterator is read ahead: while somebody takes from the pump, and up to `most` events. Between two
takes no more than the one event on its way is in memory alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

#: How many events may wait before their size is known.
FIRST = 4
#: A call of the iterator that has begun is given so long to end when the pump is closed, in seconds.
_MOMENT_S = 0.5
#: Its clean-up is given so long.
_LAST_S = 1.0
_END: Any = object()


class Pump:
    """Reads the `iterator` of the reader that `open_reader()` gives; all of that is done in one thread.

    `ended` says that the iterator has given all, `error` what it or its clean-up raised. Used by one thread.
    """

    def __init__(self, open_reader: Callable[[], Any], name: str) -> None:
        self._open_reader = open_reader
        self.most = FIRST
        self.error: BaseException | None = None
        self.ended = False
        self._events: list[Any] = []
        self._changed = threading.Condition()
        self._reading = False  #: whether somebody takes
        self._inside = False  #: whether the iterator is being waited for
        self._closing = self._cancelled = self._done = False
        self._reader: Any = None
        # A thread that user code holds up does not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name=f"sluiceway-read-{name}-ahead", daemon=True)
        self._thread.start()

    def take(self, wait_s: float) -> list[Any]:
        """Let it read, and give what has come, waiting for the first event."""
        with self._changed:
            self._reading = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._events or self._done, wait_s)
            return self._taken()

    def rest(self) -> list[Any]:
        """Let it pause, and give what has come since."""
        with self._changed:
            self._reading = False
            return self._taken()

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        with self._changed:
            return self._done and not self._events

    def _taken(self) -> list[Any]:
        events, self._events = self._events, []
        self._changed.notify_all()
        return events

    def close(self) -> list[Any]:
        """End the reading and give what has come; a call of a plain iterator that does not end is left to itself."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(_MOMENT_S)
        if self._thread.is_alive() and self._inside and getattr(self._reader, "interruptible", False):
            self._cancelled = True
            self._reader.close()
        if self._cancelled or not self._inside:
            self._thread.join(_LAST_S)
        with self._changed:
            return self._taken()

    # -- the reading thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._reader = reader = self._open_reader()
            try:
                self._read(reader.iterator)
            finally:
                reader.close()
        except BaseException as error:  # also a sys.exit() of the iterator's: nobody may wait for it in vain
            self.error = error
        with self._changed:
            self._done = True
            self._changed.notify_all()

    def _read(self, iterator: Any) -> None:
        while self._may_read():
            self._inside = True
            try:
                event = next(iterator, _END)
            finally:
                self._inside = False
            if event is _END:
                self.ended = not self._cancelled
                return
            with self._changed:
                self._events.append(event)
                if len(self._events) == 1:
                    self._changed.notify_all()

    def _may_read(self) -> bool:
        with self._changed:
            while not self._closing and (not self._reading or len(self._events) >= self.most):
                self._changed.wait()
            return not self._closing
