"""How many numbers make a batch: as many as some milliseconds of work, learnt from what answers report.

Decides batch sizes and how many batches a worker holds; who gets which numbers is decided in `dispatch`.
"""

from __future__ import annotations

from math import ceil

#: A batch is to take so many seconds of a worker: long against what a batch costs (0.5 ms of the calling process and 0.2
#: of the worker, so this is where 1 ms of work a piece comes to 0.94 of the ideal), short for a person.
TARGET_S = 0.016
#: A worker holds more than one batch only while that cannot delay anyone for longer than this; and so many at most.
PREFETCH_BELOW_S = 0.03
DEEPEST = 4
LARGEST = 32768
GROWTH = 16
TARGET_BYTES = 4 << 20


class Pacer:
    """Learns the seconds and bytes that one number takes in one pool, and sizes batches by them.

    `size` is how many numbers the next batch may hold, `depth` how many batches a worker may hold at once; both change
    only when something is learnt. `most_bytes` is what the answer for one batch may take of the budget.
    """

    __slots__ = ("_last", "_most_bytes", "bytes_each", "depth", "seconds_each", "size")

    def __init__(self, most_bytes: int = TARGET_BYTES) -> None:
        self._most_bytes = min(most_bytes, TARGET_BYTES)
        self.seconds_each = 0.0
        self.bytes_each = 0.0
        self._last = 0
        self.size = self.depth = 1

    def learn(self, numbers: int, seconds: float, nbytes: int) -> None:
        """Take in that `numbers` numbers took `seconds` of one worker and `nbytes` on the wire."""
        if numbers <= 0:
            return
        each = seconds / numbers
        if not self._last:
            self.seconds_each, self.bytes_each = each, nbytes / numbers
        else:
            # Quick to believe that work is cheap (a first call imports and warms up), slow to believe that it is dear.
            weight = 0.5 if each < self.seconds_each else min(0.3, 0.05 + numbers / 1000)
            self.seconds_each += weight * (each - self.seconds_each)
            self.bytes_each += 0.3 * (nbytes / numbers - self.bytes_each)
        self._last = max(numbers, self._last)
        self.size = self._sized()
        batch_s, batch_bytes = self.seconds_each * self.size, self.bytes_each * self.size
        by_time = DEEPEST if batch_s * DEEPEST < PREFETCH_BELOW_S else ceil(PREFETCH_BELOW_S / batch_s)
        # The answers of all that a worker holds may take twice what one batch may.
        most = 2 * self._most_bytes
        by_bytes = DEEPEST if batch_bytes * DEEPEST <= most else max(2, int(most / batch_bytes))
        self.depth = min(by_time, by_bytes)

    def _sized(self) -> int:
        by_time = LARGEST if self.seconds_each * LARGEST <= TARGET_S else round(TARGET_S / self.seconds_each)
        most = self._most_bytes
        by_bytes = LARGEST if self.bytes_each * LARGEST <= most else int(most / self.bytes_each)
        return max(1, min(LARGEST, by_time, by_bytes, GROWTH * self._last))
