"""The private folder of a run: sockets, handler files and status pages, for this user only.

Decides that a folder whose owner is gone is removed by the next run: its lock file is held as long as the owner lives.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # no advisory locks here: stale folders are left to the system's own clean-up
    fcntl = None  # type: ignore[assignment]

_PREFIX = "penstock-"
_LOCK = "owner.lock"
#: The path of a Unix socket has 107 bytes at most; what follows the folder's name needs some of them.
_LONGEST = 80


class RunDir:
    """A folder with mode 0700 that exists while the run does."""

    def __init__(self) -> None:
        base = tempfile.gettempdir()
        if len(os.fsencode(base)) > _LONGEST - len(_PREFIX) - 8:
            base = "/tmp"
        remove_stale(Path(base))
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if fcntl is not None:
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def remove_stale(base: Path) -> None:
    """Remove the folders of runs whose process is gone; those of other users are left alone."""
    if fcntl is None or not hasattr(os, "getuid"):
        return
    for path in base.glob(_PREFIX + "*"):
        try:
            status = path.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                continue
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)  # its owner lives
            continue
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)
