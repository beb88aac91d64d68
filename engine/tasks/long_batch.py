"""Splits batches that take long, from a thread beside the worker.

Decides when: a batch is sized to take some milliseconds, judged by earlier events. One that takes many times as long has
reached slower events, and other workers should get most of it.
"""

from __future__ import annotations

import threading

from ...nodes.execution.batch_split import BatchSplitter
from ..interpreter.forks import call_in_forks

#: A batch is split when it has taken between this long and twice as long, in seconds.
LONG_BATCH_S = 0.05


class LongBatchWatcher:
    """Watches what one worker runs between `begin_run` and `end_run`, and splits it with `splitter`."""

    def __init__(self) -> None:
        self.splitter = BatchSplitter()
        call_in_forks(self.splitter.after_fork)
        self._count = 0  # odd while a batch runs
        self._wanted = threading.Event()
        self._tick = threading.Event()  # never set
        threading.Thread(target=self._watch, name="sluiceway-watch", daemon=True).start()

    def begin_run(self) -> None:
        """Record that the worker begins to run a batch."""
        self._count += 1
        if not self._wanted.is_set():
            self._wanted.set()

    def end_run(self) -> None:
        """Record that the batch is done."""
        self._count += 1

    def _watch(self) -> None:
        seen = 0
        while self._wanted.wait():
            count = self._count
            if count == seen and count % 2:
                self.splitter.split()
            elif count == seen:
                self._wanted.clear()
                if self._count != count:  # a batch began before the flag was cleared
                    self._wanted.set()
            seen = count
            self._tick.wait(LONG_BATCH_S)
