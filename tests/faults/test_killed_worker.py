"""Workers that die, wherever and however: the run goes on and gives what it would have given."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from conftest import Seen, assert_same, observe
from fault_cases import GRAPHS
from fault_graphs import Inside, Strikes, branched, die, killer, look_inside, same, small, until
from fault_handlers import DiesInClose, SlowStart
from marks import slow

N = 3000


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Return what can be known of the runs that the test makes."""
    return look_inside(monkeypatch)


def check(make: Any, struck: Any, source: Any = None, plain: Any = same, **words: Any) -> Seen:
    """Run a graph with a struck handler and assert that it gives what the inline run gives with `plain`."""
    source = range(N) if source is None else source
    reference = observe(lambda seen: make(seen, source, plain), runner="inline")
    seen = observe(lambda seen: make(seen, source, struck), workers=2, **words)
    assert_same(reference, seen)
    return seen


@pytest.mark.parametrize(
    ("make", "how"),
    [
        (small, "kill"),
        (branched, "exit"),
        slow(small, "exit"),
        slow(branched, "kill"),
        *(slow(make, how) for make in (small, branched) for how in ("segv", "term")),
    ],
)
def test_one_worker(make: Any, how: str, tmp_path: Path) -> None:
    strikes = Strikes(tmp_path, 1)
    seen = check(make, killer([N // 2], how, strikes))
    assert (strikes.left, seen.report.worker_deaths) == (0, 1)


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("at", [0, slow(N - 1)])
def test_at_the_first_and_the_last_number(make: Any, at: int, tmp_path: Path) -> None:
    strikes = Strikes(tmp_path, 2)
    seen = check(make, killer([at], "kill", strikes))
    assert (strikes.left, seen.report.worker_deaths) == (0, 2)


@pytest.mark.parametrize("make", GRAPHS)
def test_many_deaths(make: Any, tmp_path: Path) -> None:
    strikes = Strikes(tmp_path, 12)
    seen = check(make, killer(range(0, N, 250), "kill", strikes), max_deaths=None)
    assert (strikes.left, seen.report.worker_deaths) == (0, 12)


@pytest.mark.parametrize("make", GRAPHS)
def test_all_workers_at_once(make: Any, tmp_path: Path, inside: Inside) -> None:
    """They all stand in their handlers when they are killed."""
    (tmp_path / "go").touch()
    go, standing = str(tmp_path / "go"), str(tmp_path)

    def wait(n: int) -> int:
        if n % 200 == 0 and os.path.exists(go):
            Path(standing, f"at-{os.getpid()}").touch()
            until(lambda: not os.path.exists(go), 30)
        return n

    def kill_all() -> None:
        until(lambda: len(list(tmp_path.glob("at-*"))) >= 2)
        workers = inside.workers()
        for pid in workers.values():
            os.kill(pid, signal.SIGKILL)
        until(lambda: not set(workers) & set(inside.workers()))
        os.unlink(go)

    killing = threading.Thread(target=kill_all)
    reference = observe(lambda seen: make(seen, range(N), same), runner="inline")
    killing.start()
    seen = observe(lambda seen: make(seen, range(N), wait), workers=2)
    killing.join()
    assert_same(reference, seen)
    assert seen.report.worker_deaths == (2 if make is small else 4)


def test_all_workers_while_they_start(tmp_path: Path, inside: Inside) -> None:
    handler: Any = sw.per_worker(SlowStart, str(tmp_path), 4)

    def kill_all() -> None:
        until(lambda: len(list(tmp_path.glob("starting-*"))) >= 4)
        for path in tmp_path.glob("starting-*"):
            os.kill(int(path.name.split("-")[1]), signal.SIGKILL)

    killing = threading.Thread(target=kill_all)
    killing.start()
    reference = observe(lambda seen: small(seen, range(N), same), runner="inline")
    seen = observe(lambda seen: small(seen, range(N), handler), workers=4)
    killing.join()
    assert_same(reference, seen)
    assert seen.report.worker_deaths == 4


@pytest.mark.parametrize("make", GRAPHS)
def test_while_a_large_answer_is_sent(make: Any, tmp_path: Path) -> None:
    """What is in the send queue dies with its worker, wholly or in part."""
    strikes = Strikes(tmp_path, 3)

    def large(n: int) -> Any:
        if n % 25 == 13 and strikes.take():
            threading.Timer(0.002, die, ["kill"]).start()
        return bytes([n % 251]) * 4_000_000 if n % 25 == 13 else n

    def plain(n: int) -> Any:
        return bytes([n % 251]) * 4_000_000 if n % 25 == 13 else n

    seen = check(make, large, range(100), plain, max_deaths=None)
    assert strikes.left == 0
    assert 1 <= seen.report.worker_deaths <= 3  # two may strike the same worker


@pytest.mark.parametrize("make", GRAPHS)
def test_at_the_end(make: Any) -> None:
    seen = check(make, DiesInClose)
    assert seen.report.ended_by == "source"


@pytest.mark.parametrize("make", GRAPHS)
def test_from_outside_at_random_moments(make: Any, inside: Inside) -> None:
    """Whatever a worker is doing, idle or not: one that has joined is killed every few milliseconds, twenty in all."""
    over = threading.Event()

    def kill_some() -> None:
        turn = killed = 0
        while killed < 20 and not over.wait(0.02):
            joined = inside.joined()
            pid = inside.workers().get(joined[turn % len(joined)]) if joined else None
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            turn += 1

    def work(n: int) -> int:
        end = time.perf_counter() + 0.0003
        while time.perf_counter() < end:
            continue
        return n

    killing = threading.Thread(target=kill_some)
    killing.start()
    try:
        seen = check(make, work, range(1500), max_deaths=None)
    finally:
        over.set()
        killing.join()
    assert seen.report.worker_deaths > 3


def test_an_async_worker(tmp_path: Path) -> None:
    strikes = Strikes(tmp_path, 2)

    async def work(n: int) -> int:
        import asyncio

        await asyncio.sleep(0.001)
        if n in (40, 160) and strikes.take():
            die("kill")
        return n

    seen = check(branched, work, range(300))
    assert (strikes.left, seen.report.worker_deaths) == (0, 2)


def test_an_ordered_handler(tmp_path: Path) -> None:
    strikes = Strikes(tmp_path, 2)
    reference = observe(lambda seen: small(seen, range(N), same), runner="inline")
    handler = killer([700, 2000], "kill", strikes)
    seen = observe(lambda seen: small(seen, range(N), handler, ordered=True), workers=2)
    assert_same(reference, seen)
    assert seen.report.worker_deaths == 2


def test_a_source_in_a_process_of_its_own_keeps_its_events(tmp_path: Path) -> None:
    strikes = Strikes(tmp_path, 2)

    def numbers() -> Iterator[int]:
        yield from range(N)

    check(branched, killer([100, 2000], "kill", strikes), numbers)
    assert strikes.left == 0


def test_replaced_within_a_second(tmp_path: Path, inside: Inside) -> None:
    """The time from a death to the next answer, with one worker, so that nobody stands in for it."""
    strikes = Strikes(tmp_path, 1)
    times: list[float] = []
    graph = sw.Graph()
    numbers = graph.source(range(400)).map(killer([200], "kill", strikes), workers=1)
    numbers.sink(lambda n: times.append(time.monotonic()))
    report = sw.run(graph)
    assert report.worker_deaths == 1
    assert max(later - earlier for earlier, later in pairwise(times)) < 1.0


@pytest.mark.parametrize("kind", ["plain", "async", "list"])
def test_deaths_count_as_attempts(kind: str, tmp_path: Path) -> None:
    """A handler that writes by attempt never writes twice under one name, and its retries are counted from there."""
    folder = str(tmp_path)

    def work(n: int) -> int:
        attempt = sw.current().attempt
        if n == 5:
            Path(folder, f"attempt-{attempt}").touch(exist_ok=False)
            if attempt < 3:
                os.kill(os.getpid(), signal.SIGKILL)
            if attempt == 3:
                raise ValueError("and now an error")
        return attempt

    async def awaited(n: int) -> int:
        return work(n)

    stream = sw.Graph().source(range(12))
    words: dict[str, Any] = {"retries": 1}
    if kind == "list":
        attempts = stream.map_batches(lambda events: [work(n) for n in events], batch_size=1, **words)
    else:
        attempts = stream.map(work if kind == "plain" else awaited, **words)
    found = list(sw.iterate(attempts, workers=1))
    assert found[5] == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"attempt-{n}" for n in (1, 2, 3, 4)]
