"""The lock of a run, while it is held: taken before the sinks open, looked at before every commit, given back last.

Decides how often it is looked at beside the commits, and that what is opened under it is closed before it goes.
"""

from __future__ import annotations

from collections.abc import Callable

from ..nodes.errors import LockLost
from ..nodes.locks import Lock

#: A lock is looked at so often beside the commits, in seconds.
LOOK_S = 1.0


class Held:
    """The lock of one run, or none."""

    def __init__(self, lock: Lock | None) -> None:
        self._lock = lock
        self._taken = False
        self._look_at = 0.0

    def take(self) -> int | None:
        """Take the lock and give its token, `None` without a lock; raises `LockHeld`."""
        if self._lock is None:
            return None
        token = self._lock.acquire()
        self._taken = True
        return token

    def check(self) -> None:
        """Raise `LockLost` where the lock is lost or may be."""
        if self._lock is not None:
            self._lock.check()

    def look(self, now: float) -> None:
        """Check it if that was not done for a while; `now` is in monotonic seconds."""
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self.check()

    def loss(self) -> LockLost | None:
        """Give the error of a lost lock."""
        try:
            self.check()
        except LockLost as error:
            return error
        return None

    def give_back(self) -> None:
        """Release the lock if it was taken."""
        if self._lock is not None and self._taken:
            self._taken = False
            self._lock.release()


class Taken:
    """A lock that is taken before its run is made: for the run, taking it is to get the token.

    What was opened `under` it is closed before it is given back. Raises `LockHeld` when it is made.
    """

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._close: Callable[[], None] = lambda: None
        self._token = lock.acquire()
        self.fenced = lock.fenced

    def under(self, close: Callable[[], None]) -> None:
        """Say how to close what was opened under the lock; closing it twice must do no harm."""
        self._close = close

    def acquire(self) -> int:
        """Give the token."""
        return self._token

    def check(self) -> None:
        """Raise `LockLost` where the lock is lost or may be."""
        self._lock.check()

    def release(self) -> None:
        """Close what was opened under the lock, and give it back."""
        try:
            self._close()
        finally:
            self._lock.release()
