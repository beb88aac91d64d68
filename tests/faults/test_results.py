"""`Results` by `async for` and with a time limit, and what they say of themselves."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sluiceway as sw
from gated_results import Gated, endless, same, words

__all__ = ["words"]


# -- async for ----------------------------------------------------------------------------------------------------


def test_a_cancelled_wait_loses_nothing(words: dict[str, Any]) -> None:
    gated = Gated()

    async def take() -> list[Any]:
        results = sw.imap(same, gated.events(), **words)
        found, cancelled = [], 0
        for at in range(6):
            task = asyncio.create_task(results.__anext__())
            await asyncio.sleep(0)
            task.cancel()
            gated.let(at)
            await asyncio.wait([task])
            cancelled += task.cancelled()
            if not task.cancelled():
                found.append(task.result())
        gated.end()
        assert cancelled
        return [*found, *[n async for n in results]]

    assert asyncio.run(take()) == [0, 1, 2, 3, 4, 5]


def test_wait_for_around_anext_loses_nothing(words: dict[str, Any]) -> None:
    def slow(n: int) -> int:
        import time

        time.sleep(0.03)
        return n

    async def take() -> list[Any]:
        found, missed = [], 0
        results = sw.imap(slow, range(12), **words)
        while True:
            try:
                found.append(await asyncio.wait_for(anext(results), 0.01))
            except TimeoutError:
                missed += 1
            except StopAsyncIteration:
                break
        assert missed
        return found

    assert asyncio.run(take()) == list(range(12))


def test_idle_streams_hold_no_thread_of_the_executor() -> None:
    gated = [Gated() for _ in range(8)]

    async def serve() -> list[list[Any]]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))

        async def take(one: Gated) -> list[Any]:
            return [n async for n in sw.imap(same, one.events())]

        tasks = [asyncio.create_task(take(one)) for one in gated]
        await asyncio.sleep(0)
        await asyncio.to_thread(int)
        for one in gated:
            one.let(1, 2)
            one.end()
        return await asyncio.gather(*tasks)

    assert asyncio.run(asyncio.wait_for(serve(), 60)) == [[1, 2]] * 8


def test_a_run_in_processes_needs_no_thread_to_be_waited_for() -> None:
    gated = Gated()

    async def take() -> set[str]:
        results = sw.imap(same, gated.events(), workers=1)
        gated.let(1)
        assert await anext(results) == 1
        waiting = asyncio.create_task(anext(results))
        await asyncio.sleep(0)
        names = {thread.name for thread in threading.enumerate()}
        gated.let(2)
        assert await waiting == 2
        gated.end()
        await results.aclose()
        return names

    assert "sluiceway-ask" not in asyncio.run(take())


def test_the_loop_goes_on_between_ready_results(words: dict[str, Any]) -> None:
    async def take() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        assert [n async for n in sw.imap(same, range(5000), **words)] == list(range(5000))
        task.cancel()
        return turns

    assert asyncio.run(take()) > 3


def test_a_second_task_is_refused(words: dict[str, Any]) -> None:
    gated = Gated()

    async def take() -> list[Any]:
        results = sw.imap(same, gated.events(), **words)
        first = asyncio.create_task(anext(results))
        await asyncio.sleep(0)
        with pytest.raises(sw.SluicewayError, match="while the first still waits"):
            await anext(results)
        with pytest.raises(sw.SluicewayError, match="while the first still waits"):
            next(results)
        gated.let(1, 2)
        gated.end()
        return [await first, *[n async for n in results]]

    assert asyncio.run(take()) == [1, 2]


def test_aclose_and_async_with(words: dict[str, Any]) -> None:
    async def take() -> list[Any]:
        found = []
        async with sw.imap(same, endless(), **words) as results:
            async for n in results:
                found.append(n)
                if n == 50:
                    break
        assert results.report.ended_by == "closed"
        assert [n async for n in results] == []
        await results.aclose()
        return found

    assert asyncio.run(take()) == list(range(51))


def test_aclose_ends_the_wait_of_another_task() -> None:
    gated = Gated()

    async def take() -> None:
        results = sw.imap(same, gated.events(), workers=1)
        waiting = asyncio.create_task(anext(results, "end"))
        await asyncio.sleep(0)
        await results.aclose()
        assert await waiting == "end"

    asyncio.run(take())
    gated.end()


@pytest.mark.parametrize("close", ["close", "aclose"])
def test_close_after_asyncio_timeout(close: str) -> None:
    gated = Gated()

    async def take() -> str:
        results = sw.imap(same, gated.events(), workers=1)
        with pytest.raises(TimeoutError):  # noqa: PT012
            async with asyncio.timeout(0.05):
                async for _ in results:
                    continue
        if close == "close":
            results.close()
        else:
            await results.aclose()
        return results.report.ended_by

    assert asyncio.run(take()) == "closed"
    gated.end()


def test_an_error_comes_once_and_then_the_end(words: dict[str, Any]) -> None:
    async def take() -> list[Any]:
        results = sw.imap(lambda n: 8 // n, [4, 2, 0, 1], **words)
        found: list[Any] = [await anext(results), await anext(results)]
        with pytest.raises(sw.HandlerError) as caught:
            await anext(results)
        assert caught.value.report.ended_by == "error"
        return [*found, await anext(results, "end"), next(results, "end")]

    assert asyncio.run(take()) == [2, 4, "end", "end"]


def test_sinks_beside_the_consumer_do_not_hold_up_the_loop() -> None:
    """They work in a thread of their own, which is one thread."""
    threads = set()
    gate = threading.Event()

    def sink(n: int) -> None:
        threads.add(threading.get_ident())
        assert gate.wait(60)

    stream = sw.Graph().source(range(100)).map(same, workers=1)
    stream.sink(sink)

    async def take() -> list[int]:
        results = sw.iterate(stream)
        first = asyncio.create_task(anext(results))
        await asyncio.sleep(0)
        gate.set()  # nobody could, were the loop blocked
        return [await first, *[n async for n in results]]

    assert asyncio.run(take()) == list(range(100))
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_by_turns_with_for(words: dict[str, Any]) -> None:
    results = sw.imap(same, range(1000), **words)
    found = [next(results)]

    async def some() -> None:
        async for n in results:
            found.append(n)
            if len(found) % 100 == 0:
                break

    while len(found) < 500:
        asyncio.run(some())
        found.append(results.next(timeout=60))
        found.append(next(results))
    assert [*found, *results] == list(range(1000))


def test_left_like_a_web_server_leaves_a_stream() -> None:
    """A client that goes away: its task is cancelled while it waits for a result, and nobody closes anything."""
    gated = [Gated() for _ in range(4)]

    async def respond(one: Gated, sent: list[Any], begun: asyncio.Event) -> None:
        async def body() -> Any:
            async for n in sw.imap(same, one.events(), workers=1):
                yield n

        async for n in body():
            sent.append(n)
            begun.set()

    async def serve() -> list[list[Any]]:
        sent: list[list[Any]] = [[] for _ in gated]
        for one, out in zip(gated, sent, strict=True):
            begun = asyncio.Event()
            task = asyncio.create_task(respond(one, out, begun))
            one.let("first")
            await begun.wait()
            task.cancel()
            await asyncio.wait([task])
        return sent

    assert asyncio.run(serve()) == [["first"]] * 4
    for one in gated:
        one.end()


# -- a time limit -------------------------------------------------------------------------------------------------


def test_next_with_a_time_limit(words: dict[str, Any]) -> None:
    gated = Gated()
    results = sw.imap(same, gated.events(), **words)
    with pytest.raises(TimeoutError, match="the run goes on"):
        results.next(timeout=0.01)
    gated.let(1, 2)
    assert results.next(timeout=60) == 1
    gated.end()
    assert results.next() == 2
    with pytest.raises(StopIteration):
        results.next(timeout=60)


@pytest.mark.parametrize("timeout", [-1, "1", True, float("nan")])
def test_a_time_limit_that_is_none(timeout: Any) -> None:
    with pytest.raises(sw.GraphError, match="timeout is a number of seconds"):
        sw.imap(same, [1]).next(timeout=timeout)


# -- what they say ------------------------------------------------------------------------------------------------


def test_repr_and_report_at_every_moment(words: dict[str, Any]) -> None:
    results = sw.imap(same, range(100), **words)
    assert repr(results) == "<Results of graph 'imap': not begun>"
    assert results.report.events_out == 0
    next(results)
    assert repr(results).startswith("<Results of graph 'imap': running, ")
    list(results)
    assert repr(results) == "<Results of graph 'imap': ended by source, 100 events out>"
    results.close()
    assert results.report.ended_by == "source"
    assert next(results, None) is None
