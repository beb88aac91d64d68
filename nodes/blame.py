"""Who is to blame when a worker dies: which events are suspect, and when one has killed often enough.

Decides verdicts. A death on a known call counts against that call; a death that no single event explains counts
against every number of the run, which is then handed out in halves until one number stands alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import IntEnum

from .program import CallName, Step, Verdict


class Phase(IntEnum):
    """What a worker was doing when it was last heard of."""

    START = 0
    IDLE = 1
    CODEC = 2
    BATCH = 3  #: somewhere in a column, without marks per event
    EVENT = 4  #: in the handler, on one known event
    MANY = 5  #: several events under way at once
    CLOSE = 6


@dataclass(frozen=True, slots=True)
class LastSeen:
    """The last word of a worker: its phase and, for `EVENT`, the call it was in."""

    phase: Phase
    step: int = 0
    seq: int = 0
    index: int = 0


@dataclass(slots=True)
class _Suspicion:
    start: int
    stop: int


class Blame:
    """Keeps the deaths and time-outs of one pool's events."""

    def __init__(self, steps: tuple[Step, ...], max_deaths: int | None) -> None:
        self._steps = steps
        self._max_deaths = max_deaths
        self._deaths: Counter[CallName] = Counter()
        self._suspicions: list[_Suspicion] = []
        self.used: dict[CallName, int] = {}
        self.verdicts: dict[CallName, Verdict] = {}

    def call_of(self, seen: LastSeen) -> CallName:
        """Give the name of the call that a worker was last seen in."""
        return self._steps[seen.step].node, seen.seq, seen.index

    def died_on(self, call: CallName, cause: str) -> None:
        """Count a death against one call; decree its failure when it has killed `max_deaths` workers."""
        self._deaths[call] += 1
        deaths = self._deaths[call] + sum(1 for s in self._suspicions if s.start <= call[1] < s.stop)
        if self._max_deaths is not None and deaths >= self._max_deaths:
            self.verdicts[call] = Verdict("died", f"WorkerDied: {cause}", deaths)

    def suspect(self, start: int, stop: int, cause: str, step: int) -> list[tuple[int, int]]:
        """Count a death against the numbers `start .. stop - 1` and give the parts in which to hand them out again."""
        if stop - start == 1:
            self.died_on((self._steps[step].node, start, 0), cause)
            return [(start, stop)]
        self._suspicions.append(_Suspicion(start, stop))
        middle = (start + stop) // 2
        return [(start, middle), (middle, stop)]

    def timed_out(self, call: CallName, limit_s: float) -> None:
        """Count a time-out as an attempt; decree its failure when the retries are used up."""
        step = next(step for step in self._steps if step.node == call[0])
        self.used[call] = self.used.get(call, 0) + 1
        if self.used[call] > step.retries:
            text = f"HandlerTimeout: still running after timeout_s={limit_s:g}"
            self.verdicts[call] = Verdict("timeout", text, self.used[call])

    def forget(self, below: int) -> None:
        """Drop what was known of numbers that are released."""
        if not (self._suspicions or self._deaths or self.used or self.verdicts):
            return
        self._suspicions = [s for s in self._suspicions if s.stop > below]
        for known in (self._deaths, self.used, self.verdicts):
            for call in [call for call in known if call[1] < below]:
                del known[call]

    def concerns(self, start: int, stop: int) -> bool:
        """Whether any number of the run is under suspicion, so that it must be handled carefully."""
        return any(s.start < stop and start < s.stop for s in self._suspicions) or any(
            start <= call[1] < stop for known in (self._deaths, self.used, self.verdicts) for call in known
        )
