"""What a lock is: it keeps a graph to one run at a time, also across machines.

Decides the protocol between the engine and a lock. A lost lock stops the run before its next commit. Only a sink
that checks the lock's token in its own transaction (`fence`) makes that certain; for others it is best effort.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Lock(Protocol):
    """Held by one run at a time. `fenced` says whether each later holder gets a higher token, wherever it runs."""

    fenced: bool

    def acquire(self) -> int:
        """Acquire the lock and return the fencing token; raises `LockHeld` if another run holds it for too long.

        A run turns any other exception from here into a `LockError`.
        """

    def check(self) -> None:
        """Raise `LockLost` if the lock is lost or may be lost; called before every commit and about once a second."""

    def release(self) -> None:
        """Release the lock; does nothing if it is already lost."""
