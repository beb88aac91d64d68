"""What a lock is, under which one run of a graph at a time works, also across machines.

Decides the protocol between the engine and a lock. A lock that was lost stops the run before its next commit; a sink
that takes the lock's token into its own transaction (`fence`) makes that sure, all others are best effort.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Lock(Protocol):
    """Held by one run at a time. `fenced` says whether each later holder gets a higher token, wherever it runs."""

    fenced: bool

    def acquire(self) -> int:
        """Take the lock and give the fencing token; raises `LockHeld` where another one has it for too long.

        A run turns what else it raises into a `LockError`.
        """

    def check(self) -> None:
        """Raise `LockLost` where the lock is lost or may be; called before every commit and about once a second."""

    def release(self) -> None:
        """Return the lock back; says nothing of one that is lost already."""
