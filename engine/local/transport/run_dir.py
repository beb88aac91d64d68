"""The private folder of a run (sockets, handler files, status pages; for this user only) and the path of its arena.

Decides that the next run removes a folder whose owner has exited: its lock file is locked as long as the owner lives. The
arena, a file in shared memory, has the name of the folder; its owner keeps the file itself locked.
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
#: How the file ends that a worker leaves when it ends because its connection is lost, or was never made.
LOST, UNREACHED = "lost", "unreached"
#: The path of a Unix socket has at most 107 bytes, and the names inside the folder need some of them.
_MAX_PATH_BYTES = 80
_SHARED_MEMORY = Path("/dev/shm")


class RunDir:
    """A folder with mode 0700 that exists as long as the run."""

    def __init__(self) -> None:
        base = tempfile.gettempdir()
        if len(os.fsencode(base)) > _MAX_PATH_BYTES - len(_PREFIX) - 8:
            base = "/tmp"
        remove_stale(Path(base))
        remove_stale_arenas(_SHARED_MEMORY)
        self.path, self._lock = _locked_folder(base)

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _locked_folder(base: str) -> tuple[Path, int]:
    """Make a folder and the lock that shows it is in use; if a starting run removes it as stale, make another."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        lock = path / _LOCK
        try:
            return path, create_locked(lock) if fcntl is not None else os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        except (FileNotFoundError, BlockingIOError):
            shutil.rmtree(path, ignore_errors=True)


def arena_path(folder: Path) -> Path | None:
    """Return the path of the arena of the run with this folder, or `None` if there is no shared memory for it."""
    return _SHARED_MEMORY / folder.name if sys.platform == "linux" and fcntl is not None else None


def create_locked(path: Path) -> int:
    """Make a file and return its descriptor; the file is locked as long as that is open. Raises `OSError`."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between the two calls the file looked as if nobody owned it.
        if not os.path.samestat(os.fstat(file), os.stat(path)):
            raise FileNotFoundError(f"{path} was taken away")
    except OSError:
        os.close(file)
        raise
    return file


def remove_stale_arenas(base: Path) -> None:
    """Remove the arenas of runs whose process has exited, but not those of other users."""
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
            continue  # its owner lives, or it has been removed
        finally:
            os.close(file)


def remove_stale(base: Path) -> None:
    """Remove the folders of runs whose process has exited, but not those of other users."""
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
