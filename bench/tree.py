"""The process tree: CPU seconds and memory of this process and all that descend from it.

Decides what counts. CPU is that of this process and of every descendant, living or gone: one that is gone is in the
figures of whoever waited for it, and the zygote of sluiceway waits for its workers and is itself waited for. Memory is
the proportional share (PSS) where the kernel reports it, so that pages shared by fork or by shared memory count once.
"""

from __future__ import annotations

import resource
import threading
from contextlib import suppress
from pathlib import Path

import psutil


def descendants(root: int | None = None) -> list[int]:
    """Return the living descendants of a process (this one by default), without itself."""
    return [process.pid for process in _below(root)]


def cpu_seconds() -> float:
    """Return the CPU seconds, user and system, of this process and all its descendants up to now."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    for process in _below(None):
        with suppress(psutil.Error):
            times = process.cpu_times()
            # of its own and of the children it has waited for
            total += times.user + times.system + times.children_user + times.children_system
    return total


def memory_bytes(root: int | None = None) -> dict[int, int]:
    """Return the memory of a process (this one by default) and its living descendants: PSS where it can be read, else RSS."""
    found = {}
    for process in (psutil.Process(root), *_below(root)):
        with suppress(psutil.Error):
            size = _pss(process)
            found[process.pid] = process.memory_info().rss if size is None else size
    return found


def high_water_bytes(pid: int) -> int | None:
    """Return the peak RSS of a process, as Linux records it; `None` if it has ended.

    psutil does not report it.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), None)


def has_pss() -> bool:
    """Whether the kernel reports the proportional share of a process."""
    return _pss(psutil.Process()) is not None


class MemoryWatch:
    """Samples the memory of the tree until closed; `peak` is the most of all processes together, in bytes.

    `growth` is, for the process that grew most, how far it rose above its first sample.
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
        """Return the greatest growth of one process in bytes."""
        return max(self.most[pid] - first for pid, first in self.first.items())

    def _watch(self) -> None:
        while not self._over.wait(self._interval_s):
            self.sample()


def _below(root: int | None) -> list[psutil.Process]:
    try:
        return psutil.Process(root).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _pss(process: psutil.Process) -> int | None:
    """Return the proportional share of a process, `None` if the system does not report it; raises `psutil.NoSuchProcess`."""
    try:
        return getattr(process.memory_full_info(), "pss", None)
    except psutil.AccessDenied:
        return None
