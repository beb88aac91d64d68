"""The status page of a worker: a few numbers in a shared file that show what it works on, also when it is stuck or dead.

Decides the layout. The worker writes and the hub reads, without locks. Words are 8 bytes and written one by one, the
phase last, so the page of a worker that has not moved for a while is consistent.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from time import monotonic_ns

from msgspec import Struct

from ....nodes.dispatch.blame import LastSeen, Phase

_WORDS = 8
_PHASE, _STEP, _SEQ, _INDEX, _SINCE = range(5)


class StatusReading(Struct, frozen=True):
    """What a status page showed: the last status, and since when (seconds of this machine's monotonic clock)."""

    seen: LastSeen
    since_s: float


class StatusPage:
    """One worker's page, open for writing (in the worker, as its executor's monitor) or reading (in the hub)."""

    def __init__(self, path: Path, *, create: bool) -> None:
        flags = os.O_RDWR | (os.O_CREAT | os.O_EXCL if create else 0)
        descriptor = os.open(path, flags, 0o600)
        try:
            if create:
                _allocate(descriptor, _WORDS * 8)
            self._map = mmap.mmap(descriptor, _WORDS * 8)
        finally:
            os.close(descriptor)
        self._words = memoryview(self._map).cast("q")

    def phase(self, phase: Phase) -> None:
        """Record what the worker does now."""
        self._words[_SINCE] = monotonic_ns()
        self._words[_PHASE] = phase

    def codec(self, start: int, size: int = 0) -> None:
        """Record that events are decoded or encoded: `size` numbers from `start` on (0: it is not known how many)."""
        words = self._words
        words[_SEQ] = start
        words[_INDEX] = size
        words[_SINCE] = monotonic_ns()
        words[_PHASE] = Phase.CODEC

    def batch(self, step: int, start: int, size: int) -> None:
        """Record that a column is handled, without a record per event."""
        words = self._words
        words[_STEP] = step
        words[_SEQ] = start
        words[_SINCE] = monotonic_ns()
        words[_PHASE] = Phase.BATCH

    def event(self, step: int, seq: int, index: int) -> None:
        """Record which event is handled now."""
        words = self._words
        words[_STEP] = step
        words[_SEQ] = seq
        words[_INDEX] = index
        words[_SINCE] = monotonic_ns()
        words[_PHASE] = Phase.EVENT

    def many(self, step: int, seq: int, index: int) -> None:
        """Record that several events are handled at once, and which began last."""
        words = self._words
        words[_PHASE] = Phase.MANY
        words[_STEP] = step
        words[_SEQ] = seq
        words[_INDEX] = index
        words[_SINCE] = monotonic_ns()

    def read(self) -> StatusReading:
        """Return what the page shows."""
        words = self._words
        seen = LastSeen(Phase(words[_PHASE]), words[_STEP], words[_SEQ], words[_INDEX])
        return StatusReading(seen, words[_SINCE] / 1e9)

    def close(self) -> None:
        """Unmap the file."""
        self._words.release()
        self._map.close()


def _allocate(descriptor: int, nbytes: int) -> None:
    """Allocate the room of a file: to write where there is no room would end the process by SIGBUS."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, nbytes)
    else:
        os.truncate(descriptor, nbytes)
