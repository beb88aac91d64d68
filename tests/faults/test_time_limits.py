"""Calls that take longer than `timeout_s`: their worker is killed and replaced, async ones are cancelled."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from conftest import Seen, observe
from fault_cases import GRAPHS
from fault_graphs import Strikes, same, small
from marks import slow

N = 120
LIMIT_S = 0.15


def sleeper(numbers: set[int], strikes: Strikes | None = None) -> Any:
    """Return a handler that sleeps at some numbers."""

    def work(n: int) -> int:
        if n in numbers and (strikes is None or strikes.take()):
            time.sleep(60)
        return n

    return work


def async_sleeper(numbers: set[int], strikes: Strikes | None = None) -> Any:
    async def work(n: int) -> int:
        import asyncio

        if n in numbers and (strikes is None or strikes.take()):
            await asyncio.sleep(60)
        return n

    return work


def without(make: Any, lost: set[int]) -> list[Any]:
    def lose(n: int) -> int:
        if n in lost:
            raise ValueError("lost")
        return n

    return observe(lambda seen: make(seen, range(N), lose, on_error="skip"), runner="inline").journal


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("sleep", [sleeper, async_sleeper])
def test_fail(make: Any, sleep: Any) -> None:
    seen = observe(lambda seen: make(seen, range(N), sleep({70}), timeout_s=LIMIT_S), workers=2)
    error = seen.error
    assert type(error) is sw.HandlerTimeout
    assert (error.seq, error.index, error.node, error.event) == (70, 0, "struck", 70)
    assert f"still running after timeout_s={LIMIT_S:g}" in str(error)
    assert seen.journal == [row for row in without(make, set()) if row[1] < 70]


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("sleep", [sleeper, async_sleeper])
@pytest.mark.parametrize("numbers", [slow({0}), {50, 51}])
def test_skip(make: Any, sleep: Any, numbers: set[int]) -> None:
    seen = observe(
        lambda seen: make(seen, range(N), sleep(numbers), timeout_s=LIMIT_S, on_error="skip"), workers=2
    )
    assert seen.error is None
    assert seen.journal == without(make, numbers)
    assert seen.report.skipped == len(numbers)
    assert seen.report.worker_deaths == 0  # the engine killed them itself


@pytest.mark.parametrize("sleep", [sleeper, slow(async_sleeper)])
def test_retries_count_and_may_succeed(sleep: Any, tmp_path: Path) -> None:
    strikes = Strikes(tmp_path, 2)
    seen = observe(
        lambda seen: small(seen, range(N), sleep({60}, strikes), timeout_s=LIMIT_S, retries=2), workers=2
    )
    assert seen.error is None
    assert seen.journal == without(small, set())
    assert strikes.left == 0


@pytest.mark.parametrize("sleep", [slow(sleeper), async_sleeper])
def test_retries_are_used_up(sleep: Any) -> None:
    seen = observe(
        lambda seen: small(seen, range(N), sleep({60}), timeout_s=LIMIT_S, retries=2, on_error="dead_letter"),
        workers=2,
    )
    letter = seen.events("letters")[0]
    assert (letter.seq, letter.event, letter.attempts) == (60, 60, 3)
    assert "still running after timeout_s" in letter.error


def test_a_list_is_run_again_event_by_event() -> None:
    def work(events: list[int]) -> list[int]:
        if 33 in events:
            time.sleep(60)
        return events

    seen = Seen()
    graph = sw.Graph()
    graph.source(range(N)).map_batches(work, batch_size=10, timeout_s=LIMIT_S, on_error="skip").sink(seen.sink("out"))
    report = sw.run(graph, workers=2)
    assert seen.events("out") == [n for n in range(N) if n != 33]
    assert report.skipped == 1
    assert report.worker_deaths == 0  # the engine killed for the list, too


def test_a_list_of_one() -> None:
    def work(events: list[int]) -> list[int]:
        if 33 in events:
            time.sleep(60)
        return events

    seen = Seen()
    graph = sw.Graph()
    graph.source(range(40)).map_batches(work, batch_size=1, timeout_s=LIMIT_S, on_error="dead_letter").sink(
        seen.sink("out")
    )
    graph.dead_letters().sink(seen.sink("letters"))
    sw.run(graph, workers=1)
    assert seen.events("out") == [n for n in range(40) if n != 33]
    assert [(it.seq, it.error.split(":")[0]) for it in seen.events("letters")] == [(33, "HandlerTimeout")]


def test_a_generator_that_sleeps() -> None:
    def work(n: int) -> Iterator[int]:
        yield n
        if n == 33:
            time.sleep(60)
        yield n

    seen = Seen()
    graph = sw.Graph()
    graph.source(range(40)).flat_map(work, timeout_s=LIMIT_S, on_error="skip").sink(seen.sink("out"))
    report = sw.run(graph, workers=2)
    assert seen.events("out") == [n for n in range(40) for _ in range(2) if n != 33]
    assert report.skipped == 1


def test_a_sibling_of_a_flat_map() -> None:
    def split(n: int) -> list[tuple[int, int]]:
        return [(n, at) for at in range(3)]

    def work(event: tuple[int, int]) -> tuple[int, int]:
        if event == (20, 1):
            time.sleep(60)
        return event

    seen = Seen()
    graph = sw.Graph()
    graph.source(range(40)).flat_map(split).map(work, timeout_s=LIMIT_S, on_error="skip").sink(seen.sink("out"))
    sw.run(graph, workers=2)
    assert seen.events("out") == [(n, at) for n in range(40) for at in range(3) if (n, at) != (20, 1)]


def test_a_plain_handler_beside_an_async_one() -> None:
    async def first(n: int) -> int:
        return n

    seen = Seen()
    graph = sw.Graph()
    numbers = graph.source(range(40)).map(first)
    numbers.map(sleeper({20}), timeout_s=LIMIT_S, on_error="skip").sink(seen.sink("out"))
    sw.run(graph, workers=1)
    assert seen.events("out") == [n for n in range(40) if n != 20]


def test_code_that_holds_the_interpreter() -> None:
    """The limit is kept from outside, so that it holds for C code too."""

    def work(n: int) -> int:
        if n == 20:
            import ctypes

            ctypes.PyDLL(None).pause()
        return n

    seen = observe(lambda seen: small(seen, range(40), work, timeout_s=LIMIT_S, on_error="skip"), workers=1)
    assert seen.events("out") == [n for n in range(40) if n != 20]


def test_slow_but_within_the_limit() -> None:
    def work(n: int) -> int:
        time.sleep(0.01)
        return n

    seen = observe(lambda seen: small(seen, range(40), work, timeout_s=1.0), workers=2)
    assert seen.journal == observe(lambda seen: small(seen, range(40), same), runner="inline").journal


def test_a_late_event_is_killed_in_time() -> None:
    began = time.monotonic()
    observe(lambda seen: small(seen, range(10), sleeper({3}), timeout_s=LIMIT_S), workers=1)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("sleep", [sleeper, async_sleeper])
def test_the_letter_stands_in_its_place(make: Any, sleep: Any) -> None:
    """The words are the same, whether a process was killed for it or a call cancelled."""
    late = {0, 50, 51}
    words: dict[str, Any] = {"timeout_s": LIMIT_S, "on_error": "dead_letter"}
    seen = observe(lambda seen: make(seen, range(N), sleep(late), **words), workers=2)
    assert [row for row in seen.journal if row[0] == "out"] == without(make, late)
    letters = [(it.seq, it.index, it.node, it.event, it.attempts, it.error) for it in seen.events("letters")]
    text = f"HandlerTimeout: still running after timeout_s={LIMIT_S:g}"
    assert letters == [(n, 0, "struck", n, 1, text) for n in sorted(late)]
    assert seen.report.worker_deaths == 0


def test_errors_and_time_outs_count_together(tmp_path: Path) -> None:
    """What a late event had raised before died with its worker; it has no more attempts than were allowed and that."""
    calls = tmp_path / "calls"
    calls.touch()

    def moody(n: int) -> int:
        if n == 50:
            with calls.open("a") as file:
                file.write("x")
            if calls.stat().st_size == 2:
                time.sleep(60)
            raise ValueError("moody")
        return n

    words: dict[str, Any] = {"on_error": "dead_letter", "retries": 2, "timeout_s": LIMIT_S}
    seen = observe(lambda seen: small(seen, range(N), moody, **words), workers=1)
    assert seen.events("out") == [n for n in range(N) if n != 50]
    assert [(it.error, it.attempts) for it in seen.events("letters")] == [("ValueError: moody", 3)]
    assert calls.stat().st_size <= 4


def test_a_list_whose_events_are_quick_alone() -> None:
    """The limit holds for one call: what is late only together gets through."""

    def work(numbers: list[int]) -> list[int]:
        time.sleep(0.02 * len(numbers))
        return numbers

    graph = sw.Graph()
    out: list[int] = []
    graph.source(range(20)).map_batches(work, batch_size=20, timeout_s=0.3).sink(out.append)
    report = sw.run(graph, workers=1)
    assert out == list(range(20))
    assert (report.worker_deaths, report.skipped) == (0, 0)


def test_an_async_generator_that_sleeps() -> None:
    async def work(n: int) -> AsyncIterator[int]:
        import asyncio

        yield n
        await asyncio.sleep(60 if n == 33 else 0)
        yield n

    seen = Seen()
    graph = sw.Graph()
    stream: Any = graph.source(range(40))
    stream.flat_map(work, timeout_s=LIMIT_S, on_error="skip").sink(seen.sink("out"))
    report = sw.run(graph, workers=2)
    assert seen.events("out") == [n for n in range(40) for _ in range(2) if n != 33]
    assert report.skipped == 1


def test_awaited_calls_beside_a_late_one_stay_in_their_process() -> None:
    async def where(n: int) -> tuple[int, int]:
        import asyncio

        await asyncio.sleep(60 if n == 5 else 0.001)
        return n, os.getpid()

    words: dict[str, Any] = {"workers": 1, "timeout_s": LIMIT_S, "on_error": "skip", "concurrency": 16}
    rows = list(sw.imap(where, range(100), **words))
    assert [n for n, _ in rows] == [n for n in range(100) if n != 5]
    assert len({pid for _, pid in rows}) == 1
