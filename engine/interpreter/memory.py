"""When a worker collects garbage besides Python's own counts: when its memory has grown.

Decides by how much. Python counts objects: a few that refer to each other, each with megabytes behind it, are not collected
for long, because a worker's thresholds are high.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable

#: Memory may grow by this many bytes, and by this share, from one collection to the next.
_GROWTH_BYTES = 64 << 20
_GROWTH_SHARE = 0.25


class GrowthCollector:
    """Collects when the resident memory of this process has grown since the last time; `rss` returns it in bytes."""

    def __init__(self, rss: Callable[[], int], collect: Callable[[], object] = gc.collect) -> None:
        self._rss = rss
        self._collect = collect
        self._due = self._next(rss())

    @staticmethod
    def of_this_process() -> GrowthCollector | None:
        """Return a collector for this process, or `None` where the system does not tell its memory at little cost."""
        try:
            status = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # not Linux
            return None
        page = os.sysconf("SC_PAGE_SIZE")
        return GrowthCollector(lambda: int(os.pread(status, 64, 0).split()[1]) * page)

    def collect_if_grown(self) -> None:
        """Collect if the memory has grown by enough; costs a few µs otherwise."""
        try:
            if self._rss() >= self._due:
                self._collect()
                self._due = self._next(self._rss())
        except OSError:  # a handler has closed every descriptor: Python's own counts are left
            self._due = 1 << 62

    def _next(self, now: int) -> int:
        return now + max(_GROWTH_BYTES, int(now * _GROWTH_SHARE))
