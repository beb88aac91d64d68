"""What a stateful pool keeps so that a dead worker's state can be made again: the last snapshot, and all since.

Decides when a new snapshot is asked for beside those of the cuts: when what is kept passes a share of the budget, so
that the budget never waits for a timer; and earlier where workers die before they get so far, for they would all begin
at the same number again.
"""

from __future__ import annotations

#: A snapshot is asked for when the inputs since the last one take one part in so many of the budget in bytes, and of a
#: pool among many so early that the inputs of all together take one part in `ALL_POOLS_SHARE`; or when they are so many numbers:
#: half as many after every loss of a state, twice as many again after every snapshot.
POOL_SHARE = 8
ALL_POOLS_SHARE = 2
MAX_NUMBERS = 1 << 16


def share_of(limit_bytes: int, pools: int) -> int:
    """Give what the inputs of each of so many pools may take of a budget."""
    return limit_bytes // max(POOL_SHARE, ALL_POOLS_SHARE * pools)


class Retention:
    """The state of one pool as of `upto`: `packed` is it behind all numbers below, `None` for the initial one."""

    def __init__(self, most_bytes: int) -> None:
        self.upto = 0
        self.packed: bytes | None = None
        self.asked: int | None = None  #: the number of the snapshot that is asked for and has not come
        self._max_bytes = most_bytes
        self._max_numbers = MAX_NUMBERS
        self._kept_bytes = 0

    def resume(self, number: int, packed: bytes | None) -> None:
        """Begin with the state that an earlier run has saved."""
        self.upto, self.packed = number, packed

    def record_inputs(self, nbytes: int) -> None:
        """Take in that so many bytes of inputs were answered for the first time."""
        self._kept_bytes += nbytes

    def is_snapshot_due(self, handed: int) -> bool:
        """Whether a snapshot below `handed`, the next number to be handed out, should be asked for."""
        if self.asked is not None or handed <= self.upto:
            return False
        return self._kept_bytes > self._max_bytes or handed - self.upto >= self._max_numbers

    def record_request(self, n: int) -> None:
        """Take in that the worker is asked for its state behind the numbers below `n`, all of which it was handed."""
        self.asked = n

    def record_snapshot(self, n: int, packed: bytes, nbytes: int) -> None:
        """Take in a snapshot: only the inputs from `n` on are kept, of which so many bytes were answered."""
        self.upto, self.packed, self.asked = n, packed, None
        self._kept_bytes = nbytes
        self._max_numbers = min(MAX_NUMBERS, 2 * self._max_numbers)

    def record_loss(self, handed: int) -> None:
        """Take in that the worker is gone, and with it the state that it made of the numbers below `handed`."""
        self.asked = None
        if handed > self.upto:
            self._max_numbers = max(1, self._max_numbers // 2)
