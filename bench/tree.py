"""The process tree: CPU seconds and memory of this process and all that descend from it, read from /proc.

Decides what counts. CPU is that of this process and of every descendant, living or gone: one that is gone is in the
figures of whoever waited for it, and the zygote of sluiceway waits for its workers and is itself waited for. Memory is
the proportional share (PSS) where the kernel tells, so that pages shared by fork or by shared memory count once.
"""

from __future__ import annotations

import os
import resource
import threading
from collections import defaultdict
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def descendants(root: int | None = None) -> list[int]:
    """Give the living descendants of a process (this one by default), without itself."""
    children: dict[int, list[int]] = defaultdict(list)
    for name in os.listdir(_PROC):
        if name.isdigit() and (fields := _stat(int(name))) is not None:
            children[int(fields[1])].append(int(name))
    found, rest = [], [os.getpid() if root is None else root]
    while rest:
        below = children[rest.pop()]
        found += below
        rest += below
    return found


def cpu_seconds() -> float:
    """Give the CPU seconds, user and system, of this process and all its descendants up to now."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    for pid in descendants():
        fields = _stat(pid)
        if fields is not None:
            # user and system time of its own and of the children it has waited for
            total += sum(map(int, fields[11:15])) * _TICK_S
    return total


def memory_bytes(root: int | None = None) -> dict[int, int]:
    """Give the memory of a process (this one by default) and its living descendants: PSS where it can be read, else RSS."""
    found = {}
    for pid in (os.getpid() if root is None else root, *descendants(root)):
        size = _pss(pid)
        if size is None:
            size = _rss(pid)
        if size is not None:
            found[pid] = size
    return found


def high_water_bytes(pid: int) -> int | None:
    """Give the most memory that a process ever had, RSS as the kernel keeps it; `None` where it has ended."""
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), None)


def has_pss() -> bool:
    """Tell whether the kernel gives the proportional share of a process."""
    return _pss(os.getpid()) is not None


class MemoryWatch:
    """Samples the memory of the tree until closed; `peak` is the most of all processes together, in bytes.

    `growth` is, for the process that grew most, how far it rose above what it had when it was first seen.
    """

    def __init__(self, interval_s: float = 0.02) -> None:
        self.peak = 0
        self.peak_of_one = 0
        self.first: dict[int, int] = {}
        self.most: dict[int, int] = {}
        self.samples = 0
        self._interval_s = interval_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-watch", daemon=True)

    def __enter__(self) -> MemoryWatch:
        self.sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def sample(self) -> None:
        """Look once."""
        now = memory_bytes()
        self.samples += 1
        self.peak = max(self.peak, sum(now.values()))
        self.peak_of_one = max(self.peak_of_one, *now.values())
        for pid, size in now.items():
            self.first.setdefault(pid, size)
            self.most[pid] = max(self.most.get(pid, 0), size)

    @property
    def growth(self) -> int:
        """Give the greatest growth of one process in bytes."""
        return max(self.most[pid] - first for pid, first in self.first.items())

    def _watch(self) -> None:
        while not self._over.wait(self._interval_s):
            self.sample()


def _stat(pid: int) -> list[bytes] | None:
    """Give the fields of /proc/PID/stat behind the name: state, parent, ..."""
    try:
        return (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:  # it has ended meanwhile
        return None


def _pss(pid: int) -> int | None:
    try:
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    except OSError:
        return None
    return None


def _rss(pid: int) -> int | None:
    try:
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
