"""Sources: ticks, readers over plain Python, and how a subject is opened."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from sluiceway.nodes.async_reader import AsyncGeneratorReader
from sluiceway.nodes.connectors.timer import TickReader, every
from sluiceway.nodes.errors import GraphError
from sluiceway.nodes.readers import GeneratorReader, IterableReader
from sluiceway.nodes.sources import is_source, open_reader, read_with, size_hint


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Countdown:
    """A source whose reader takes only a limit, gives an empty read between batches, and goes on from a position."""

    def reader(self, position: object | None, /) -> CountdownReader:
        return CountdownReader(position if isinstance(position, int) else 0)


class CountdownReader:
    def __init__(self, next_: int) -> None:
        self.next = next_
        self.closed = False
        self.hungry = True

    def read(self, limit: int, /) -> Sequence[int] | None:
        self.hungry = not self.hungry
        if self.next >= 7:
            return None
        if not self.hungry:
            return []
        begin, self.next = self.next, min(self.next + min(limit, 3), 7)
        return range(begin, self.next)

    def position(self) -> int:
        return self.next

    def close(self) -> None:
        self.closed = True


def everything(reader: Any, limit: int = 10) -> list[Any]:
    events: list[Any] = []
    while (batch := reader.read(limit, 1 << 20)) is not None:
        events.extend(batch)
    return events


# ticks


def test_ticks_are_due_without_drift() -> None:
    clock = Clock()
    reader = TickReader(0.5, None, 0, clock)
    assert list(reader.read(10, 0) or ()) == [0]
    clock.now += 0.7
    assert list(reader.read(10, 0) or ()) == [1]
    clock.now += 0.3  # 1.0 s after the start, though the last tick was taken late
    assert list(reader.read(10, 0) or ()) == [2]


def test_ticks_that_are_late_come_together_up_to_the_limit() -> None:
    clock = Clock()
    reader = TickReader(1, None, 0, clock)
    reader.read(1, 0)
    clock.now += 5.5
    assert list(reader.read(3, 0) or ()) == [1, 2, 3]
    assert list(reader.read(9, 0) or ()) == [4, 5]
    assert reader.position() == 6


def test_ticks_end_at_their_limit_and_go_on_from_a_position() -> None:
    assert everything(every(0.001, limit=4).reader(None)) == [0, 1, 2, 3]
    assert everything(every(0.001, limit=4).reader(2)) == [2, 3]
    assert everything(every(3600, limit=0).reader(None)) == []
    assert size_hint(every(1, limit=4)) == 4
    assert size_hint(every(1)) is None


def test_close_wakes_a_read_that_waits_for_a_tick() -> None:
    reader = every(3600).reader(None)
    assert list(reader.read(10, 0) or ()) == [0]
    answers: list[Sequence[int] | None] = []
    thread = threading.Thread(target=lambda: answers.append(reader.read(10, 0)))
    thread.start()
    reader.close()
    thread.join(5)
    assert not thread.is_alive()
    assert answers == [None]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "1", True])
def test_a_period_must_be_a_positive_number(seconds: Any) -> None:
    with pytest.raises(GraphError, match=r"every\(0\.5\)"):
        every(seconds)


@pytest.mark.parametrize("limit", [-1, 1.5, True])
def test_a_limit_of_ticks_must_be_a_count(limit: Any) -> None:
    with pytest.raises(GraphError, match="limit"):
        every(1, limit=limit)


# plain python


def test_an_iterable_is_read_one_by_one() -> None:
    reader = open_reader([1, None, 3])
    assert isinstance(reader, IterableReader)
    assert reader.read(10, 1) == [1]
    assert reader.read(10, 1) == [None]
    assert reader.position() == 2
    assert reader.one_by_one
    assert list(reader.iterator) == [3]
    assert reader.read(10, 1) is None


def test_closing_ends_only_generators_that_the_reader_made() -> None:
    ended: list[str] = []

    def numbers(name: str) -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            ended.append(name)

    class Made:
        def __iter__(self) -> Iterator[int]:
            return numbers("made")

    theirs = numbers("theirs")
    for subject in (lambda: numbers("function"), Made(), theirs):
        reader = open_reader(subject)
        assert reader.read(1, 1) == [1]
        reader.close()
        assert reader.read(1, 1) is None
    assert ended == ["function", "made"]
    assert next(theirs) == 2


def test_a_generator_running_in_another_thread_is_left_to_it() -> None:
    begun, go = threading.Event(), threading.Event()

    def slow() -> Iterator[int]:
        begun.set()
        go.wait(5)
        yield 1

    reader = GeneratorReader(slow)
    thread = threading.Thread(target=lambda: list(reader.iterator))
    thread.start()
    assert begun.wait(5)
    reader.close()
    go.set()
    thread.join(5)
    assert not thread.is_alive()


def test_an_async_generator_keeps_one_task_and_context() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=-1)
    tasks: set[Any] = set()

    async def numbers() -> AsyncIterator[int]:
        for number in range(4):
            tasks.add(asyncio.current_task())
            assert variable.get() == number - 1
            variable.set(number)
            await asyncio.sleep(0)
            yield number

    reader = open_reader(numbers)
    assert isinstance(reader, AsyncGeneratorReader)
    assert reader.read(10, 1) == [0]
    assert list(reader.iterator) == [1, 2, 3]
    assert reader.read(10, 1) is None
    assert len(tasks) == 1
    reader.close()


def test_closing_an_async_generator_runs_its_clean_up() -> None:
    ended: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            ended.append("ended")

    reader = AsyncGeneratorReader(numbers)
    assert reader.read(1, 1) == [1]
    reader.close()
    reader.close()
    assert ended == ["ended"]
    assert reader.read(1, 1) is None


def test_closing_from_another_thread_cancels_a_waiting_async_generator() -> None:
    waiting, ended = threading.Event(), threading.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            waiting.set()
            await asyncio.sleep(3600)
            yield 2
        finally:
            ended.set()

    reader = AsyncGeneratorReader(numbers)
    read: list[int] = []
    thread = threading.Thread(target=lambda: read.extend(everything(reader)))
    thread.start()
    assert waiting.wait(5)
    reader.close()
    thread.join(5)
    assert not thread.is_alive()
    assert read == [1]
    assert ended.is_set()


def test_what_a_generator_raises_comes_out_of_read() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    async def abroken() -> AsyncIterator[int]:
        yield 1
        raise KeyError("broken")

    for function in (broken, abroken):
        reader = open_reader(function)
        assert reader.read(1, 1) == [1]
        with pytest.raises(KeyError):
            reader.read(1, 1)
        assert reader.read(1, 1) is None
        reader.close()


def test_what_an_async_clean_up_raises_comes_out_of_close() -> None:
    async def broken() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise KeyError("clean-up")

    reader = AsyncGeneratorReader(broken)
    assert reader.read(1, 1) == [1]
    with pytest.raises(KeyError):
        reader.close()


# opening


def test_a_function_may_give_any_iterator() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 5

    assert everything(open_reader(lambda: [1, 2])) == [1, 2]
    assert everything(open_reader(functools.partial(numbers))) == [5]


def test_a_source_reader_may_take_only_a_limit() -> None:
    source = Countdown()
    assert is_source(source)
    assert not is_source(Countdown)
    reader = open_reader(source, 2)
    assert everything(reader, 2) == [2, 3, 4, 5, 6]
    assert reader.position() == 7
    bare = source.reader(None)
    read = read_with(bare)
    assert [read(2, 1), read(2, 1)] == [[], range(2)]
    assert size_hint(source) is None


def test_read_keeps_a_method_that_takes_both() -> None:
    reader = every(1).reader(None)
    assert read_with(reader) == reader.read
    assert open_reader(every(1, limit=1)).read(1, 1) == range(1)


def test_a_reader_that_takes_no_limit_is_refused() -> None:
    class Bad:
        def read(self) -> None: ...

    for bad in (Bad(), object()):
        with pytest.raises(GraphError, match=r"read\(limit, max_bytes\)"):
            read_with(bad)


def test_what_cannot_be_read_is_refused() -> None:
    async def coroutine() -> list[int]:
        return [1]

    async def numbers() -> AsyncIterator[int]:
        yield 5

    for subject in (5, coroutine, numbers(), lambda: 5):
        with pytest.raises(GraphError, match="generator function"):
            open_reader(subject)
    with pytest.raises(GraphError, match="only a source"):
        open_reader([1, 2], 1)


def test_size_is_known_where_it_can_be() -> None:
    assert size_hint(range(7)) == 7
    assert size_hint(iter([1])) is None
    assert size_hint(lambda: [1]) is None
