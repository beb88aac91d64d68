"""What a source raises is never taken for its end: an exception of any kind, in any runner, is a `SourceError`."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from fault_graphs import same

RUNNERS: list[Any] = [{"runner": "inline"}, {"workers": 1}, {}]
ERRORS = [
    GeneratorExit, asyncio.CancelledError, SystemExit, StopIteration, StopAsyncIteration, concurrent.futures.CancelledError,
    TimeoutError, EOFError,
]  # fmt: skip


async def cancelled_by_another() -> AsyncIterator[int]:
    """Await what somebody else cancels, as a watchdog does."""
    yield 1
    yield 2
    asked = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(asked.cancel)
    await asked
    yield 3


async def task_cancelled_by_another() -> AsyncIterator[int]:
    yield 1
    yield 2
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.sleep(60)
    yield 3


async def cancelled_in_its_clean_up() -> AsyncIterator[int]:
    yield 1
    yield 2
    try:
        raise ConnectionError
    finally:
        raise asyncio.CancelledError


class Ends:
    """A source whose reader raises after two events."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def reader(self, position: object) -> EndsReader:
        return EndsReader(self.error)


class EndsReader:
    def __init__(self, error: type[BaseException]) -> None:
        self.error, self.given = error, 0

    def read(self, limit: int) -> list[int]:
        if self.given == 2:
            raise self.error
        self.given += 1
        return [self.given]

    def position(self) -> int:
        return self.given

    def close(self) -> None:
        pass


def generator(error: type[BaseException]) -> Callable[[], Iterator[int]]:
    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise error

    return numbers


def fails(source: Any, journal: bool = False, **options: Any) -> sw.SourceError:
    given: list[int] = []
    graph = sw.Graph("ends")
    graph.source(source, **({"journal": True} if journal else {})).map(same).sink(given.append)
    with pytest.raises(sw.SourceError) as caught:
        sw.run(graph, **options)
    assert given == [1, 2]
    return caught.value


@pytest.mark.parametrize("options", RUNNERS)
@pytest.mark.parametrize("source", [cancelled_by_another, task_cancelled_by_another, cancelled_in_its_clean_up])
def test_a_cancelled_source_has_failed(source: Any, options: Any) -> None:
    assert "awaited what somebody else has cancelled" in str(fails(source, **options))


@pytest.mark.parametrize("options", RUNNERS[:2])
@pytest.mark.parametrize("journal", [False, True])
def test_a_cancelled_source_is_read_again_in_the_next_run(tmp_path: Path, options: Any, journal: bool) -> None:
    fails(cancelled_by_another, journal, checkpoint=tmp_path / "c.db", **options)
    graph = sw.Graph("ends")
    graph.source(cancelled_by_another, **({"journal": True} if journal else {})).map(same).sink([].append)
    with pytest.raises(sw.SourceError):  # and not: it has finished before
        sw.run(graph, checkpoint=tmp_path / "c.db", **options)


@pytest.mark.parametrize("options", RUNNERS)
@pytest.mark.parametrize("make", [generator, lambda error: generator(error)(), Ends])
def test_what_a_source_raises_is_its_error(make: Any, options: Any) -> None:
    for error in ERRORS if options.get("runner") == "inline" else ERRORS[:2]:
        fails(make(error), **options)


@pytest.mark.parametrize("options", [*RUNNERS, {"workers": 2}])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100, 5000])
def test_an_iterator_is_read_no_further_than_the_limit(options: dict[str, Any], limit: int) -> None:
    """What is behind is for whoever reads on: the next run, or a loop."""
    numbers = iter(range(10_000))
    for begin in (0, limit):
        out: list[int] = []
        graph = sw.Graph("some")
        graph.source(numbers).map(same).sink(out.append)
        report = sw.run(graph, limit=limit, **options)
        assert out == list(range(begin, begin + limit))
        assert report.ended_by == "limit"
    assert next(numbers, None) == (2 * limit if limit < 5000 else None)


@pytest.mark.parametrize("options", RUNNERS)
def test_a_limit_of_all_there_is_is_no_wait(options: dict[str, Any]) -> None:
    for count, limit in ((3, 3), (3, 4), (0, 1)):
        out: list[int] = []
        graph = sw.Graph("some")
        graph.source(iter(range(count))).map(same).sink(out.append)
        sw.run(graph, limit=limit, **options)
        assert out == list(range(count))
