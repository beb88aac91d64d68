"""Calls that run past `timeout_s`: a process is killed for them, an await is cancelled; all others are unaffected."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import penstock as ps
import pytest
from conftest import Seen, assert_same, observe
from fault_graphs import GRAPHS, Strikes, branched, same, small

N = 300
LATE = (20, 21, 150)
LIMIT_S = 0.25


def late(n: int) -> int:
    """Never come back for the late numbers."""
    while n in LATE:
        time.sleep(60)
    return n


def busy(n: int) -> int:
    """The same in a loop that holds the processor."""
    while n in LATE:
        continue
    return n


async def awaited(n: int) -> int:
    """The same in an await."""
    while n in LATE:
        await asyncio.sleep(60)
    return n


def refuse(n: int) -> int:
    """What the inline runner is given in place of a late call: it fails at the same numbers."""
    if n in LATE:
        raise ValueError("late")
    return n


def check(make: Any, handler: Any, on_error: str, source: Any = None, **words: Any) -> Seen:
    """Assert that all but the late numbers come out as they would if they failed in another way."""
    source = range(N) if source is None else source
    reference = observe(lambda seen: make(seen, source, refuse, on_error=on_error), runner="inline")
    seen = observe(
        lambda seen: make(seen, source, handler, on_error=on_error, timeout_s=LIMIT_S, **words), workers=2
    )
    without = [row for row in seen.journal if row[0] != "letters"]
    assert without == [row for row in reference.journal if row[0] != "letters"]
    assert seen.report is not None
    assert seen.report.worker_deaths == 0
    if on_error != "fail":
        assert sorted(map(repr, seen.loose)) == sorted(map(repr, reference.loose))
        letters, others = seen.events("letters"), reference.events("letters")
        assert [(one.seq, one.index, one.node, one.event) for one in letters] == [
            (one.seq, one.index, one.node, one.event) for one in others
        ]
        assert (seen.report.skipped, seen.report.dead_letters) == (reference.report.skipped, reference.report.dead_letters)
        assert {one.error for one in letters} <= {f"HandlerTimeout: still running after timeout_s={LIMIT_S:g}"}
    return seen


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("handler", [late, busy, awaited])
def test_dead_letters_stand_in_their_place(make: Any, handler: Any) -> None:
    seen = check(make, handler, "dead_letter")
    assert [letter.seq for letter in seen.events("letters")] == list(LATE)
    assert {letter.attempts for letter in seen.events("letters")} == {1}


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("handler", [late, awaited])
def test_skip_goes_on_without_them(make: Any, handler: Any) -> None:
    assert check(make, handler, "skip").report.skipped == 3


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("handler", [late, awaited])
def test_fail_ends_the_run_after_releasing_all_below(make: Any, handler: Any) -> None:
    seen = check(make, handler, "fail")
    error = seen.error
    assert type(error) is ps.HandlerTimeout
    assert (error.seq, error.node, error.event) == (20, "struck", 20)
    assert f"after 1 attempt: HandlerTimeout: still running after timeout_s={LIMIT_S:g}" in str(error)
    assert "everything below 20 is released" in str(error)
    assert seen.report.ended_by == "error"


def test_an_event_that_is_late_once_is_tried_again(tmp_path: Path) -> None:
    strikes = Strikes(tmp_path, 2)

    def once(n: int) -> int:
        while n == 150 and strikes.take():
            time.sleep(60)
        return n

    reference = observe(lambda seen: branched(seen, range(N), same, retries=2), runner="inline")
    seen = observe(lambda seen: branched(seen, range(N), once, retries=2, timeout_s=LIMIT_S), workers=2)
    assert strikes.left == 0
    assert seen.error is None
    assert seen.journal == reference.journal
    assert seen.report.worker_deaths == 0


@pytest.mark.parametrize("is_async", [False, True])
def test_retries_are_used_up(is_async: bool, tmp_path: Path) -> None:
    calls = tmp_path / "calls"

    def note(n: int) -> None:
        if n == 150:
            with open(calls, "a") as file:
                file.write("x")

    def sync(n: int) -> int:
        note(n)
        return late(n)

    async def coroutine(n: int) -> int:
        note(n)
        return await awaited(n)

    source = range(100, 200)
    graph_words: dict[str, Any] = {"on_error": "dead_letter", "retries": 2, "timeout_s": LIMIT_S}
    seen = observe(lambda seen: small(seen, source, coroutine if is_async else sync, **graph_words), workers=2)
    assert seen.error is None
    assert seen.events("out") == [n for n in source if n != 150]
    assert [(one.event, one.attempts) for one in seen.events("letters")] == [(150, 3)]
    assert calls.stat().st_size == 3


def test_errors_and_time_outs_count_together(tmp_path: Path) -> None:
    """An event that raises, is late and raises again has had three attempts."""
    attempts = tmp_path / "attempts"
    attempts.touch()

    def moody(n: int) -> int:
        if n == 50:
            with open(attempts, "a") as file:
                file.write("x")
            if attempts.stat().st_size == 2:
                time.sleep(60)
            raise ValueError("moody")
        return n

    words: dict[str, Any] = {"on_error": "dead_letter", "retries": 2, "timeout_s": LIMIT_S}
    seen = observe(lambda seen: small(seen, range(100), moody, **words), workers=1)
    assert seen.events("out") == [n for n in range(100) if n != 50]
    # What it had raised before it was late died with its worker: the late attempt is the first that is known.
    assert [one.error for one in seen.events("letters")] == ["ValueError: moody"]
    assert attempts.stat().st_size <= 4


@pytest.mark.parametrize("size", [None, 8])
@pytest.mark.parametrize("on_error", ["skip", "dead_letter", "fail"])
def test_a_late_event_in_a_list(size: int | None, on_error: str) -> None:
    """A late list is run again event by event, so that its neighbours get through."""

    def lists(numbers: list[int]) -> list[int]:
        return [late(n) for n in numbers]

    def make(seen: Seen, handler: Any, **words: Any) -> ps.Graph:
        graph = ps.Graph()
        numbers = graph.source(range(60), name="numbers")
        numbers.map_batches(handler, batch_size=size, name="struck", on_error=on_error, **words).sink(
            seen.sink("out"), name="out"
        )
        if on_error == "dead_letter":
            graph.dead_letters().sink(seen.sink("letters"), name="letters")
        return graph

    seen = observe(lambda seen: make(seen, lists, timeout_s=LIMIT_S), workers=2)
    known = [n for n in range(60) if n not in LATE]
    if on_error == "fail":
        assert type(seen.error) is ps.HandlerTimeout
        assert (seen.error.seq, seen.events("out")) == (20, list(range(20)))
        return
    assert seen.error is None
    assert seen.events("out") == known
    if on_error == "dead_letter":
        assert [letter.seq for letter in seen.events("letters")] == [20, 21]
        assert all("HandlerTimeout" in letter.error for letter in seen.events("letters"))
    assert seen.report.worker_deaths == 0


def test_a_list_whose_events_are_quick_alone() -> None:
    """The limit holds for one call: what is late only together gets through."""

    def slow(numbers: list[int]) -> list[int]:
        time.sleep(0.01 * len(numbers))
        return numbers

    graph = ps.Graph()
    out: list[int] = []
    graph.source(range(40)).map_batches(slow, batch_size=40, timeout_s=0.2).sink(out.append)
    report = ps.run(graph, workers=1)
    assert out == list(range(40))
    assert (report.worker_deaths, report.skipped) == (0, 0)


def test_a_generator_that_sleeps_between_its_outputs() -> None:
    """The limit holds for all outputs of an event together, and for those of one event only."""

    def several(n: int) -> Iterator[int]:
        for turn in range(3):
            time.sleep(60 if n == 20 and turn == 1 else 0.0)
            yield 10 * n + turn

    async def several_async(n: int) -> AsyncIterator[int]:
        for turn in range(3):
            await asyncio.sleep(60 if n == 20 and turn == 1 else 0.0)
            yield 10 * n + turn

    for handler in (several, several_async):
        graph = ps.Graph()
        out: list[int] = []
        letters: list[ps.DeadLetter] = []
        stream: Any = graph.source(range(40))
        stream.flat_map(handler, name="several", timeout_s=LIMIT_S, on_error="dead_letter").sink(out.append)
        graph.dead_letters().sink(letters.append)
        report = ps.run(graph, workers=2)
        assert out == [10 * n + turn for n in range(40) if n != 20 for turn in range(3)]
        assert [(one.seq, one.index, one.event) for one in letters] == [(20, 0, 20)]
        assert report.worker_deaths == 0


def test_outputs_of_a_flat_map_are_late_one_by_one() -> None:
    """The sibling of a late event gets through; `index` tells them apart."""

    def sleep_at(pair: tuple[int, int]) -> tuple[int, int]:
        if pair == (7, 1):
            time.sleep(60)
        return pair

    graph = ps.Graph()
    out: list[tuple[int, int]] = []
    letters: list[ps.DeadLetter] = []
    pairs = graph.source(range(20)).flat_map(lambda n: [(n, 0), (n, 1), (n, 2)])
    pairs.map(sleep_at, name="struck", timeout_s=LIMIT_S, on_error="dead_letter").sink(out.append)
    graph.dead_letters().sink(letters.append)
    ps.run(graph, workers=2)
    assert out == [(n, at) for n in range(20) for at in range(3) if (n, at) != (7, 1)]
    assert [(one.seq, one.index, one.event) for one in letters] == [(7, 1, (7, 1))]


def test_awaited_calls_beside_a_late_one_stay_in_their_process() -> None:
    async def where(n: int) -> tuple[int, int]:
        await asyncio.sleep(60 if n == 5 else 0.001)
        return n, os.getpid()

    words: dict[str, Any] = {"workers": 1, "timeout_s": LIMIT_S, "on_error": "skip", "concurrency": 16}
    rows = list(ps.imap(where, range(100), **words))
    assert [n for n, _ in rows] == [n for n in range(100) if n != 5]
    assert len({pid for _, pid in rows}) == 1


def test_a_plain_handler_beside_one_that_awaits() -> None:
    """Both run in one process; the plain one holds it up and is killed, awaited calls are run again."""

    async def first(n: int) -> int:
        await asyncio.sleep(0.001)
        return n

    graph = ps.Graph()
    out: list[int] = []
    graph.source(range(N)).map(first).map(late, name="late", timeout_s=LIMIT_S, on_error="skip").sink(out.append)
    report = ps.run(graph, workers=2)
    assert out == [n for n in range(N) if n not in LATE]
    assert (report.skipped, report.worker_deaths) == (3, 0)


def test_a_limit_that_nobody_reaches_changes_nothing() -> None:
    reference = observe(lambda seen: branched(seen, range(3000), same, timeout_s=5.0), runner="inline")
    assert_same(reference, observe(lambda seen: branched(seen, range(3000), same, timeout_s=5.0), workers=2))


def test_time_in_line_does_not_count() -> None:
    """The limit is for a call, not for the wait before it or between two of them."""

    def steady(n: int) -> int:
        time.sleep(0.05)
        return n

    assert list(ps.imap(steady, range(20), workers=1, timeout_s=0.5)) == list(range(20))
