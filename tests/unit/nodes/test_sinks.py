"""Sinks: batches with numbers, plain callables, and which event is to blame."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Sequence
from typing import Any

import pytest
from sluiceway.nodes.errors import GraphError
from sluiceway.nodes.files.api import lines
from sluiceway.nodes.program.column import Column
from sluiceway.nodes.sinks import BadEvent, Batch, CallableSink, as_sink, failed_position


class Collecting:
    def __init__(self) -> None:
        self.events: list[Any] = []

    def write(self, events: Sequence[Any], /) -> None:
        self.events.extend(events)

    def close(self) -> None:
        pass


def test_a_batch_works_its_numbers_out_once_and_only_when_asked() -> None:
    asked: list[int] = []

    def numbers() -> list[tuple[int, int]]:
        asked.append(1)
        return [(3, 0), (3, 1)]

    batch = Batch(["a", "b"], numbers)
    assert batch == ["a", "b"]
    assert asked == []
    assert batch.numbers == [(3, 0), (3, 1)]
    assert batch.numbers == [(3, 0), (3, 1)]
    assert asked == [1]


def test_a_batch_has_the_numbers_of_its_column() -> None:
    column = Column(5, 3, ["a", "b", "c"], counts=[1, 0, 2])
    assert Batch(column.events, column.numbers).numbers == [(5, 0), (7, 0), (7, 1)]


def test_a_batch_is_copied_and_pickled_with_its_numbers() -> None:
    batch = Batch([1, 2], lambda: [(0, 0), (1, 0)])
    for other in (pickle.loads(pickle.dumps(batch)), copy.copy(batch), copy.deepcopy(batch)):
        assert isinstance(other, Batch)
        assert (other, other.numbers) == ([1, 2], [(0, 0), (1, 0)])


def test_a_callable_gets_each_event_in_order() -> None:
    got: list[int] = []
    sink = as_sink(got.append)
    sink.write(Batch([1, 2, 3], list))
    sink.write([])
    sink.write((4, 5))
    sink.close()
    assert got == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("bad", [0, 1, 4])
@pytest.mark.parametrize("error", [ValueError("no"), StopIteration(), KeyboardInterrupt()])
def test_the_event_that_a_callable_failed_on_is_known(bad: int, error: BaseException) -> None:
    got: list[int] = []

    def function(event: int) -> None:
        if event == bad:
            raise error
        got.append(event)

    sink = CallableSink(function)
    with pytest.raises(type(error)) as caught:
        sink.write(Batch(range(5), list))
    assert caught.value is error
    assert sink.position == bad
    assert failed_position(sink, error, 5) == bad
    assert got == list(range(bad))


def test_a_later_batch_forgets_an_earlier_failure() -> None:
    sink = CallableSink(lambda event: 1 / event)
    with pytest.raises(ZeroDivisionError):
        sink.write([1, 0])
    sink.write([1])
    assert sink.position is None


def test_a_sink_may_say_which_event_is_to_blame() -> None:
    sink = Collecting()
    assert failed_position(sink, BadEvent("bad", 2), 3) == 2
    assert failed_position(sink, BadEvent("bad", 3), 3) is None
    assert failed_position(sink, ValueError("bad"), 3) is None
    error = ValueError("bad")
    error.position = True  # type: ignore[attr-defined]
    assert failed_position(sink, error, 3) is None
    again = pickle.loads(pickle.dumps(BadEvent("bad", 2)))
    assert (str(again), again.position) == ("bad", 2)


def test_a_sink_is_taken_as_it_is() -> None:
    sink = Collecting()
    assert as_sink(sink) is sink


class OnlyWrites:
    def write(self, events: Any) -> None: ...


async def coroutine(event: Any) -> None: ...


@pytest.mark.parametrize(
    ("subject", "remedy"),
    [
        (5, "callable"),
        (io.StringIO(), "sluiceway.lines"),
        (Collecting, r"pass Collecting\(\.\.\.\)"),
        (OnlyWrites(), r"add close\(\)"),
        (coroutine, "map it before the sink"),
        (lines(["a", "b"]), "name the file"),
        (lines("*.txt"), "name the file"),
    ],
)
def test_what_is_no_sink_is_refused_with_a_remedy(subject: Any, remedy: str) -> None:
    with pytest.raises(GraphError, match=remedy):
        as_sink(subject)
