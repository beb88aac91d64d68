"""Decodes a task's events for the steps of a pool, and turns events that cannot be decoded into failures.

Decides that such an event fails alone, at the first handler behind its port and under that node's policy, and that the
task of a suspect runs no code of events outside the task.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from ...nodes.events import Failure
from ...nodes.program.column import Column, join
from ...nodes.program.program import Answer, Program, Step
from ...nodes.program.steps import close_answer, keep
from ..codec.block_reader import BlockReader
from ..codec.blocks import MIN_BLOCK_EVENTS
from ..codec.codec import IN_BLOCKS, decode, decode_part
from ..codec.errors import CodecError
from ..codec.partial_pickle import PartialPickle
from .task import Part, TaskMessage


class TaskDecoder:
    """Decodes the tasks of one pool; calls `mark(number, size)` before it decodes those numbers of a careful task."""

    def __init__(self, program: Program, mark: Callable[[int, int], None]) -> None:
        self._program = program
        self._mark = mark
        #: Whether events are flattened with their keys, so that no event can be removed alone.
        self._is_flattened = any(step.width > 1 for step in program.steps)
        #: By port, the decoded rest of the last payload: its next part usually comes with the next task.
        self._leftover: dict[int, tuple[int, Column]] = {}
        #: By port, the reader of the last payload in blocks, if only a part of it was asked for.
        self._readers: dict[int, BlockReader] = {}
        #: The last pickle that was parsed, and its body: the tasks of a suspect payload follow each other.
        self._pickled: tuple[bytes, PartialPickle] | None = None

    def columns(self, task: TaskMessage) -> tuple[list[Column], list[Failure]]:
        """Return one column per port without the events that cannot be decoded, and the failures of those."""
        failures: list[Failure] = []
        ports = []
        for port, parts in enumerate(task.ports):
            ports.append(join([self._column(port, part, task.orders.careful, failures) for part in parts]))
        if failures and self._is_flattened:
            end = min(failed.seq for failed in failures)
            ports = [_without_events_from(port, end) for port in ports]
        return ports, failures

    def blocks(self, task: TaskMessage) -> TaskBlocks | None:
        """Return a long task to be decoded block by block, or `None` if it is short or must be decoded as a whole."""
        if len(task.ports) != 1 or task.stop - task.start <= MIN_BLOCK_EVENTS or task.orders.careful or self._is_flattened:
            return None
        try:
            found = TaskBlocks(task, [self._block_reader(0, part) for part in task.ports[0]])
        except CodecError:  # decoding the whole finds out which event is damaged
            return None
        return found if len(found.bounds) > 2 else None

    def _column(self, port: int, part: Part, careful: bool, failures: list[Failure]) -> Column:
        # The shape is checked because nothing else would detect a damaged header.
        expected = part.stop - part.start if part.counts is None else sum(part.counts)
        column = Column(part.start, part.stop - part.start, [], part.counts, part.indices)
        if not careful:
            try:
                return self._decode_part(port, part, column, expected)
            except CodecError:  # which event is damaged is found out below
                pass
        lo, hi = column.event_range(part.lo, part.hi)
        step, mark = None, None
        if careful:
            # Each decoding costs the whole payload: sqrt(n) steps, so that the search and its second round are both short.
            step = max(1, math.isqrt(hi - lo))

            def mark(a: int, b: int) -> None:
                first, last = column.number_of(a)[0], column.number_of(b - 1)[0]
                self._mark(first, last + 1 - first)

        events, errors = decode_part(part.payload, lo, hi, expected, step=step, mark=mark, parsed=self._parsed)
        column.events = [None] * expected
        column.events[lo:hi] = events
        if not errors:
            return column.slice(part.lo, part.hi)
        blamed = self._first_handler(port)
        failures += [_failure(blamed, column.number_of(at), error) for at, error in sorted(errors.items())]
        return keep(column, column.events, [at not in errors for at in range(expected)]).slice(part.lo, part.hi)

    def _parsed(self, body: Any) -> PartialPickle:
        """Return a parsed pickle; parsing the same one again for each of its tasks would cost more than all else."""
        if self._pickled is None or self._pickled[0] != body:
            copied = bytes(body)
            self._pickled = copied, PartialPickle(copied)
        return self._pickled[1]

    def _decode_part(self, port: int, part: Part, column: Column, expected: int) -> Column:
        """Return the part of a payload that the task needs; a payload that the last task used is not decoded again."""
        if part.payload.codec in IN_BLOCKS:
            return self._block_reader(port, part).column(part.lo, part.hi)
        start, left = self._leftover.pop(port, (-1, None))
        if left is None or (start, left.stop) != (part.start, part.stop) or part.lo < left.start:
            left = column.with_events(decode(part.payload, expected))
        if part.hi < part.stop:
            # Handlers own the events they get and may change them; the rest is untouched.
            self._leftover[port] = part.start, left.slice(part.hi, part.stop)
        return left.slice(part.lo, part.hi)

    def _block_reader(self, port: int, part: Part) -> BlockReader:
        """Return the reader of a payload, the same as in the last task if that had it: the payload stays in place until all
        of it is answered.

        Raises `CodecError` if it has no blocks.
        """
        reader = self._readers.pop(port, None)
        if reader is None or (reader.start, reader.stop) != (part.start, part.stop):
            reader = BlockReader(part.start, part.stop, part.payload, part.counts, part.indices)
        if part.hi < part.stop:
            self._readers[port] = reader
        return reader

    def _first_handler(self, port: int) -> Step:
        """Return the first step behind a port that calls user code, past any joins."""
        slots = {port}
        for step in self._program.steps:
            if slots.intersection(step.inputs):
                if step.kind.traits.calls_user_code:
                    return step
                slots.add(step.output)
        return self._program.steps[0]


class TaskBlocks:
    """A task of one port, decoded block by block.

    `bounds` are the numbers that separate the blocks, from the first number to one past the last.
    """

    def __init__(self, task: TaskMessage, parts: list[BlockReader]) -> None:
        #: Each part with the number behind the last that it is for: its payload may be for more.
        self._parts = [(part.hi, reader) for part, reader in zip(task.ports[0], parts, strict=True)]
        bounds = {task.start}
        for part, reader in zip(task.ports[0], parts, strict=True):
            bounds.update(reader.bounds(part.lo, part.hi))
        if task.answer_batch:
            bounds.update(range(task.start, task.stop, task.answer_batch))
        self.bounds = sorted(bounds)

    def column(self, lo: int, hi: int) -> Column:
        """Decode the numbers between two bounds, which must lie above those of the last call; raises `CodecError` for damage."""
        while self._parts[0][0] <= lo:
            del self._parts[0]
        return self._parts[0][1].column(lo, hi)


def rest_of(task: TaskMessage, number: int) -> TaskMessage:
    """Return the part of a task from a number on."""
    ports = [[replace(part, lo=max(number, part.lo)) for part in port if part.hi > number] for port in task.ports]
    return replace(task, start=number, ports=ports)


def _without_events_from(column: Column, end: int) -> Column:
    """Return a column without the events of `end` and of all numbers above it: the run ends there."""
    rest = column.stop - end
    return join([column.slice(column.start, end), Column(end, rest, [], [0] * rest)])


def _failure(step: Step, name: tuple[int, int], error: CodecError) -> Failure:
    cause = error.__cause__
    trace = "" if cause is None else "".join(traceback.format_exception(cause))
    text = f"CodecError: {error}"
    return Failure(*name, step.node, step.options.on_error, text, trace, 1, None, error)


def with_failures(answer: Answer, failures: list[Failure]) -> Answer:
    """Return the answer with the failures from before the program ran but nothing above the first event that fails the run."""
    stop = answer.start + answer.size
    found = [failed for failed in failures if answer.start <= failed.seq < stop]
    if not found:
        return answer
    end = min((failed.seq for failed in found if failed.on_error == "fail"), default=stop)
    return close_answer(answer.start, answer.size, answer.exits, [*answer.failures, *found], answer.tallies, end)
