"""The clock by which work is measured: time as it passes, without the time in which this thread waited for a core.

Decides that batches do not shrink because others use the machine: a handler that computes is charged with what it
computes, one that waits with what it waits. The kernel of Linux tells how long a thread was runnable without running
(/proc/PID/schedstat, second field, in nanoseconds: Documentation/scheduler/sched-stats.rst); elsewhere all time counts.
"""

from __future__ import annotations

import os
from time import perf_counter

_STATS = "/proc/thread-self/schedstat"


def work_time() -> float:
    """Return the seconds on this thread's clock; only differences mean something, and only within one thread."""
    now = perf_counter()
    try:
        descriptor = os.open(_STATS, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # another system, or a kernel that does not count
        return now
    try:
        return now - int(os.read(descriptor, 64).split()[1]) * 1e-9
    finally:
        os.close(descriptor)
