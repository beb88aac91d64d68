"""The watch over a worker's runs: a thread beside it that cuts short those that take long.

Decides when: a batch is sized for some milliseconds by what events took so far, so one that takes many times as long has
come to events of another kind, and most of it is better off in other hands.
"""

from __future__ import annotations

import os
import threading

from ...nodes.execution.batch_split import BatchSplitter

#: A run is cut when it has taken between this long and twice as long, in seconds.
LONG_BATCH_S = 0.05


class LongBatchWatcher:
    """Looks at the runs of one worker between `begin` and `end`, and splits them with its `splitter`."""

    def __init__(self) -> None:
        self.splitter = BatchSplitter()
        os.register_at_fork(after_in_child=self.splitter.after_fork)
        self._count = 0  # odd while a run is under way
        self._wanted = threading.Event()
        self._tick = threading.Event()  # never set
        threading.Thread(target=self._watch, name="sluiceway-watch", daemon=True).start()

    def begin_run(self) -> None:
        """Say that a run begins."""
        self._count += 1
        if not self._wanted.is_set():
            self._wanted.set()

    def end_run(self) -> None:
        """Say that it is over."""
        self._count += 1

    def _watch(self) -> None:
        seen = 0
        while self._wanted.wait():
            count = self._count
            if count == seen and count % 2:
                self.splitter.split()
            elif count == seen:
                self._wanted.clear()
                if self._count != count:  # a run has begun before the flag was down
                    self._wanted.set()
            seen = count
            self._tick.wait(LONG_BATCH_S)
