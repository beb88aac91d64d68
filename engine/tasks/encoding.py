"""Encodes a worker's answers: the outputs of a run of numbers, its failures and its figures.

Decides that an event that cannot be encoded becomes a failure of the node that returned it, and that a suspect's
outputs are encoded number by number first. How an answer travels is the outbox's business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Protocol

import cloudpickle

from ...nodes.events import Failure
from ...nodes.execution.monitor import Monitor
from ...nodes.ordering.barrier import FailureRecord
from ...nodes.ordering.segments import ExitData
from ...nodes.program.column import Column
from ...nodes.program.program import Answer, Program
from ...nodes.program.steps import close_answer, keep
from ..codec.codec import Encoder, Payload
from ..codec.errors import CodecError
from ..codec.pickling import dumps
from ..interpreter.forks import OwnerProcess
from ..interpreter.work_time import work_time
from .task import AnswerMessage, Grant, TaskMessage


class Outbox(Protocol):
    """Sends what a worker answers to the sender of the task."""

    def share(self, payload: Payload, grant: Grant | None) -> Payload:
        """Return the payload in the memory that it travels in, as far as `grant` allows."""

    def send_answer(self, answer: AnswerMessage) -> None:
        """Send an answer."""

    def return_rest(self, task: int, number: int) -> None:
        """Return the numbers of a task from `number` on, unanswered, so that others can have them."""


class Progress(Monitor, Protocol):
    """Receives the worker's position, for observers in other processes."""

    def codec(self, start: int, size: int = 0) -> None:
        """Record that events are decoded or encoded: `size` numbers from `start` on (0: it is not known how many)."""


class AnswerEncoder:
    """Encodes the answers of one worker and sends them."""

    def __init__(self, program: Program, progress: Progress, outbox: Outbox) -> None:
        self._program = program
        self._progress = progress
        self._outbox = outbox
        self._encoders = [Encoder() for _ in program.exits]
        self._producers = {step.output: step for step in program.steps}
        #: Ends this process if it is a fork made by a handler: only its parent answers the task.
        self.end_if_forked = OwnerProcess().end_if_forked

    def send_answer(self, task: TaskMessage, answer: Answer, started: float, inputs: Sequence[Column] = ()) -> Answer:
        """Encode and send an answer; return it as sent, without events that could not be encoded.

        The events of a suspect are freed before, in `inputs` too: an answer stands, so a death after it has no culprit.
        """
        self.end_if_forked()
        if task.orders.careful:
            self._try_encoding(answer)
        data, answer = self.encode(answer)
        message = self._message(task, answer, data, started)
        if task.orders.careful:
            self._free([*inputs, *answer.exits], answer)
        self._outbox.send_answer(message)
        return answer

    def send(self, task: TaskMessage, answer: Answer, data: list[ExitData], started: float) -> None:
        """Send an answer whose exits are encoded; `started` is when the work on it began, by `work_time`."""
        self._outbox.send_answer(self._message(task, answer, data, started))

    def _message(self, task: TaskMessage, answer: Answer, data: list[ExitData], started: float) -> AnswerMessage:
        for exit_ in data:
            exit_.payload = self._outbox.share(exit_.payload, task.grant)
        return AnswerMessage(
            task.id,
            answer.start,
            answer.size,
            work_time() - started,
            [tally.as_list() for tally in answer.tallies],
            data,
            [self._record(failed) for failed in answer.failures],
        )

    def _free(self, columns: list[Column], answer: Answer) -> None:
        """Free a suspect's events number by number, so that a death shows which number caused it."""
        for number in range(answer.start, answer.start + answer.size):
            self._progress.codec(number, 1)
            if answer.failures:
                answer.failures[:] = [failed for failed in answer.failures if failed.seq != number]
            for column in columns:
                if column.start <= number < column.stop:
                    first, last = column.event_range(number, number + 1)
                    column.events[first:last] = [None] * (last - first)

    def _try_encoding(self, answer: Answer) -> None:
        """Encode a suspect's outputs number by number, so that a death shows which number caused it."""
        for column in answer.exits:
            for number in range(column.start, column.stop):
                self._progress.codec(number, 1)
                with contextlib.suppress(CodecError):  # the final encoding finds the same error and reports it
                    Encoder().encode(column.slice(number, number + 1).events)

    def encode(self, answer: Answer) -> tuple[list[ExitData], Answer]:
        """Encode every exit; an event that cannot be encoded becomes a failure of the node that returned it."""
        data = []
        for at, slot in enumerate(self._program.exits):
            while True:
                column = answer.exits[at]
                try:
                    payload = self._encoders[at].encode(column.events)
                    break
                except CodecError as error:
                    answer = self._without(answer, at, slot, error)
                    if len(answer.exits[at].events) == len(column.events):
                        raise
            if answer.exits and answer.size < column.size:
                return self.encode(answer)
            data.append(ExitData(payload, payload.nbytes, column.counts, column.indices))
        return data, answer

    def _without(self, answer: Answer, at: int, slot: int, error: CodecError) -> Answer:
        column = answer.exits[at]
        position = error.position if error.position is not None else 0
        seq, index = column.number_of(position)
        step = self._producers[slot]
        text = f"{type(error).__name__}: {error}"
        failed = Failure(seq, index, step.node, step.options.on_error, text, "", 1, None, error)
        mask = [True] * len(column.events)
        mask[position] = False
        exits = list(answer.exits)
        exits[at] = keep(column, column.events, mask)
        end = seq if step.options.on_error == "fail" else answer.start + answer.size
        return close_answer(
            answer.start, answer.size, exits, [*answer.failures, failed], answer.tallies, end
        )

    def _record(self, failed: Failure) -> FailureRecord:
        node_id = next(step.node_id for step in self._program.steps if step.node == failed.node)
        event: Payload | None = None
        if failed.on_error != "skip":
            try:
                event = Encoder().encode([failed.event])
            except CodecError:
                event = None
        cause = pack_cause(failed.cause) if failed.cause is not None and failed.on_error == "fail" else b""
        return FailureRecord(
            failed.seq,
            failed.index,
            failed.node,
            node_id,
            failed.on_error,
            failed.error,
            failed.traceback,
            failed.attempts,
            failed.kind,
            (event, cause),
        )


def pack_cause(error: BaseException) -> bytes:
    """Return an exception pickled for the caller, or nothing if that fails; its text is sent with it."""
    try:
        packed = dumps(error)
        cloudpickle.loads(packed)
    except Exception:  # user code in __reduce__ or a constructor; the text replaces it
        return b""
    return packed
