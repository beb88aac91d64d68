"""The lock of a run, while it is held: taken before the sinks open, looked at before every commit, given back last.

Decides how often it is looked at beside the commits, that a lock which cannot tell counts as lost, and that what is
opened under it is closed before it goes.
"""

from __future__ import annotations

from collections.abc import Callable

from ...nodes.errors import LockError, LockLost, SluicewayError, describe
from ...nodes.locks import Lock

#: A lock is looked at so often beside the commits, in seconds.
LOOK_S = 1.0


class Held:
    """The lock of one run, or none."""

    def __init__(self, lock: Lock | None) -> None:
        self._lock = lock
        self._taken = False
        self._look_at = 0.0

    def take(self) -> int | None:
        """Take the lock and give its token, `None` without a lock; raises `LockError`."""
        if self._lock is None:
            return None
        token = acquired(self._lock)
        self._taken = True
        return token

    def check(self) -> None:
        """Raise `LockLost` where the lock is lost or may be."""
        if self._lock is None:
            return
        try:
            self._lock.check()
        except SluicewayError:
            raise
        except Exception as error:  # a lock of the user's may raise anything
            raise LockLost(
                f"the lock {self._lock!r} may be lost: its check failed ({describe(error)}); another run may have begun,"
                " start this one again"
            ) from error

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


def acquired(lock: Lock) -> int:
    """Take a lock and give its token; raises `LockError`, which is `LockHeld` where another one has it."""
    try:
        return lock.acquire()
    except SluicewayError:
        raise
    except Exception as error:  # a server that is not there, a file that cannot be written, a lock of the user's
        raise LockError(
            f"cannot take the lock {lock!r}: {describe(error)}; see that it can be reached and written from here, then"
            " start the run again"
        ) from error


class Taken:
    """A lock that is taken before its run is made: for the run, taking it is to get the token.

    What was opened `under` it is closed before it is given back. Raises `LockError` when it is made.
    """

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._close: Callable[[], None] = lambda: None
        self._token = acquired(lock)
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
