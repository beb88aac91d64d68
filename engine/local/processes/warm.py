"""The zygote that waits between the runs of a process: the next run finds it ready, with everything imported.

Decides that there is at most one, that it serves a run only in the surroundings in which it was started (environment,
folder, paths, limits, streams), and that it ends with the process or by `shutdown`. It has no child while it waits.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import Any

from msgspec import Struct

from . import bootstrap
from .starters import ZygoteStarter

_END_S = 2.0
_LOCK = threading.Lock()
_WAITING: list[tuple[Surroundings, ZygoteStarter]] = []
#: Zygotes of the processes that this one is a fork of; kept, because Python waits for the process of one that is freed.
_FOREIGN: list[ZygoteStarter] = []


class Surroundings(Struct, frozen=True):
    """What a child inherits from the process that starts it, and could not be given later."""

    pid: int
    entry: str
    executable: str
    seed: str | None
    flags: tuple[Any, ...]
    environment: dict[str, str]
    argv: list[str]
    path: list[str]
    folder: tuple[Any, ...]
    streams: list[tuple[int, ...]]
    limits: list[Any]


def surroundings(entry: str, executable: str, seed: str | None) -> Surroundings | None:
    """Return the surroundings of this process now, or `None` where they cannot be told for certain."""
    import fcntl
    import resource

    def stream(number: int) -> tuple[int, ...]:
        try:
            stat = os.fstat(number)
        except OSError:  # it is closed
            return ()
        return stat.st_dev, stat.st_ino, fcntl.fcntl(number, fcntl.F_GETFL)

    try:
        here = os.stat(".")
        with open("/proc/self/status") as file:
            kept = ("Umask:", "Uid:", "Gid:", "Groups:", "NoNewPrivs:", "Seccomp:", "CapEff:")
            status = [line for line in file if line.startswith(kept)]
    except OSError:  # another system, or a folder that is gone
        return None
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return Surroundings(
        os.getpid(),
        entry,
        executable,
        seed,
        (sys.flags, sys.warnoptions, sys._xoptions, sys.dont_write_bytecode, sys.pycache_prefix),
        dict(os.environ),
        list(sys.argv),
        bootstrap.search_path(),
        (os.getcwd(), here.st_dev, here.st_ino),
        [stream(1), stream(2)],
        [
            status,
            [resource.getrlimit(getattr(resource, name)) for name in names],
            sorted(os.sched_getaffinity(0)),
            os.getpriority(os.PRIO_PROCESS, 0),
        ],
    )


def find(wanted: Surroundings | None) -> ZygoteStarter | None:
    """Return the waiting zygote if it was started in these surroundings and is alive; one that was not is ended."""
    with _LOCK:
        if not _WAITING:
            return None
        at, starter = _WAITING.pop()
    if at.pid != os.getpid():
        starter.abandon()  # this is a fork: the zygote is its parent's
        _FOREIGN.append(starter)
        return None
    if at == wanted and starter.rest():
        return starter
    starter.end(_END_S)
    return None


def park(at: Surroundings | None, starter: ZygoteStarter) -> None:
    """Let a zygote wait for the next run, now that its children have ended; end it where it cannot, or another one waits."""
    with _LOCK:
        fits = at is not None and not _WAITING and not _is_ending() and starter.rest()
        if fits:
            assert at is not None
            _WAITING.append((at, starter))
    if not fits:
        starter.end(_END_S)


def _is_ending() -> bool:
    """Whether the interpreter is ending, so that there will be no other run."""
    return sys.is_finalizing() or not threading.main_thread().is_alive()


def shutdown() -> None:
    """End the process that waits between runs to start workers at once; the next run starts another one.

    No effect on runs that are under way. It ends by itself with this process.
    """
    find(None)


def _forget() -> None:
    """In a fork: the zygote and the lock are the parent's."""
    global _LOCK
    _LOCK = threading.Lock()


os.register_at_fork(after_in_child=_forget)
atexit.register(shutdown)
