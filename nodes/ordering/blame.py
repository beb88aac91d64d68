"""Who is to blame when a worker dies: which events are suspect, and when one has killed often enough.

Decides verdicts. A death on a known call counts against that call; a death that no single event explains is held
against every number of the run, which is then handed out in halves until one number stands alone. Who is caught takes
the deaths around it on itself, and its neighbours are cleared.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import IntEnum

from ..program.program import CallName, Step, Verdict


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


class Blame:
    """Keeps the deaths and time-outs of one pool's events."""

    def __init__(self, steps: tuple[Step, ...], max_deaths: int | None) -> None:
        self._steps = steps
        self._max_deaths = max_deaths
        self._deaths: Counter[CallName] = Counter()
        #: Deaths that no single event explains: for each the runs of numbers, one of which is to blame.
        self._suspicions: list[list[tuple[int, int]]] = []
        self._numbers: Counter[int] = Counter()
        self.used: dict[CallName, int] = {}
        self.verdicts: dict[CallName, Verdict] = {}

    def call_of(self, seen: LastSeen) -> CallName:
        """Give the name of the call that a worker was last seen in."""
        return self._steps[seen.step].node, seen.seq, seen.index

    def died_on(self, call: CallName, cause: str) -> None:
        """Count a death against one call; decree its failure when it has killed `max_deaths` workers."""
        self._deaths[call] += 1 + self._explain(call[1])
        self._judge(call, cause)

    def _judge(self, call: CallName, cause: str) -> None:
        deaths = self._deaths[call] + self._numbers[call[1]]
        if self._is_enough(deaths):
            self.verdicts[call] = Verdict("died", f"WorkerDied: {cause}", deaths)

    def _is_enough(self, deaths: int) -> bool:
        return self._max_deaths is not None and deaths >= self._max_deaths

    def died_with(self, number: int, cause: str) -> Verdict | None:
        """Count a death against a number that stood alone, outside its handlers; give the verdict when it is due.

        No worker can carry this verdict out, for it dies before or after its handlers: the engine answers itself.
        """
        self._numbers[number] += 1 + self._explain(number)
        for call in [call for call in self._deaths if call[1] == number]:
            self._judge(call, cause)
        deaths = self._numbers[number]
        return Verdict("died", f"WorkerDied: {cause}", deaths) if self._is_enough(deaths) else None

    def suspect(self, parts: list[tuple[int, int]]) -> None:
        """Hold a death against the numbers of these runs, one of which is to blame."""
        self._suspicions.append(parts)

    def _explain(self, number: int) -> int:
        """Give how many deaths are held against a number, and hold them against nobody else from now on."""
        others = [parts for parts in self._suspicions if not any(lo <= number < hi for lo, hi in parts)]
        explained = len(self._suspicions) - len(others)
        self._suspicions = others
        return explained

    def timed_out(self, call: CallName, limit_s: float) -> None:
        """Count a time-out as an attempt; decree its failure when the retries are used up."""
        step = next(step for step in self._steps if step.node == call[0])
        self.used[call] = self.used.get(call, 0) + 1
        if self.used[call] > step.options.retries:
            text = f"HandlerTimeout: still running after timeout_s={limit_s:g}"
            self.verdicts[call] = Verdict("timeout", text, self.used[call])

    def forget(self, below: int) -> None:
        """Drop what was known of numbers that are released."""
        if not (self._suspicions or self._deaths or self._numbers or self.used or self.verdicts):
            return
        for number in [number for number in self._numbers if number < below]:
            del self._numbers[number]
        self._suspicions = [parts for parts in self._suspicions if any(hi > below for _, hi in parts)]
        for known in (self._deaths, self.used, self.verdicts):
            for call in [call for call in known if call[1] < below]:
                del known[call]

    def concerns(self, start: int, stop: int) -> bool:
        """Whether any number of the run is under suspicion, so that it must be handled carefully."""
        return (
            any(lo < stop and start < hi for parts in self._suspicions for lo, hi in parts)
            or any(start <= number < stop for number in self._numbers)
            or any(start <= call[1] < stop for known in (self._deaths, self.used, self.verdicts) for call in known)
        )
