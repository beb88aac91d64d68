"""`iterate`: a stream's events in the calling process, as iterator, async iterator and context manager."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sluiceway as sw


def endless() -> Iterator[int]:
    yield from itertools.count()


@pytest.fixture(params=["inline", "processes"])
def runner(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_events_come_in_order(runner: Any) -> None:
    stream = sw.Graph().source(range(300)).map(lambda n: n * 3).filter(lambda n: n % 2)
    results = sw.iterate(stream, workers=2, runner=runner)
    assert list(results) == [n * 3 for n in range(300) if n % 2]
    report = results.report
    assert (report.events_in, report.events_out, report.filtered, report.ended_by) == (300, 150, 150, "source")


def test_a_stream_without_handlers(runner: Any) -> None:
    assert list(sw.iterate(sw.Graph().source(endless), limit=7, runner=runner)) == list(range(7))


def test_leaving_early_stops_the_run(runner: Any) -> None:
    with sw.iterate(sw.Graph().source(endless).map(lambda n: n), workers=1, runner=runner) as results:
        for n in results:
            if n == 100:
                break
    assert results.report.ended_by == "closed"
    assert list(results) == []


def test_leaving_by_an_error_of_ones_own(runner: Any) -> None:
    def leave() -> None:
        with sw.iterate(sw.Graph().source(endless), runner=runner) as results:
            next(results)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave()


def test_closing_before_the_first_event_and_twice(runner: Any) -> None:
    results = sw.iterate(sw.Graph().source(endless).map(lambda n: n), workers=1, runner=runner)
    results.close()
    results.close()
    assert list(results) == []


def test_results_that_are_never_asked_for_keep_nothing_open() -> None:
    stream = sw.Graph().source(range(3)).map(lambda n: n)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        sw.iterate(stream, workers=1).close()
    assert len(os.listdir("/proc/self/fd")) < before + 20


def test_a_run_closes_every_descriptor() -> None:
    stream = sw.Graph().source(range(3)).map(lambda n: n)
    list(sw.iterate(stream, workers=1))  # what is opened once for the whole process is open now
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        assert list(sw.iterate(stream, workers=1)) == [0, 1, 2]
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_async_for(runner: Any) -> None:
    stream = sw.Graph().source(range(50)).map(lambda n: n + 1)

    async def collect() -> list[int]:
        return [n async for n in sw.iterate(stream, workers=1, runner=runner)]

    assert asyncio.run(collect()) == list(range(1, 51))


def test_async_for_leaves_the_loop_free() -> None:
    gate = threading.Event()

    def wait() -> Iterator[int]:
        yield 1
        gate.wait(60)
        yield 2

    async def collect() -> list[int]:
        taken: list[int] = []

        async def take() -> None:
            with sw.iterate(sw.Graph().source(wait())) as results:
                async for n in results:
                    taken.append(n)

        task = asyncio.create_task(take())
        while not taken:
            await asyncio.sleep(0)
        gate.set()  # nobody could, were the loop blocked
        await task
        return taken

    assert asyncio.run(collect()) == [1, 2]


def test_async_for_left_early(runner: Any) -> None:
    async def first() -> list[int]:
        taken = []
        with sw.iterate(sw.Graph().source(endless).map(lambda n: n), workers=1, runner=runner) as results:
            async for n in results:
                taken.append(n)
                if n == 5:
                    break
        return taken

    assert asyncio.run(first()) == [0, 1, 2, 3, 4, 5]


def test_sinks_beside_the_consumer(runner: Any) -> None:
    graph = sw.Graph()
    seen: list[Any] = []
    source = graph.source(range(40))
    source.sink(lambda n: seen.append(("raw", n)))
    doubled = source.map(lambda n: 2 * n)
    doubled.sink(lambda n: seen.append(("double", n)))
    for n in sw.iterate(doubled, workers=2, runner=runner):
        seen.append(("mine", n))
    assert seen == [row for n in range(40) for row in (("raw", n), ("double", 2 * n), ("mine", 2 * n))]


def test_each_reader_of_a_stream_has_its_own_copy(runner: Any) -> None:
    graph = sw.Graph()
    kept: list[Any] = []
    stream = graph.source([{"n": 1}, {"n": 2}]).map(lambda event: event)
    stream.sink(kept.append)
    for event in sw.iterate(stream, workers=1, runner=runner):
        event["n"] = "mine"
    assert kept == [{"n": 1}, {"n": 2}]


def test_unordered(runner: Any) -> None:
    stream = sw.Graph().source(range(200)).flat_map(lambda n: [n, -n])
    results = list(sw.iterate(stream, ordered=False, workers=2, runner=runner))
    assert sorted(results) == sorted([*range(200), *(-n for n in range(200))])


def test_dead_letters_can_be_iterated(runner: Any) -> None:
    graph = sw.Graph()
    good: list[int] = []
    graph.source(["1", "x", "2", "y"]).map(int, on_error="dead_letter").sink(good.append)
    letters = list(sw.iterate(graph.dead_letters(), workers=1, runner=runner))
    assert [(letter.seq, letter.event) for letter in letters] == [(1, "x"), (3, "y")]
    assert good == [1, 2]


def test_an_error_comes_at_its_place_and_carries_the_report(runner: Any) -> None:
    stream = sw.Graph().source([4, 2, 0, 1]).map(lambda n: 8 // n)
    results = sw.iterate(stream, workers=2, runner=runner)
    assert [next(results), next(results)] == [2, 4]
    with pytest.raises(sw.HandlerError) as caught:
        next(results)
    assert caught.value.report.ended_by == "error"
    assert (caught.value.seq, caught.value.event) == (2, 0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_what_is_no_stream_is_refused() -> None:
    with pytest.raises(sw.GraphError, match="takes a stream"):
        sw.iterate([1, 2, 3])  # type: ignore[arg-type]


def test_a_graph_can_be_iterated_again(runner: Any) -> None:
    stream = sw.Graph().source(range(5)).map(str)
    for _ in range(2):
        assert list(sw.iterate(stream, workers=1, runner=runner)) == ["0", "1", "2", "3", "4"]


def test_a_used_up_iterator_is_refused(runner: Any) -> None:
    stream = sw.Graph().source(iter(range(5))).map(str)
    assert len(list(sw.iterate(stream, workers=1, runner=runner))) == 5
    with pytest.raises(sw.GraphError, match="used up"):
        list(sw.iterate(stream, workers=1, runner=runner))


def test_from_another_thread(runner: Any) -> None:
    found: list[int] = []

    def work() -> None:
        found.extend(sw.iterate(sw.Graph().source(range(20)).map(lambda n: n), workers=1, runner=runner))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == list(range(20))
