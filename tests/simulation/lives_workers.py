"""Fake workers that keep a state, and the plain computation of what every number must give, states included.

The state is a hash of all inputs in their order, so one that is lost, doubled or out of order shows for ever after.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lives_scenario import Scenario
from sim_scenario import Reference
from sim_workers import Job, PlainWorker
from sluiceway.nodes.ordering.segments import ExitData

_PRIME = (1 << 31) - 1


def absorb(
    scenario: Scenario, pool: int, state: int, number: int, inputs: list[int], *, end: bool
) -> tuple[int, list[list[int]]]:
    """Return the state behind a number, and what each exit of the pool gives for it."""
    wiring, script = scenario.wiring.pools[pool], scenario.pools[pool]
    rows: list[list[int]] = [[] for _ in wiring.exits]
    for event in inputs:
        state = (state * 69_621 + event + 1) % _PRIME
        for row, stream in zip(rows, wiring.exits, strict=True):
            row += [(state + stream + k) % _PRIME for k in range(script.growths[(number + stream) % len(script.growths)])]
    if end and scenario.final[pool]:
        for row in rows:
            row.append(state)
    return state, rows


@dataclass(slots=True)
class Truth(Reference):
    """What the numbers of one life must give; `tokens` has `None` for the end of the input."""

    _states: dict[int, list[int]] = field(default_factory=dict)

    def stream(self, stream: int, number: int) -> list[int]:
        """Return the events that a stream holds for a number."""
        if not stream and self.tokens[number] is None:
            return []
        pool = self._maker.get(stream)
        if pool is None or not self.scenario.wiring.pools[pool].stateful:
            return Reference.stream(self, stream, number)
        self.state(pool, number + 1)
        return self._known[stream, number]

    def state(self, pool: int, upto: int) -> int:
        """Return the state of a pool behind the numbers below `upto`."""
        states = self._states.setdefault(pool, [0])
        wiring = self.scenario.wiring.pools[pool]
        while len(states) <= upto:
            number = len(states) - 1
            inputs, end = self.inputs(pool, number), self.tokens[number] is None
            state, rows = absorb(self.scenario, pool, states[number], number, inputs, end=end)  # type: ignore[arg-type]
            states.append(state)
            for stream, row in zip(wiring.exits, rows, strict=True):
                self._known[stream, number] = row
        return states[upto]


class StateWorker(PlainWorker):
    """Works on one task after the other with a state, which it gives and takes."""

    _state = 0

    def restore(self, packed: bytes) -> None:
        """Begin with a state; it comes before the first task."""
        self.run.laws.same(f"{self.name}, given a state, has work", bool(self._jobs) or self._now is not None, False)
        self._state = int(packed)

    def ask(self, n: int) -> None:
        """Take in that the state is wanted behind the tasks that came before."""
        if not self.gone:
            self._jobs.append(n)  # type: ignore[arg-type]
            self.begin()

    def begin(self) -> None:
        """Work on what is there; a state that was asked for is that behind the tasks before."""
        while self._now is None and self._jobs and isinstance(self._jobs[0], int):
            n = self._jobs.popleft()
            self.send(self.run.core.record_state, self.name, n, b"%d" % self._state)
        super().begin()

    def answer(self, job: Job, start: int, stop: int, cut: int) -> None:
        """Send the answer for some numbers of a job; that is also when they change the state."""
        columns: list[list[list[int]]] = [[] for _ in self.wiring.exits]
        for n in range(start, stop):
            end = n == job.orders.end
            self._state, rows = absorb(self.run.scenario, self.pool, self._state, n, job.inputs[n], end=end)
            for column, row in zip(columns, rows, strict=True):
                column.append(row)
        exits = []
        for column in columns:
            events = [event for row in column for event in row]
            exits.append(ExitData(events, len(events) * self.script.event_bytes, [len(row) for row in column]))
        worked = sum(len(job.inputs[n]) for n in range(start, stop))
        tallies = [[float(worked), 0.0, 0.0, 0.0, 0.0, 0.0] for _ in self.wiring.program.steps]
        seconds = self.script.each_s * (stop - start)
        self.send(self._answered_now, job, start, stop, exits, [], tallies, seconds)
        self._answered += stop - start
        if self.script.recycle_after is not None and self._answered >= self.script.recycle_after and not self.leaving:
            self.leaving = True
            self.send(self._leaves)
