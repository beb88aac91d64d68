"""Tasks are run without a socket or a process: an outbox receives the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sluiceway.engine.codec.codec import Payload, decode, encode
from sluiceway.engine.tasks.runner import TaskRunner
from sluiceway.engine.tasks.task import AnswerMessage, Grant, Part, TaskMessage
from sluiceway.nodes.execution.executor import NoMonitor
from sluiceway.nodes.program.kinds import NodeKind
from sluiceway.nodes.program.program import NO_ORDERS, Step, make_program

PROGRAM = make_program(1, 2, [Step(kind=NodeKind.MAP, node="f", node_id=0, inputs=(0,), output=1)], [1])
LONG = 5_000


class Outbox:
    def __init__(self) -> None:
        self.answers: list[AnswerMessage] = []
        self.returned: list[tuple[int, int]] = []

    def share(self, payload: Payload, grant: Grant | None) -> Payload:
        return payload

    def send_answer(self, answer: AnswerMessage) -> None:
        self.answers.append(answer)

    def return_rest(self, task: int, number: int) -> None:
        self.returned.append((task, number))

    @property
    def events(self) -> list[Any]:
        return [event for answer in self.answers for data in answer.exits for event in decode(data.payload)]


class Progress(NoMonitor):
    def codec(self, start: int, size: int = 0) -> None:
        pass


def run(handler: Callable[[Any], Any], events: list[Any], answer_batch: int = 0, *, ordered: bool = True) -> Outbox:
    outbox = Outbox()
    runner = TaskRunner(PROGRAM, [handler], worker=0, ordered=ordered, progress=Progress(), outbox=outbox)
    part = Part(0, len(events), 0, len(events), encode(events), None, None)
    runner.run(TaskMessage(7, 0, len(events), answer_batch, NO_ORDERS, [[part]]))
    return outbox


@pytest.mark.parametrize("size", [1, 10, LONG])
def test_a_task_is_answered_as_a_whole(size: int) -> None:
    outbox = run(lambda n: n + 1, list(range(size)))
    assert [(answer.task, answer.start, answer.size) for answer in outbox.answers] == [(7, 0, size)]
    assert outbox.events == list(range(1, size + 1))
    assert outbox.returned == []


@pytest.mark.parametrize("size", [10, LONG])
def test_answers_are_as_small_as_asked(size: int) -> None:
    outbox = run(lambda n: n + 1, list(range(size)), size // 2)
    assert [(answer.start, answer.size) for answer in outbox.answers] == [(0, size // 2), (size // 2, size // 2)]
    assert outbox.events == list(range(1, size + 1))


@pytest.mark.parametrize("size", [10, LONG])
def test_nothing_above_a_failure_is_answered(size: int) -> None:
    def failing(n: int) -> int:
        if n == size // 2:
            raise ValueError("odd")
        return n

    outbox = run(failing, list(range(size)))
    assert outbox.events == list(range(size // 2))
    assert [failed.seq for failed in outbox.answers[-1].failures] == [size // 2]


def test_an_output_that_cannot_be_encoded_is_a_failure_of_its_node() -> None:
    outbox = run(lambda n: (i for i in ()) if n == 3 else n, list(range(10)))
    assert outbox.events == [0, 1, 2]
    assert [(failed.node, failed.seq) for failed in outbox.answers[0].failures] == [("f", 3)]
