"""Events, results and exceptions that do harm where they are packed or unpacked, and the functions that give them."""

from __future__ import annotations

import os
import threading
from typing import Any

from fault_graphs import die

# -- events -------------------------------------------------------------------------------------------------------


class OnLoad:
    """An event that does something to a process that unpacks it."""

    def __init__(self, n: int, how: str) -> None:
        self.n = n
        self.how = how

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        act(self.how)


class OnReduce(OnLoad):
    """The same, by `__reduce__`."""

    def __reduce__(self) -> Any:
        return rebuild, (self.n, self.how)


class OnDump:
    """A result that ends the process that packs it."""

    def __reduce__(self) -> Any:
        die("kill")


def act(how: str) -> None:
    """Strike, but not in the process that made the events."""
    if os.environ.get("SLUICEWAY_TESTS_OF") != str(os.getpid()) and how == "die":
        die("kill")
    if how == "raise":
        raise ValueError("no state")


def rebuild(n: int, how: str) -> OnReduce:
    act(how)
    return OnReduce(n, how)


def parse(text: str) -> int:
    """Read a number."""
    return int(text)


class Event:
    """An event that cannot be unpacked."""

    def __reduce__(self) -> Any:
        return parse, ("two",)


# -- results ------------------------------------------------------------------------------------------------------


class Closed:
    """A result that cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("this stays here")


class NotHere:
    """A result that can be packed and not unpacked in the calling process."""

    def __reduce__(self) -> Any:
        return bomb, ()


def locked(n: int) -> Any:
    return threading.Lock() if n == 2 else n


def unreadable(n: int) -> Any:
    return Event() if n == 2 else n


# -- exceptions ---------------------------------------------------------------------------------------------------


class NeedsTwo(Exception):
    """An exception that cannot be rebuilt from its text."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


class Holding(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Mute(Exception):
    """An exception that cannot even be shown."""

    def __str__(self) -> str:
        raise ValueError("no text")


class LoadBomb(Exception):
    """An exception whose unpickling raises."""

    def __reduce__(self) -> Any:
        return bomb, ()


def bomb() -> None:
    raise RuntimeError("cannot be rebuilt")


def throw(error: Any) -> Any:
    raise error


class Outlaw(BaseException):
    """Derives from what handlers are not to raise."""


def recurse(n: int = 0) -> int:
    return recurse(n + 1) + 1
