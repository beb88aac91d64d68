"""Measures restarts: the time from a worker's exit until another one in its seat takes work.

Decides nothing; it keeps the last ten thousand for the report.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from ...nodes.dispatch.worker_name import WorkerName

MAX_RESTARTS = 10_000


class Restart(Struct, frozen=True):
    """One worker that died, when its exit was seen and when its successor took work (monotonic seconds)."""

    worker: str
    exited_at: float
    ready_at: float

    @property
    def seconds(self) -> float:
        """How long the seat was empty."""
        return self.ready_at - self.exited_at


class Restarts:
    """The restarts of one run. If a successor dies before it takes work, the seat stays empty for longer."""

    def __init__(self) -> None:
        self.made: deque[Restart] = deque(maxlen=MAX_RESTARTS)
        self._exits: dict[tuple[int, int], list[tuple[str, float]]] = {}

    def record_exit(self, worker: str, now: float) -> None:
        """Record that a worker has died."""
        self._exits.setdefault(_seat_of(worker), []).append((worker, now))

    def record_ready(self, worker: str, now: float) -> None:
        """Record that a worker takes work: it replaces all that died in its seat before."""
        for dead, at in self._exits.pop(_seat_of(worker), ()):
            self.made.append(Restart(dead, at, now))

    def quantile_s(self, share: float) -> float:
        """Return the seconds within which `share` (0..1) of the restarts were done, 0 if there were none."""
        took = sorted(restart.seconds for restart in list(self.made))
        return took[min(len(took) - 1, int(share * len(took)))] if took else 0.0


def _seat_of(worker: str) -> tuple[int, int]:
    """Return the pool of a worker and its index in it: what it shares with its successors."""
    name = WorkerName.parse(worker)
    return name.pool, name.index
