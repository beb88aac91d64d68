"""What the system has for a run, and what a run needs of it: cores, descriptors, threads, processes and memory.

Decides when a run is refused because something is missing, with an error that says what: libraries would end the process.
Acquires nothing.
"""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module
from itertools import takewhile
from typing import Any

from msgspec import Struct

from ...nodes.errors import SluicewayError
from ...nodes.program.hardware import VISIBLE

#: Descriptors of the calling process, measured: for the run, and for each child.
_RUN_DESCRIPTORS = 28
_CHILD_DESCRIPTORS = 1.5
#: Threads of the calling process: the hub, two of the socket, one that reads, and the process that starts the others.
_RUN_THREADS = 5
#: Threads of a child: its own and two of its socket.
_CHILD_THREADS = 3
#: What a worker that has done nothing needs for itself, at the least.
_CHILD_BYTES = 6 << 20


class Room(Struct, frozen=True):
    """What the system has for a run; `None` where it is unknown or without a limit."""

    descriptors: int | None = None  #: that this process may still open
    processes: int | None = None  #: processes and threads that this user, or its container, may have
    memory_bytes: int | None = None  #: of the machine


def shortage(children: int, room: Room) -> str | None:
    """Return what a run with this number of child processes lacks, and what to do, or `None` if there is room."""
    descriptors = _RUN_DESCRIPTORS + int(_CHILD_DESCRIPTORS * children)
    if room.descriptors is not None and room.descriptors < descriptors:
        return (
            f"it needs some {descriptors} descriptors and this process may open {max(0, room.descriptors)} more; raise"
            " the limit (ulimit -n), or set fewer workers"
        )
    processes = _RUN_THREADS + _CHILD_THREADS * children
    if room.processes is not None and room.processes < processes:
        return (
            f"it needs some {processes} processes and threads and only {room.processes} are allowed; raise the limit"
            " (ulimit -u, pids.max), or set fewer workers"
        )
    if room.memory_bytes is not None and room.memory_bytes < _CHILD_BYTES * children:
        return (
            f"its processes need {_CHILD_BYTES * children / 2**30:.1f} GiB at the least and this machine has"
            f" {room.memory_bytes / 2**30:.1f}; set fewer workers, about as many as there are cores"
        )
    return None


def machine_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if VISIBLE in os.environ:
        named = [name.strip() for name in os.environ[VISIBLE].split(",")]
        return list(takewhile(lambda name: name not in ("", "-1"), named))  # so does CUDA
    try:
        found = [name.removeprefix("nvidia") for name in os.listdir("/dev") if name.startswith("nvidia")]
    except FileNotFoundError:  # another system
        return []
    return sorted((name for name in found if name.isdigit()), key=int)


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    import psutil  # imported here because it takes 10 ms; only runs without a given number of workers need it

    if hasattr(psutil.Process, "cpu_affinity"):  # Linux, Windows, FreeBSD
        return len(psutil.Process().cpu_affinity())
    return psutil.cpu_count() or 1


def check_room(children: int) -> None:
    """Raise `SluicewayError` if the system has no room for this number of child processes."""
    lacks = shortage(children, room_now())
    if lacks is None and not _threads_can_start():
        lacks = (
            "no more threads can be started; raise the limit of threads (ulimit -u, pids.max) or of memory (ulimit -v), or"
            " end other processes"
        )
    if lacks is not None:
        raise SluicewayError(f"cannot start a run of {children} processes: {lacks}")


def room_now() -> Room:
    """Return what the system has now."""
    try:
        resource: Any = import_module("resource")
    except ImportError:  # Windows
        return Room()
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = None if limit == resource.RLIM_INFINITY else limit - _open_descriptors(limit)
    allowed = [_number_in(path) for path in ("/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max", _PIDS_MAX)]
    user = resource.getrlimit(resource.RLIMIT_NPROC)[0] if hasattr(resource, "RLIMIT_NPROC") else -1
    if user != resource.RLIM_INFINITY and hasattr(os, "getuid") and os.getuid() != 0:
        allowed.append(user)
    known = [number for number in allowed if number is not None]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_PHYS_PAGES" in os.sysconf_names else None
    return Room(descriptors, min(known, default=None), memory)


_PIDS_MAX = "/sys/fs/cgroup/pids.max"


def _open_descriptors(limit: int) -> int:
    """Return how many descriptors below the limit this process has open."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return sum(int(name) < limit for name in os.listdir(folder))
        except FileNotFoundError:
            continue
        except OSError:  # not even one is left to list the folder
            return limit
    return 0


def _number_in(path: str) -> int | None:
    if sys.platform != "linux":
        return None
    try:
        with open(path, "rb") as file:
            text = file.read().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _threads_can_start() -> bool:
    """Whether as many threads as a run needs in this process can be started; tried, because no figure of the system tells."""
    end = threading.Event()
    started = []
    try:
        for _ in range(_RUN_THREADS):
            thread = threading.Thread(target=end.wait, name="sluiceway-probe", daemon=True)
            thread.start()
            started.append(thread)
    except (RuntimeError, MemoryError):
        return False
    finally:
        end.set()
        for thread in started:
            thread.join()
    return True
