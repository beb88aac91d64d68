"""Buffers a worker's answers for the blocks of a task until they are sent.

Decides that they are sent as one answer if their payloads can be joined without decoding them.
"""

from __future__ import annotations

from msgspec.structs import replace

from ...nodes.ordering.segments import ExitData
from ...nodes.program.program import Answer
from ...nodes.program.steps import join_answers
from ..codec.codec import join_payloads


class AnswerBuffer:
    """The answers of consecutive blocks, with their encoded exits."""

    def __init__(self) -> None:
        self._answers: list[Answer] = []
        self._counts: list[list[int]] = []
        self._data: list[list[ExitData]] = []

    def add(self, answer: Answer, data: list[ExitData]) -> None:
        """Add the answer of the next block; only the encoded events are kept."""
        self._counts.append([len(column.events) for column in answer.exits])
        self._answers.append(replace(answer, exits=[column.with_events([]) for column in answer.exits]))
        self._data.append(data)

    def drain(self) -> list[tuple[Answer, list[ExitData]]]:
        """Empty the buffer; return one answer for all, or each answer by itself if some payloads cannot be joined."""
        answers, data, counts = self._answers, self._data, self._counts
        self._answers, self._data, self._counts = [], [], []
        if len(answers) < 2:
            return list(zip(answers, data, strict=True))
        payloads = [
            join_payloads([(count, packed.payload) for count, packed in zip(column, exit_, strict=True)])
            for column, exit_ in zip(zip(*counts, strict=True), zip(*data, strict=True), strict=True)
        ]
        if None in payloads:
            return list(zip(answers, data, strict=True))
        whole = join_answers(answers)
        return [(whole, [
            ExitData(payload, payload.nbytes, column.counts, column.indices)
            for payload, column in zip(payloads, whole.exits, strict=True) if payload is not None
        ])]
