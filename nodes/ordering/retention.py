"""What a stateful pool keeps to rebuild the state of a dead worker: the last snapshot, and how much came since.

Decides when a snapshot is due beside those of the cuts: when what is kept passes a share of the budget, so that the
budget never waits for a timer; and earlier if workers die before they get that far, because they would all begin at
the same number again.
"""

from __future__ import annotations

#: A snapshot is due when the inputs since the last one take 1 / `POOL_SHARE` of the budget in bytes, or, with many
#: stateful pools, when the inputs of all together may take 1 / `ALL_POOLS_SHARE`; or when they are `MAX_NUMBERS` numbers:
#: half as many after every loss of a state, twice as many again after every snapshot.
POOL_SHARE = 8
ALL_POOLS_SHARE = 2
MAX_NUMBERS = 1 << 16


def share_of(limit_bytes: int, pools: int) -> int:
    """Return the bytes of a budget that the inputs of each of `pools` stateful pools may take."""
    return limit_bytes // max(POOL_SHARE, ALL_POOLS_SHARE * pools)


class Retention:
    """The state of one pool as of `upto`: `packed` is it behind all numbers below, `None` for the initial one."""

    def __init__(self, most_bytes: int) -> None:
        self.upto = 0
        self.packed: bytes | None = None
        self.asked: int | None = None  #: the number of the snapshot that was requested and has not arrived
        self._max_bytes = most_bytes
        self._max_numbers = MAX_NUMBERS
        self._kept_bytes = 0

    def resume(self, number: int, packed: bytes | None) -> None:
        """Begin with the saved state of an earlier run."""
        self.upto, self.packed = number, packed

    def record_inputs(self, nbytes: int) -> None:
        """Record that `nbytes` of inputs were answered for the first time."""
        self._kept_bytes += nbytes

    def is_snapshot_due(self, handed: int) -> bool:
        """Whether a snapshot below `handed`, the next number to be handed out, should be asked for."""
        if self.asked is not None or handed <= self.upto:
            return False
        return self._kept_bytes > self._max_bytes or handed - self.upto >= self._max_numbers

    def record_request(self, n: int) -> None:
        """Record that the worker is asked for its state behind the numbers below `n`, all of which it was handed."""
        self.asked = n

    def record_snapshot(self, n: int, packed: bytes, nbytes: int) -> None:
        """Record a snapshot: only the inputs from `n` on are kept, of which `nbytes` were answered."""
        self.upto, self.packed, self.asked = n, packed, None
        self._kept_bytes = nbytes
        self._max_numbers = min(MAX_NUMBERS, 2 * self._max_numbers)

    def record_loss(self, handed: int) -> None:
        """Record that the worker has exited and its state is lost, which had the numbers below `handed`."""
        self.asked = None
        if handed > self.upto:
            self._max_numbers = max(1, self._max_numbers // 2)
