"""What the sources of a run are asked for, and when their reading stops.

Decides how much each is asked for: together no more than the budget has room for and the pools want, the share of each
such that a silent one does not hold up the others. How a source is read is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...nodes.ordering.budget import Budget
from ...nodes.ordering.sequencer import Sequencer
from .effects import Pull, StopSource
from .pool import Pool
from .topology import SOURCE_STREAM

#: The largest pull, in events and in bytes.
MAX_PULL_NUMBERS = 32768
MAX_PULL_BYTES = 4 << 20
#: How far a graph without handlers reads ahead of its sinks, in events.
PLAIN_LOOKAHEAD = 16384


class SourceCredit:
    """The pulls that sources have not answered. Record what they answer; it returns effects."""

    def __init__(self, sequencer: Sequencer, remote: Sequence[bool], pools: Sequence[Pool], budget: Budget) -> None:
        self.stopped = False
        self._budget = budget
        self._has_pools = bool(pools)
        #: The pools that read the sources, and how many tasks ahead their events are asked for.
        self._first = [pool for pool in pools if SOURCE_STREAM in pool.wiring.ports]
        self._lookahead = int(any(remote))
        self._sequencer = sequencer
        self._pulls: list[list[int]] = [[] for _ in remote]
        #: A source in another process is asked twice in advance: its answers take longer.
        self._max_pulls = [2 if far else 1 for far in remote]
        self._max_bytes = min(MAX_PULL_BYTES, budget.limit_bytes)

    def record_answer(self, source: int) -> None:
        """Record that a source has answered a pull."""
        if self._pulls[source]:
            self._pulls[source].pop(0)

    def record_end(self, source: int) -> None:
        """Record that a source has ended."""
        self._pulls[source].clear()

    def stop(self) -> list[StopSource]:
        """Ask for nothing more."""
        if self.stopped:
            return []
        self.stopped = True
        return [StopSource(source) for source in range(len(self._pulls)) if not self._sequencer.has_ended(source)]

    def pull(self, in_flight: int) -> list[Pull]:
        """Ask for what the pools want beyond the numbers in flight, as far as the budget has room for it."""
        free = self._free()
        room = self._budget.room(in_flight) if free else 0
        wanted = self._wanted(in_flight) if room else 0
        asked: list[Pull] = []
        while wanted > 0 and (pulls := self._ask(free, room, wanted)):
            asked += pulls
            free = self._free()  # a source in another process is asked in advance
        return asked

    def _wanted(self, in_flight: int) -> int:
        if not self._has_pools:
            return PLAIN_LOOKAHEAD - in_flight
        return max([pool.wanted(self._lookahead) for pool in self._first])

    def _free(self) -> list[int]:
        """Return the sources that may be asked."""
        if self.stopped:
            return []
        return [
            source
            for source, pulls in enumerate(self._pulls)
            if len(pulls) < self._max_pulls[source] and not self._sequencer.has_ended(source)
        ]

    def _ask(self, free: Iterable[int], room: int, wanted: int) -> list[Pull]:
        """Ask the sources that may be asked for what is wanted, as far as there is room for it (both in numbers)."""
        sequencer = self._sequencer
        asked = [sum(pulls) for pulls in self._pulls]
        buffered = [sequencer.buffered(source) for source in range(len(self._pulls))]
        room -= sum(asked) + sum(buffered)
        merging = sequencer.merges
        live = sum(not sequencer.has_ended(source) for source in range(len(self._pulls)))
        # A merge needs the same amount of each; otherwise each has a share, so that a silent one does not hold up the others.
        share = wanted if merging else -(-(wanted - sum(buffered)) // live)
        pulls = []
        for source in free:
            there = asked[source] + (buffered[source] if merging else 0)
            # A source of which nothing waits is asked for at least one event, because others may never go on without it.
            most = room if asked[source] or buffered[source] else max(room, 1)
            count = min(share - there, most, MAX_PULL_NUMBERS, sequencer.remaining or MAX_PULL_NUMBERS)
            if count > 0:
                room -= count
                self._pulls[source].append(count)
                pulls.append(Pull(source, count, self._max_bytes))
        return pulls
