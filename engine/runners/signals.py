"""What Ctrl-C and SIGTERM do to a run in the main thread: once, stop reading and release; twice, stop now.

Decides that only Python's default handlers are replaced, and only during the run.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Protocol, Self


class Stoppable(Protocol):
    """A run that can be asked to end."""

    def interrupt(self) -> None:
        """End the reading and release what is in flight within the deadline."""


class Interrupts:
    """A context in which a first Ctrl-C or SIGTERM ends `run` in order, and a second one at once."""

    def __init__(self, run: Stoppable) -> None:
        self._run = run
        self._old: dict[int, Any] = {}
        #: The first signal received, if any.
        self.caught: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._old[signal.SIGINT] = signal.signal(signal.SIGINT, self._on_signal)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._old[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._on_signal)
        return self

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.caught is not None:
            raise KeyboardInterrupt
        self.caught = number
        self._run.interrupt()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def reraise(self) -> None:
        """Do what the caught signal asks of the process, after the run; return if there was none."""
        if self.caught == signal.SIGTERM:
            signal.raise_signal(signal.SIGTERM)
        if self.caught is not None:
            raise KeyboardInterrupt
