"""The lock of a run: acquired before the sinks open, checked before every commit, released last.

Decides how often it is checked between the commits, that a lock whose check fails counts as lost, and that what was
opened under it is closed before it is released.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ...nodes.errors import LockError, LockLost, SluicewayError, describe
from ...nodes.given import RunHere
from ...nodes.locks import Lock

_LOG = logging.getLogger("sluiceway")
#: How often a lock is checked between the commits, in seconds.
CHECK_S = 1.0


class RunLock:
    """The lock of one run, or none."""

    def __init__(self, lock: Lock | None) -> None:
        self._lock: Any = lock if lock is None or isinstance(lock, AcquiredLock) else RunHere(lock, "the lock")
        self._acquired = False
        self._check_at = 0.0

    def acquire(self) -> int | None:
        """Acquire the lock and return its token, `None` without a lock; raises `LockError`."""
        if self._lock is None:
            return None
        token = self._lock.acquire() if isinstance(self._lock, AcquiredLock) else acquire(self._lock)
        self._acquired = True
        return token

    def check(self) -> None:
        """Raise `LockLost` if the lock is lost or may be."""
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

    def check_if_due(self, now: float) -> None:
        """Check the lock unless that was done less than `CHECK_S` ago; `now` is in monotonic seconds."""
        if now >= self._check_at:
            self._check_at = now + CHECK_S
            self.check()

    def loss(self) -> LockLost | None:
        """Return the error of a lost lock, `None` for a lock that is not lost."""
        try:
            self.check()
        except LockLost as error:
            return error
        return None

    def release(self) -> None:
        """Release the lock if it was acquired."""
        if self._lock is not None and self._acquired:
            self._acquired = False
            self._lock.release()


def acquire(lock: Lock) -> int:
    """Acquire a lock and return its token; raises `LockError`, which is `LockHeld` while another run has the lock."""
    _LOG.info("acquires the lock %r", lock)  # a standby waits here
    try:
        token = lock.acquire()
    except SluicewayError:
        raise
    except Exception as error:  # a server that is not there, a file that cannot be written, a lock of the user's
        raise LockError(
            f"cannot take the lock {lock!r}: {describe(error)}; see that it can be reached and written from here, then"
            " start the run again"
        ) from error
    _LOG.info("has the lock %r", lock)
    return token


class AcquiredLock:
    """A lock that is acquired before its run is made; the run then gets the token without acquiring it again.

    What `close_first` names is closed before the lock is released. Raises `LockError` when it is made.
    """

    def __init__(self, lock: Lock) -> None:
        self._lock: Any = RunHere(lock, "the lock")
        self._close: Callable[[], None] = lambda: None
        self._token = acquire(self._lock)
        self.fenced = lock.fenced

    def close_first(self, close: Callable[[], None]) -> None:
        """Set the function that closes what was opened under the lock; it may be called twice."""
        self._close = close

    def acquire(self) -> int:
        """Return the token."""
        return self._token

    def check(self) -> None:
        """Raise `LockLost` if the lock is lost or may be."""
        self._lock.check()

    def release(self) -> None:
        """Close what was opened under the lock, and release it."""
        try:
            self._close()
        finally:
            self._lock.release()
