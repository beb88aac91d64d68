"""How many numbers make a batch: as many as some milliseconds of work, learnt from what answers report.

Decides batch sizes and how many batches a worker holds; who gets which numbers is decided in `dispatcher`.
"""

from __future__ import annotations

from math import ceil

#: What a batch should take of a worker, in seconds: long compared with its overhead (0.5 ms of the calling process and 0.2
#: of the worker, so that handlers of 1 ms reach 0.94 of the ideal), short for a person.
TARGET_S = 0.016
#: The same for each worker of the run: batches of this length keep the calling process busy for half of its time.
TARGET_PER_WORKER_S = 0.001
#: A worker holds more than one batch only while that delays nobody for longer than this, and never more than
#: `MAX_PREFETCH`. It grows as the batches do.
PREFETCH_BELOW_S = 0.03
MAX_PREFETCH = 4
MAX_BATCH = 32768
MAX_GROWTH = 16
TARGET_BYTES = 4 << 20


class BatchSizer:
    """Learns the seconds and bytes that one number takes in one pool, and sizes batches by them.

    `size` is how many numbers the next batch may hold, `depth` how many batches a worker may hold at once; both change
    only when something is learnt. `max_bytes` is what the answer for one batch may take of the budget, `workers` how many
    workers the run has.
    """

    __slots__ = ("_last", "_max_bytes", "_target_s", "bytes_each", "depth", "seconds_each", "size")

    def __init__(self, max_bytes: int = TARGET_BYTES, workers: int = 1) -> None:
        self._max_bytes = min(max_bytes, TARGET_BYTES)
        self._target_s = max(TARGET_S, workers * TARGET_PER_WORKER_S)
        self.seconds_each = 0.0
        self.bytes_each = 0.0
        self._last = 0
        self.size = self.depth = 1

    def learn(self, numbers: int, seconds: float, nbytes: int) -> None:
        """Record that `numbers` numbers took `seconds` of one worker and `nbytes` on the wire."""
        if numbers <= 0:
            return
        each = seconds / numbers
        if not self._last:
            self.seconds_each, self.bytes_each = each, nbytes / numbers
        else:
            # Quick to react when work gets faster (a first call imports and warms up), slow when it gets slower.
            weight = 0.5 if each < self.seconds_each else min(0.3, 0.05 + numbers / 1000)
            self.seconds_each += weight * (each - self.seconds_each)
            self.bytes_each += 0.3 * (nbytes / numbers - self.bytes_each)
        self._last = max(numbers, self._last)
        self.size = self._sized()
        batch_s, batch_bytes = self.seconds_each * self.size, self.bytes_each * self.size
        below_s = PREFETCH_BELOW_S * self._target_s / TARGET_S
        by_time = MAX_PREFETCH if batch_s * MAX_PREFETCH < below_s else ceil(below_s / batch_s)
        # The answers of all that a worker holds may take twice what one batch may.
        most = 2 * self._max_bytes
        by_bytes = MAX_PREFETCH if batch_bytes * MAX_PREFETCH <= most else max(2, int(most / batch_bytes))
        self.depth = min(by_time, by_bytes)

    def _sized(self) -> int:
        by_time = MAX_BATCH if self.seconds_each * MAX_BATCH <= self._target_s else round(self._target_s / self.seconds_each)
        most = self._max_bytes
        by_bytes = MAX_BATCH if self.bytes_each * MAX_BATCH <= most else int(most / self.bytes_each)
        return max(1, min(MAX_BATCH, by_time, by_bytes, MAX_GROWTH * self._last))
