"""Events of which each process knows how many are alive in it, and handlers that tell when none is while they are idle."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from pathlib import Path
from typing import Any

_ALIVE: weakref.WeakSet[Counted] = weakref.WeakSet()
WAIT_S = 20.0


class Counted:
    """An event that is counted while it is alive."""

    def __init__(self, n: int) -> None:
        self.n = n
        _ALIVE.add(self)

    def __reduce__(self) -> Any:
        return Counted, (self.n,)


def all_are_gone() -> bool:
    """Wait until no event is alive in this process; return whether that happened in time."""
    deadline = time.monotonic() + WAIT_S
    while _ALIVE and time.monotonic() < deadline:
        time.sleep(0.005)
    return not _ALIVE


class TellsWhenIdle:
    """Writes what it sees into a file as soon as nothing that it has handled is alive, or never will be."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, event: Counted) -> Any:
        if event.n == 0:
            threading.Thread(target=self.watch).start()
        return Counted(100 + event.n)

    def watch(self) -> None:
        gone = all_are_gone()
        self.path.with_suffix(".new").write_text(f"gone: {gone}")
        self.path.with_suffix(".new").rename(self.path)


class TellsWhenIdleLater(TellsWhenIdle):
    async def __call__(self, event: Counted) -> Any:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().__call__(event)
