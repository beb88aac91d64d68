"""A lock that is a file: one run at a time among all that see it.

Decides what stands in the file: a counter of twenty digits, which is the fencing token of the latest holder, and a line
about the holder as JSON, empty while nobody holds it. The system's `flock` on the file excludes others; it ends with
the process that holds it, so a dead run never blocks the next. The file is never removed: the counter would restart.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import socket
import time
from datetime import UTC, datetime
from os import PathLike
from typing import Any

from ..checks import check_seconds
from ..errors import GraphError, LockHeld, LockLost, kind_of

#: How long waiting pauses between two tries, in seconds: doubling from the first to the second.
PAUSES_S = (0.01, 0.25)

_CONTENT = re.compile(rb"(\d{20})\n([^\n]*)\n?")
MAX_FILE_BYTES = 4096


class FileLock:
    """Held by at most one at a time among the processes that see its file; made by `sluiceway.file_lock`."""

    fenced = True

    def __init__(self, path: str, wait_s: float | None) -> None:
        self.path = path
        self.wait_s = wait_s
        self._number: int | None = None  # the open file
        self._token = 0

    def __repr__(self) -> str:
        return f"file_lock({self.path!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return FileLock, (self.path, self.wait_s)

    def acquire(self) -> int:
        """Acquire the lock and return the fencing token, one more than that of the holder before.

        Raises `LockHeld` if another process holds it for longer than `wait_s`, `OSError` if the file cannot be created,
        and `ValueError` for a file that is not a lock.
        """
        if self._number is not None:
            raise LockHeld(f"cannot acquire {self!r}: this object holds it already; make one for each run")
        until = math.inf if self.wait_s is None else time.monotonic() + self.wait_s
        pause_s = PAUSES_S[0]
        while True:
            number = self._try()
            if number is not None:
                break
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise self._held()
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, PAUSES_S[1])
        try:
            self._token = self._sign(number)
        except BaseException:
            os.close(number)
            raise
        self._number = number
        return self._token

    def _try(self) -> int | None:
        """Open the file and lock it; `None` if another process holds it or has just replaced the file."""
        import fcntl  # not on every system; see `file_lock`

        number = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._is_at_path(number):
                return number
        except BlockingIOError:
            pass
        except BaseException:
            os.close(number)
            raise
        os.close(number)
        return None

    def _is_at_path(self, number: int) -> bool:
        try:
            return os.path.samestat(os.fstat(number), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _sign(self, number: int) -> int:
        """Increment the counter and write who holds the lock."""
        content = os.pread(number, MAX_FILE_BYTES + 1, 0)
        known = _CONTENT.fullmatch(content) if content else None
        if content and known is None:
            raise ValueError(
                f"cannot acquire {self!r}: the file holds something else than a lock; give the lock a file of its own"
            )
        token = int(known[1]) + 1 if known is not None else 1
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat("T", "seconds")}
        _write(number, token, json.dumps(holder))
        os.fsync(number)
        if not content:
            folder = os.open(os.path.dirname(os.path.abspath(self.path)), os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return token

    def _held(self) -> LockHeld:
        holder = self._holder()
        who = "another one holds it"
        if holder is not None:
            who = f"process {holder.get('pid')} on {holder.get('host')} holds it since {holder.get('since')}"
        waited = f" and did not give it back in {self.wait_s:g} s" if self.wait_s else ""
        return LockHeld(
            f"cannot acquire {self!r}: {who}{waited}; wait for that run to end, for example with wait_s=None, or stop it"
        )

    def _holder(self) -> dict[str, Any] | None:
        """Return what the file says about the holder, or `None` if it says nothing."""
        try:
            with open(self.path, "rb") as file:
                known = _CONTENT.fullmatch(file.read(MAX_FILE_BYTES))
            holder = json.loads(known[2]) if known is not None and known[2] else None
        except (OSError, ValueError):  # it is only for the text of an error
            return None
        return holder if isinstance(holder, dict) else None

    def check(self) -> None:
        """Raise `LockLost` if the file was removed, replaced or locked by another process."""
        if self._number is None:
            raise LockLost(f"the lock {self!r} is not held any more: it was released")
        if not self._is_at_path(self._number):
            raise LockLost(
                f"the lock {self!r} is lost: its file was removed or replaced, so another run may hold one of the same "
                "name; leave the file alone while runs use it"
            )
        known = _CONTENT.fullmatch(os.pread(self._number, MAX_FILE_BYTES, 0))
        if known is None or int(known[1]) != self._token:
            raise LockLost(
                f"the lock {self!r} is lost: its file holds {'no token' if known is None else int(known[1])} where "
                f"{self._token} was written; another run has taken it, or something has written to the file"
            )

    def release(self) -> None:
        """Release the lock; does nothing if it is already lost."""
        number, self._number = self._number, None
        if number is None:
            return
        try:
            known = _CONTENT.fullmatch(os.pread(number, MAX_FILE_BYTES, 0))
            if known is not None and int(known[1]) == self._token:
                _write(number, self._token, "")
        except OSError:
            pass  # the file stays with an old holder's name, which is only for the text of an error
        finally:
            os.close(number)


def _write(number: int, token: int, holder: str) -> None:
    """Overwrite token and holder; the token first, and the file never gets shorter."""
    data = f"{token:020d}\n{holder}\n".encode()
    os.pwrite(number, data, 0)
    os.ftruncate(number, len(data))


def file_lock(path: str | PathLike[str], *, wait_s: float | None = 0) -> FileLock:
    """Make a lock from a file, for `run(lock=...)`: one run at a time among all processes that see the file.

    Another machine sees it through a file system that carries `flock` between machines (NFS from version 4 on, for
    one). `wait_s` is how long to wait for another holder, in seconds: 0 not at all, `None` for ever. The file is
    created when the lock is first acquired, and stays: it counts the holders. Raises `GraphError` for what is no path
    or time, and on systems without `flock`.
    """
    text = os.fspath(path) if isinstance(path, str | PathLike) else None
    if not isinstance(text, str) or not text:
        raise GraphError(f"cannot make file_lock() from {kind_of(path)}: it needs the path of a file; pass one")
    if wait_s is not None:
        wait_s = check_seconds(f"cannot make file_lock({text!r})", "wait_s", wait_s, "pass None to wait for ever")
    if importlib.util.find_spec("fcntl") is None:
        raise GraphError(
            f"cannot make file_lock({text!r}): this system has no flock; use the lock of a database or of Redis"
        )
    return FileLock(text, wait_s)
