"""Runs that would never end: whatever an event does to its workers, each death brings the run nearer to its end."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from conftest import Seen, observe
from fault_events import OnLoad, Outlaw
from fault_graphs import die
from marks import slow

N = 40


class OnDelete:
    """An event that ends any process but its maker's when it is freed."""

    def __init__(self, n: int, deadly: bool, maker: int | None = None) -> None:
        self.n, self.deadly, self.maker = n, deadly, os.getpid() if maker is None else maker

    def __reduce__(self) -> Any:
        return OnDelete, (self.n, self.deadly, self.maker)

    def __del__(self) -> None:
        if self.deadly and os.getpid() != self.maker:
            os._exit(3)


def number_of(event: Any) -> int:
    return int(event.n)


def refuse_five(event: Any) -> int:
    if event.n == 5:
        raise ValueError("five")
    return int(event.n)


def through(events: Any, handler: Callable[[Any], Any], **words: Any) -> Seen:
    def make(seen: Seen) -> sw.Graph:
        graph = sw.Graph()
        graph.source(events).map(handler, name="struck", **words).sink(seen.sink("out"), name="out")
        if words["on_error"] == "dead_letter":
            graph.dead_letters().sink(seen.sink("letters"), name="letters")
        return graph

    return observe(make, workers=1)


# -- events that kill although their handler is not called ---------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [{"on_error": "dead_letter"}, {"on_error": "skip"}, slow({"on_error": "skip", "retries": 1}), slow({"on_error": "fail"})],
)
@pytest.mark.parametrize("handler", [slow(number_of), refuse_five])
def test_an_event_that_kills_when_it_is_freed(handler: Any, words: dict[str, Any]) -> None:
    seen = through([OnDelete(n, n == 5) for n in range(N)], handler, **words)
    # It may be freed before its answer is sent, or when that is safe.
    assert set(seen.events("out")) - {5} == set(range(5 if seen.error is not None else N)) - {5}
    assert seen.report.worker_deaths <= 12
    assert seen.error is None or (words["on_error"] == "fail" and "failed on number 5 " in str(seen.error))


def test_an_event_that_kills_a_worker_with_a_state_each_time_it_is_repeated(tmp_path: Path) -> None:
    """The next worker repeats what was answered since the last snapshot, but not what no worker survives."""
    folder = str(tmp_path)

    def add(total: int, event: OnLoad) -> tuple[int, int]:
        mark = Path(folder, str(event.n))
        if event.n % 10 == 9 and not mark.exists():
            mark.touch()
            die("kill")
        return total + event.n, total + event.n

    events = [OnLoad(n, "die" if n == 5 else "") for n in range(N)]
    seen = Seen()
    graph = sw.Graph()
    graph.source(events).scan(add, 0).sink(seen.sink("out"))
    with pytest.raises(sw.WorkerDied, match="failed on number 5"):
        sw.run(graph, workers=1)
    assert seen.events("out") == [0, 1, 3, 6, 10]


# -- async handlers that end what they run in ----------------------------------------------------------------------


def raise_at_five(error: type[BaseException]) -> Callable[[int], Any]:
    async def handler(n: int) -> int:
        await asyncio.sleep(0)
        if n == 5:
            raise error()
        return n

    return handler


async def cancel_itself(n: int) -> int:
    if n == 5:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(60)
    return n


async def cancel_everything(n: int) -> int:
    if n == 5:
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(60)
    return n


async def stop_the_loop(n: int) -> int:
    if n == 5:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(60)
    return n


async def outputs_until_five(n: int) -> Any:
    yield n
    if n == 5:
        raise GeneratorExit


def group() -> BaseException:
    return BaseExceptionGroup("many", [Outlaw()])


@pytest.mark.parametrize("ordered", [False, slow(True)])
@pytest.mark.parametrize("error", [Outlaw, GeneratorExit, KeyboardInterrupt, slow(group)])
def test_an_async_handler_raises_what_is_no_exception(error: Any, ordered: bool, caplog: pytest.LogCaptureFixture) -> None:
    assert_five_kills(raise_at_five(error), ordered)
    assert "a worker ends with" in caplog.text
    assert "which only os._exit in user code does" not in caplog.text


@pytest.mark.parametrize("ordered", [False, slow(True)])
@pytest.mark.parametrize("handler", [cancel_everything, slow(stop_the_loop)])
def test_an_async_handler_ends_the_loop(handler: Any, ordered: bool) -> None:
    assert_five_kills(handler, ordered)


def assert_five_kills(handler: Any, ordered: bool) -> None:
    def make(seen: Seen) -> sw.Graph:
        graph = sw.Graph()
        struck = graph.source(range(N)).map(handler, name="struck", on_error="skip")
        if ordered:
            struck = struck.scan(lambda total, n: (total, n), 0)
        struck.sink(seen.sink("out"))
        return graph

    seen = observe(make, workers=1)
    assert seen.error is None
    assert seen.events("out") == [n for n in range(N) if n != 5]
    assert (seen.report.skipped, seen.report.worker_deaths) == (1, 3)


def test_an_async_generator_raises_what_is_no_exception() -> None:
    seen = Seen()
    graph = sw.Graph()
    graph.source(range(N)).flat_map(outputs_until_five, on_error="skip").sink(seen.sink("out"))
    report = sw.run(graph, workers=1)
    assert seen.events("out") == [n for n in range(N) if n != 5]
    assert (report.skipped, report.worker_deaths) == (1, 3)


@pytest.mark.parametrize("ordered", [False, slow(True)])
@pytest.mark.parametrize("runner", ["inline", "processes"])
def test_an_async_handler_that_cancels_its_own_task_fails_its_event(ordered: bool, runner: Any) -> None:
    def make(seen: Seen) -> sw.Graph:
        graph = sw.Graph()
        struck = graph.source(range(N)).map(cancel_itself, name="struck", on_error="dead_letter")
        if ordered:
            struck = struck.scan(lambda total, n: (total, n), 0)
        struck.sink(seen.sink("out"))
        graph.dead_letters().sink(seen.sink("letters"))
        return graph

    seen = observe(make, workers=1, runner=runner)
    assert seen.events("out") == [n for n in range(N) if n != 5]
    assert [it.error for it in seen.events("letters")] == ["RuntimeError: the handler cancelled the task that it runs in"]
    assert seen.report.worker_deaths == 0


class EndsOddly:
    """An async handler whose close() raises what is no exception, or cancels what it runs in."""

    def __init__(self, how: str) -> None:
        self.how = how

    async def __call__(self, n: int) -> int:
        return n

    async def close(self) -> None:
        if self.how == "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(60)
        raise Outlaw


@pytest.mark.parametrize("how", ["raise", slow("cancel")])
def test_the_close_of_an_async_handler_ends_oddly(how: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert list(sw.imap(sw.per_worker(EndsOddly, how), range(N), workers=1)) == list(range(N))
    assert "the close() of a handler raised in worker" in caplog.text


class StartsOddly:
    """An async handler whose constructor raises what is no exception."""

    def __init__(self) -> None:
        raise Outlaw

    async def __call__(self, n: int) -> int:
        return n


def test_the_constructor_of_an_async_handler_raises_what_is_no_exception() -> None:
    with pytest.raises(sw.HandlerError, match="die at their start"):
        list(sw.imap(sw.per_worker(StartsOddly), range(N), workers=1))
