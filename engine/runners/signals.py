"""What Ctrl-C and SIGTERM do to a run in the main thread: once, stop reading and release; twice, stop now.

Decides that only Python's default handlers and an `AfterRun` are replaced, and only during the run.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

_LOG = logging.getLogger("sluiceway")


class Stoppable(Protocol):
    """A run that can be asked to end."""

    def interrupt(self) -> None:
        """End the reading and release what is in flight within the deadline."""


class AfterRun:
    """A handler of SIGTERM that a run takes over as it does Python's own: the run ends in order, then `handle` is called."""

    def __init__(self, handle: Callable[[], object]) -> None:
        self._handle = handle

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._handle()


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
        term = signal.getsignal(signal.SIGTERM)
        if term is signal.SIG_DFL or isinstance(term, AfterRun):
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
            _LOG.info("ends by SIGTERM")
            signal.raise_signal(signal.SIGTERM)
            # The kernel spares process 1 of a container its own signals: the code is what a shell makes of them.
            raise SystemExit(128 + signal.SIGTERM)
        if self.caught is not None:
            raise KeyboardInterrupt
