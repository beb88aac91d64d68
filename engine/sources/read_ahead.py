"""Reads a plain iterator in a thread of its own, so that events can be stored while the next ones are waited for.

Decides how far the iterator is read ahead: up to `most` events, and only between `read` and `pause`. After `pause` no
more than the one event that the iterator is asked for is in memory alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from .owned import source_ownership

#: The most events that are read ahead while their size is not known.
FIRST = 4
#: How long `close` waits for a call of the iterator to return, in seconds.
_CALL_S = 0.5
#: How long `close` waits for the clean-up of the iterator, in seconds.
_CLEANUP_S = 1.0
_END: Any = object()


class ReadAhead:
    """Reads the `iterator` of the reader that `open_reader()` returns; all calls of it are made in one thread.

    `ended` says that the iterator is exhausted, `error` is what it or its clean-up raised. Used by one thread.
    """

    def __init__(self, open_reader: Callable[[], Any], name: str) -> None:
        self._open_reader = open_reader
        self.most = FIRST
        self.error: BaseException | None = None
        self.ended = False
        self._events: list[Any] = []
        self._changed = threading.Condition()
        self._reading = False  #: whether to read ahead
        self._inside = False  #: whether the iterator is being waited for
        self._closing = self._cancelled = self._done = False
        self._reader: Any = None
        # A thread that user code holds up does not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name=f"sluiceway-read-{name}-ahead", daemon=True)
        self._thread.start()

    def read(self, wait_s: float) -> list[Any]:
        """Start reading ahead and return the events that are there, waiting up to `wait_s` for the first."""
        with self._changed:
            self._reading = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._events or self._done, wait_s)
            return self._pop()

    def pause(self) -> list[Any]:
        """Pause the reading ahead and return the events that came since `read`."""
        with self._changed:
            self._reading = False
            return self._pop()

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        with self._changed:
            return self._done and not self._events

    def _pop(self) -> list[Any]:
        events, self._events = self._events, []
        self._changed.notify_all()
        return events

    def close(self) -> list[Any]:
        """End the reading and return the events that are there; a call of the iterator that does not return is abandoned."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(_CALL_S)
        if self._thread.is_alive() and self._inside and getattr(self._reader, "interruptible", False):
            self._cancelled = True
            self._reader.close()
        if self._cancelled or not self._inside:
            self._thread.join(_CLEANUP_S)
        with self._changed:
            return self._pop()

    # -- the reading thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._reader = reader = self._open_reader()
            try:
                self._read(reader.iterator)
            finally:
                reader.close()
        except BaseException as error:  # also a sys.exit() of the iterator's: no thread may wait for ever
            self.error = error
        with self._changed:
            self._done = True
            self._changed.notify_all()

    def _read(self, iterator: Any) -> None:
        iterator = source_ownership().each(iterator)
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
            del event  # is not kept while the next one is waited for

    def _may_read(self) -> bool:
        with self._changed:
            while not self._closing and (not self._reading or len(self._events) >= self.most):
                self._changed.wait()
            return not self._closing
