"""One run of numbers through a program: which columns each step reads, and what the whole answer is.

Shared by the executors, which decide only how handlers are called. After a failure under `fail` the steps that follow
see the numbers below it and no others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..events import Failure
from ..ownership.ownership import Copier
from ..program.column import Column
from ..program.kinds import NodeKind
from ..program.program import Answer, Program, Step, Tally
from ..program.steps import close_answer, merge_columns, zip_columns
from ..state.partitions import merge_partitions, partition_column

_JOINS: dict[NodeKind, Callable[[Step, list[Column], Tally], Column]] = {
    NodeKind.ZIP: lambda step, inputs, tally: zip_columns(inputs, tally if step.counted else Tally()),
    NodeKind.MERGE: lambda step, inputs, tally: merge_columns(inputs, tally),
    NodeKind.MERGE_PARTITIONS: lambda step, inputs, tally: merge_partitions(step.spec, inputs),
}


class ProgramRun:
    """A program on one run of numbers; `ports` are its input columns."""

    def __init__(self, program: Program, handlers: Sequence[Any], ports: Sequence[Column], copies: Copier) -> None:
        self._program = program
        self._handlers = handlers
        self._copies = copies
        self._start, self._stop = ports[0].start, ports[0].stop
        self._slots: list[Any] = [*ports, *[None] * (program.slots - len(ports))]
        self._failures: list[Failure] = []
        self._tallies: list[Tally] = []
        self._end_at = self._stop

    def calls(self) -> Iterator[tuple[int, Step, list[Column], Tally]]:
        """Yield each step whose events are handled, with its number, inputs and tally; call `put` before the next one.

        Joins and partitions in between are computed here.
        """
        for number, step in enumerate(self._program.steps):
            tally = Tally()
            self._tallies.append(tally)
            inputs = [self._input(slot, number, place) for place, slot in enumerate(step.inputs)]
            if step.kind.traits.joins:
                self._slots[step.output] = _JOINS[step.kind](step, inputs, tally)
            elif step.kind is NodeKind.PARTITION:
                self._slots[step.output] = self._partition(number, step, inputs)
            elif step.kind is NodeKind.CODES:
                self._slots[step.output] = self._handlers[number].column(inputs[0])
            else:
                yield number, step, inputs, tally

    def _input(self, slot: int, number: int, place: int) -> Column:
        column: Column = self._slots[slot]
        if self._end_at < column.stop:
            column = column.slice(column.start, self._end_at)
        if (number, place) in self._program.copied and self._program.steps[number].kind is not NodeKind.PARTITION:
            column = column.with_events(self._copies(column.events))
        return column

    def _partition(self, number: int, step: Step, inputs: list[Column]) -> Column:
        """Return the column of one partition; where others read the events too, only those of the partition are copied."""
        column = partition_column(step.spec, inputs)
        if any((number, place) in self._program.copied for place in range(len(inputs))):
            column = column.with_events(self._copies(column.events))
        return column

    def put(self, step: Step, output: Column, failures: list[Failure]) -> None:
        """Store the output of a step and the failures of its events."""
        self._slots[step.output] = output
        if failures:
            self._failures += failures
            self._end_at = min([self._end_at, *(f.seq for f in failures if f.on_error == "fail")])

    @property
    def failed(self) -> set[int]:
        """The numbers of which an event has failed in a step whose answers are not kept."""
        durable = {step.node for step in self._program.steps if step.options.durable}
        return {failure.seq for failure in self._failures if failure.node not in durable}

    def shorten(self, stop: int) -> None:
        """End the run before `stop`, because its first step was split there."""
        self._stop = stop
        self._end_at = min(self._end_at, stop)

    def answer(self) -> Answer:
        """Return the answer for all numbers, or for those up to the lowest that failed under `fail`."""
        exits = [self._slots[slot] for slot in self._program.exits]
        exits = [column.slice(column.start, self._stop) if column.stop > self._stop else column for column in exits]
        return close_answer(
            self._start, self._stop - self._start, exits, self._failures, self._tallies, self._end_at
        )
