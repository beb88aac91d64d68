"""Restarts: how long the place of a dead worker was empty, from the exit that was seen to its successor's first word.

Decides nothing; it keeps what a report tells of it, the last ten thousand.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ...nodes.ordering.worker_name import WorkerName

_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Restart:
    """One dead worker, when its exit was seen and when its place was taken again (monotonic seconds)."""

    worker: str
    gone_at: float
    ready_at: float

    @property
    def seconds(self) -> float:
        """How long the place was empty."""
        return self.ready_at - self.gone_at


class Restarts:
    """The restarts of one run. A successor that dies before it takes work leaves the place empty for longer."""

    def __init__(self) -> None:
        self.made: deque[Restart] = deque(maxlen=_KEPT)
        self._empty: dict[tuple[int, int], list[tuple[str, float]]] = {}

    def gone(self, worker: str, now: float) -> None:
        """Take in that a worker has died."""
        self._empty.setdefault(_seat(worker), []).append((worker, now))

    def ready(self, worker: str, now: float) -> None:
        """Take in that a worker takes work: whoever died in its place is replaced."""
        for dead, at in self._empty.pop(_seat(worker), ()):
            self.made.append(Restart(dead, at, now))

    def quantile_s(self, share: float) -> float:
        """Give the seconds below which `share` (0..1) of the restarts took, 0 where there were none."""
        took = sorted(restart.seconds for restart in list(self.made))
        return took[min(len(took) - 1, int(share * len(took)))] if took else 0.0


def _seat(worker: str) -> tuple[int, int]:
    """Return the pool of a worker and its index in it: what it shares with its successors."""
    name = WorkerName.parse(worker)
    return name.pool, name.index
