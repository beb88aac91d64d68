"""Handlers and sources that do harm, at module level: workers import what they come from, and this needs little."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fault_graphs import Strikes, die, until
from sluiceway.engine.local.transport.link import Link

# -- while they are built -----------------------------------------------------------------------------------------


class Raises:
    """A handler that cannot be built."""

    def __init__(self) -> None:
        raise OSError("no model here")

    def __call__(self, n: int) -> int:
        return n


class Dies:
    """A handler whose building ends the process, as long as there are strikes."""

    def __init__(self, how: str, strikes: Strikes | None = None) -> None:
        if strikes is None or strikes.take():
            die(how)

    def __call__(self, n: int) -> int:
        return n


class AsyncRaises:
    """An async handler that cannot be built inside its loop."""

    def __init__(self) -> None:
        raise OSError("no session here")

    async def __call__(self, n: int) -> int:
        return n


def explode() -> None:
    raise ValueError("not in this process")


class SlowStart:
    """A handler that takes its time to be built, and says so."""

    def __init__(self, folder: str, rounds: int) -> None:
        told = Path(folder, f"starting-{os.getpid()}")
        told.touch()
        if len(list(Path(folder).glob("starting-*"))) <= rounds:
            until(lambda: not told.exists(), 30)

    def __call__(self, n: int) -> int:
        return n


# -- while they are closed ----------------------------------------------------------------------------------------


class DiesInClose:
    """A handler that ends its worker when it is closed."""

    def __call__(self, n: int) -> int:
        return n

    def close(self) -> None:
        die("kill")


class Closes:
    """A handler that notes its end."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        Path(folder, f"open-{os.getpid()}").touch()

    def __call__(self, n: int) -> int:
        return n

    def close(self) -> None:
        Path(self.folder, f"closed-{os.getpid()}").touch()


class StuckInClose(Closes):
    """A handler whose `close` does not come back."""

    def close(self) -> None:
        super().close()
        time.sleep(600)


def hang(n: int) -> int:
    """Never come back."""
    while True:
        time.sleep(60)


def deaf(n: int) -> int:
    """Never come back, and do not hear SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return hang(n)


class BadClose:
    """A handler whose `close` does what it is told."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self, n: int) -> int:
        return n

    def close(self) -> None:
        if self.how == "raise":
            raise ValueError("cannot close")
        if self.how == "exit":
            sys.exit(3)
        if self.how == "interrupt":
            raise KeyboardInterrupt
        if self.how == "hang":
            hang(0)
        if self.how == "deaf":
            deaf(0)


# -- at an event --------------------------------------------------------------------------------------------------


def sleep_in_c(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.2)


def busy_loop(path: str) -> None:
    while not os.path.exists(path):
        for _ in range(100_000):
            pass


def hold_the_lock(path: str) -> None:
    """Sleep in C with the interpreter's lock held."""
    import ctypes

    while not os.path.exists(path):
        ctypes.PyDLL(None).usleep(200_000)


class Saboteur:
    """A handler that writes to the hub over its worker's own socket."""

    def __init__(self, parts: list[bytes]) -> None:
        self.parts = parts

    def __call__(self, n: int) -> int:
        if n == 20:
            link_of_this_worker().send(self.parts)
        return n


def link_of_this_worker() -> Link:
    """Find the worker's socket among the variables of those who called the handler."""
    frame: Any = sys._getframe()
    while True:
        frame = frame.f_back
        for value in frame.f_locals.values():
            if isinstance(value, Link):
                return value


def crash(n: int) -> int:
    if n == 2:
        die("segv")
    return n


def sleep(n: int) -> int:
    import time

    if n == 2:
        time.sleep(60)
    return n


class Model:
    def __init__(self) -> None:
        raise OSError("no file model.pt")

    def __call__(self, n: int) -> int:
        return n


class Doomed:
    def __init__(self) -> None:
        os._exit(3)

    def __call__(self, n: int) -> int:
        return n


class Sum:
    """A handler with a state of its own, and the means to save it."""

    def __init__(self) -> None:
        self.total = 0

    def __call__(self, number: int) -> tuple[int, int]:
        self.total += number
        return self.total, number

    def snapshot(self) -> int:
        return self.total

    def restore(self, state: int) -> None:
        self.total = state


# -- sources ------------------------------------------------------------------------------------------------------


def broken_source() -> Iterator[int]:
    yield from range(3)
    raise ConnectionError("the line is dead")


def fail() -> None:
    raise ConnectionError("the line is dead")


def blocked(folder: str) -> Iterator[int]:
    yield from range(20)
    Path(folder, "blocked").touch()
    threading.Event().wait()


def endless(n: int) -> Iterator[int]:
    while True:
        yield n
