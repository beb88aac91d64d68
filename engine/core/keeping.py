"""Answers that are to outlive the run: what is accepted and not durable yet, and what waits for that.

Decides that nothing that follows from such an answer is released before the answer is durable, that answers become
durable in the order in which they were accepted, the order log with them, and that a worker gets no more numbers than
it may hold until its answers are. Nothing else waits: the next pools work on. How answers are kept is not known here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from msgspec import Struct

from ...nodes.ordering.budget import Pace
from ...nodes.ordering.kept_answers import KeptAnswer
from ...nodes.ordering.order_log import Entries
from ...nodes.ordering.sequencer import Sequencer
from .effects import DeliverLoose, Keep, Recall
from .pool import Pool


class _Group(Struct):
    """What becomes durable at once: its lowest number, and by pool and worker how many numbers are then off its hands."""

    id: int
    lowest: int | None
    held: list[tuple[Pool, str, int]]


class Keeping:
    """The answers of the pools with a durable handler; does nothing in a run without checkpoints."""

    def __init__(self, pools: Sequence[Pool], sequencer: Sequencer, *, enabled: bool) -> None:
        self._sequencer = sequencer
        self._pools = [(at, pool) for at, pool in enumerate(pools) if enabled and pool.wiring.durable is not None]
        self._new: list[tuple[int, KeptAnswer]] = []
        self._groups: deque[_Group] = deque()
        self._count = 0
        #: Deliveries to unordered sinks, each with the group that must be durable before.
        self._loose: deque[tuple[int, DeliverLoose]] = deque()

    @property
    def enabled(self) -> bool:
        """Whether any answers are kept."""
        return bool(self._pools)

    @property
    def waits(self) -> bool:
        """Whether anything is not durable yet, or waits for that."""
        return bool(self._groups or self._new or self._loose)

    def resume(self, number: int, known: Mapping[int, Sequence[tuple[int, int]]]) -> None:
        """Begin at a number with what is kept from there on, as runs of numbers by the index of the pool."""
        for at, pool in self._pools:
            assert pool.kept is not None
            pool.kept.resume((max(lo, number), hi) for lo, hi in known.get(at, ()) if hi > number)

    def delivery_log(self) -> Entries | None:
        """Return what a delivery must make durable itself: nothing where the answers bring the log along."""
        return None if self._pools else self._sequencer.take_log()

    def record_answer(self, at: int, answer: KeptAnswer) -> None:
        """Record an answer of the pool with index `at` that is to outlive the run."""
        self._new.append((at, answer))

    def pop_group(self) -> list[Keep]:
        """Return what is to be made durable now, as one group."""
        if not self._pools:
            return []
        held = [
            (pool, name, count) for _, pool in self._pools for name, count in pool.dispatcher.take_undurable()
        ]
        log = self._sequencer.take_log() if self._new or self._loose else None
        if not self._new and log is None:
            _let_go(held)
            return []
        self._count += 1
        self._groups.append(_Group(self._count, min((answer.lo for _, answer in self._new), default=None), held))
        keep = Keep(self._count, tuple(self._new), log, self._sequencer.positions)
        self._new = []
        return [keep]

    def record_durable(self, group: int) -> None:
        """Record that a group is durable; they become so one after the other."""
        known = self._groups.popleft()
        assert known.id == group, "answers became durable out of order"
        _let_go(known.held)

    def hold(self, loose: Sequence[DeliverLoose]) -> None:
        """Hold deliveries to unordered sinks until what they follow from is durable."""
        self._loose.extend((self._count + 1, effect) for effect in loose)

    def take_loose(self) -> list[DeliverLoose]:
        """Return the deliveries to unordered sinks that need not wait any more."""
        ready: list[DeliverLoose] = []
        first = self._groups[0].id if self._groups else self._count + 1 + (not self._new)
        while self._loose and self._loose[0][0] < first:
            ready.append(self._loose.popleft()[1])
        return ready

    def release_limit(self, frontier: int) -> int:
        """Return how far may be released: not to a number whose answer is not durable."""
        return min([frontier, *(group.lowest for group in self._groups if group.lowest is not None)])

    def recall(self, pace: Pace, head: int) -> list[Recall]:
        """Return which kept answers are wanted now."""
        asked = []
        for at, pool in self._pools:
            request = pool.kept.next_request(pace, head) if pool.kept else None
            if request is not None:
                asked.append(Recall(at, *request))
        return asked


def _let_go(held: Sequence[tuple[Pool, str, int]]) -> None:
    for pool, worker, count in held:
        pool.dispatcher.record_durable(worker, count)
