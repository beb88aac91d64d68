"""The private folder of a run: sockets, handler files and status pages, for this user only; and where its arena lies.

Decides that a folder whose owner is gone is removed by the next run: its lock file is held as long as the owner lives.
The arena, a file in shared memory, is named like the folder and is itself what its owner holds locked.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

fcntl: Any
try:
    fcntl = import_module("fcntl")
except ImportError:  # no advisory locks here: stale folders are left to the system's own clean-up
    fcntl = None

_PREFIX = "sluiceway-"
_LOCK = "owner.lock"
#: The path of a Unix socket has 107 bytes at most; what follows the folder's name needs some of them.
_LONGEST = 80
_SHARED_MEMORY = Path("/dev/shm")


class RunDir:
    """A folder with mode 0700 that exists while the run does."""

    def __init__(self) -> None:
        base = tempfile.gettempdir()
        if len(os.fsencode(base)) > _LONGEST - len(_PREFIX) - 8:
            base = "/tmp"
        remove_stale(Path(base))
        remove_stale_arenas(_SHARED_MEMORY)
        self.path, self._lock = _locked_folder(base)

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _locked_folder(base: str) -> tuple[Path, int]:
    """Make a folder and the lock that shows it is in use; one that a starting run took for stale is made again."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        lock = path / _LOCK
        try:
            return path, create_locked(lock) if fcntl is not None else os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        except (FileNotFoundError, BlockingIOError):
            shutil.rmtree(path, ignore_errors=True)


def arena_path(folder: Path) -> Path | None:
    """Give where the arena of the run with this folder lies, `None` where there is no shared memory for it."""
    return _SHARED_MEMORY / folder.name if sys.platform == "linux" and fcntl is not None else None


def create_locked(path: Path) -> int:
    """Make a file that is locked as long as its descriptor, which is given, is open. Raises `OSError`."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between the two calls it looked as if nobody owned it.
        if not os.path.samestat(os.fstat(file), os.stat(path)):
            raise FileNotFoundError(f"{path} was taken away")
    except OSError:
        os.close(file)
        raise
    return file


def remove_stale_arenas(base: Path) -> None:
    """Remove the arenas of runs whose process is gone; those of other users are left alone."""
    if arena_path(base) is None:
        return
    for path in base.glob(_PREFIX + "*"):
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
                continue
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        except OSError:
            continue  # its owner lives, or it is gone already
        finally:
            os.close(file)


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
