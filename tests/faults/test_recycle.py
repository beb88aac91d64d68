"""Workers that are replaced for their age or their size: nobody is blamed, nothing is lost, the place is kept."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from conftest import assert_same, observe
from fault_cases import GRAPHS
from fault_graphs import Strikes, die, same, small
from fault_handlers import Closes, StuckInClose
from marks import slow

N = 2000


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("workers", [slow(1), 2])
def test_by_events(make: Any, workers: int) -> None:
    reference = observe(lambda seen: make(seen, range(N), same), runner="inline")
    seen = observe(lambda seen: make(seen, range(N), same), workers=workers, max_events_per_worker=300)
    assert_same(reference, seen)
    assert seen.report.worker_deaths == 0


def test_everyone_has_his_share(tmp_path: Path) -> None:
    folder = str(tmp_path)

    def note(n: int) -> int:
        with open(f"{folder}/{os.getpid()}", "a") as file:
            file.write("x")
        return n

    # A worker goes between its tasks, so there must be more than its tasks hold: the window keeps those small.
    words: dict[str, Any] = {"max_events_per_worker": 200, "window_numbers": 100}
    seen = observe(lambda seen: small(seen, range(N), note), workers=2, **words)
    assert seen.events("out") == list(range(N))
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert sum(sizes) == N
    assert len(sizes) >= 3


def test_by_memory(tmp_path: Path) -> None:
    folder = str(tmp_path)
    kept: list[bytes] = []

    def leak(n: int) -> int:
        kept.append(b"x" * (1 << 20))
        Path(folder, str(os.getpid())).touch()
        return n

    # A worker is weighed between its tasks: the window keeps them small.
    words: dict[str, Any] = {"workers": 1, "max_rss_bytes": 100 << 20, "window_numbers": 20}
    seen = observe(lambda seen: small(seen, range(400), leak), **words)
    assert seen.events("out") == list(range(400))
    assert seen.report.worker_deaths == 0
    assert len(list(tmp_path.iterdir())) >= 3


def test_by_events_async() -> None:
    async def work(n: int) -> int:
        import asyncio

        await asyncio.sleep(0)
        return n

    results = sw.imap(work, range(600), workers=2, max_events_per_worker=100)
    assert list(results) == list(range(600))
    assert results.report.worker_deaths == 0


def test_by_events_ordered() -> None:
    reference = observe(lambda seen: small(seen, range(N), same), runner="inline")
    seen = observe(lambda seen: small(seen, range(N), same, ordered=True), workers=2, max_events_per_worker=300)
    assert_same(reference, seen)
    assert seen.report.worker_deaths == 0


def test_a_recycled_worker_closes_its_handlers(tmp_path: Path) -> None:
    handler: Any = sw.per_worker(Closes, str(tmp_path))
    words: dict[str, Any] = {"max_events_per_worker": 1000, "window_numbers": 1000}
    observe(lambda seen: small(seen, range(30_000), handler), workers=2, **words)
    opened = sorted(path.name.split("-")[1] for path in tmp_path.glob("open-*"))
    assert opened == sorted(path.name.split("-")[1] for path in tmp_path.glob("closed-*"))
    assert len(opened) > 2


def test_after_every_task() -> None:
    """The smallest limits: a worker goes after its first task, and the run still comes to its end."""

    def work(n: int) -> tuple[int, int]:
        time.sleep(0.002)  # slow enough for tasks to be small
        return n, os.getpid()

    for words in ({"max_events_per_worker": 1}, {"max_rss_bytes": 1}):
        results = sw.imap(work, range(60), workers=2, **words)  # type: ignore[arg-type]
        rows = list(results)
        assert [n for n, _ in rows] == list(range(60))
        assert len({pid for _, pid in rows}) > 2
        assert results.report.worker_deaths == 0


@pytest.mark.parametrize("limit", [1, slow(10)])
@pytest.mark.parametrize("kind", ["plain", "async", "ordered", "list"])
def test_no_worker_handles_more_events_than_its_share(kind: str, limit: int) -> None:
    def work(n: int) -> tuple[int, int]:
        return n, os.getpid()

    async def wait(n: int) -> tuple[int, int]:
        return n, os.getpid()

    def together(events: list[int]) -> list[tuple[int, int]]:
        return [(n, os.getpid()) for n in events]

    stream = sw.Graph().source(range(20 * limit))
    if kind == "list":
        mapped = stream.map_batches(together, batch_size=8)
    else:
        mapped = stream.map(wait if kind == "async" else work, ordered=kind == "ordered")
    rows: list[tuple[int, int]] = []
    mapped.sink(rows.append)
    report = sw.run(stream.graph, workers=2, max_events_per_worker=limit)
    assert [n for n, _ in rows] == list(range(20 * limit))
    assert report.worker_deaths == 0
    assert max(Counter(pid for _, pid in rows).values()) == limit


def test_ordered_calls_go_on_in_the_successor(tmp_path: Path) -> None:
    """One worker at a time: the next one begins where the last one has ended."""
    journal = tmp_path / "journal"

    def note(n: int) -> int:
        with journal.open("a") as file:
            file.write(f"{n} {os.getpid()}\n")
        return n

    words: dict[str, Any] = {"max_events_per_worker": 60, "window_numbers": 50}
    observe(lambda seen: small(seen, range(500), note, ordered=True), workers=2, **words)
    rows = [line.split() for line in journal.read_text().splitlines()]
    assert [int(n) for n, _ in rows] == list(range(500))
    assert len({pid for _, pid in rows}) > 1


def test_a_close_that_hangs_holds_nobody_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`close_s` holds for a worker that is replaced too."""
    handler: Any = sw.per_worker(StuckInClose, str(tmp_path))
    words: dict[str, Any] = {"max_events_per_worker": 100, "window_numbers": 500, "close_s": 0.3}
    seen = observe(lambda seen: small(seen, range(5000), handler), workers=1, **words)
    assert seen.events("out") == list(range(5000))
    assert seen.report.worker_deaths == 0
    assert len(list(tmp_path.glob("open-*"))) >= 2
    assert "worker 0.0.1 is killed: its handlers take longer to close than close_s=0.3" in caplog.text


def test_a_worker_that_dies_before_it_goes_is_blamed(tmp_path: Path) -> None:
    """That a worker is about to go does not excuse the event that kills it."""
    strikes = Strikes(tmp_path, 2)

    def work(n: int) -> int:
        time.sleep(0.002)
        if n % 2 and strikes.take():
            die("kill")
        return n

    reference = observe(lambda seen: small(seen, range(40), same), runner="inline")
    seen = observe(lambda seen: small(seen, range(40), work), workers=1, max_events_per_worker=1)
    assert_same(reference, seen)
    assert (strikes.left, seen.report.worker_deaths) == (0, 2)
