"""Workers that are replaced because they have handled or grown enough: nobody is blamed, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import penstock as ps
import pytest
from conftest import Seen, assert_same, observe
from fault_graphs import GRAPHS, Strikes, branched, die, same, small

N = 2000


class Told:
    """A handler that tells which processes it is built and closed in."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        (self.folder / f"built-{os.getpid()}").touch()

    def __call__(self, n: int) -> int:
        return n

    def close(self) -> None:
        (self.folder / f"closed-{os.getpid()}").touch()


def check(make: Any, handler: Any, source: Any = None, **words: Any) -> Seen:
    """Assert that a graph gives what the inline runner gives, and that nobody was blamed."""
    source = range(N) if source is None else source
    reference = observe(lambda seen: make(seen, source, same), runner="inline")
    seen = observe(lambda seen: make(seen, source, handler), **{"workers": 2, **words})
    assert_same(reference, seen)
    assert seen.report.worker_deaths == 0
    return seen


@pytest.mark.parametrize("make", GRAPHS)
def test_after_so_many_events(make: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check(make, ps.per_worker(Told, str(tmp_path)), max_events_per_worker=100)
    built = {path.name.split("-")[1] for path in tmp_path.glob("built-*")}
    closed = {path.name.split("-")[1] for path in tmp_path.glob("closed-*")}
    assert len(built) > 4
    assert closed == built  # each was told to stop and had the time to
    assert caplog.records == []  # a replacement is no news


def test_after_every_event() -> None:
    """The smallest limit: a worker goes after its first task."""
    pids = list(ps.imap(lambda n: (n, os.getpid()), range(60), workers=2, max_events_per_worker=1))
    assert [n for n, _ in pids] == list(range(60))
    assert len({pid for _, pid in pids}) > 3


@pytest.mark.parametrize("make", GRAPHS)
def test_after_so_much_memory(make: Any, tmp_path: Path) -> None:
    kept: list[bytearray] = []

    def leak(n: int) -> int:
        if n % 50 == 0:
            (tmp_path / f"leaking-{os.getpid()}").touch()
            kept.append(bytearray(b"x") * (20 << 20))
        return n

    check(make, leak, max_rss_bytes=150 << 20)
    # 40 times 20 MiB is far more than two workers may have.
    assert len(list(tmp_path.glob("leaking-*"))) >= 4


def test_a_memory_limit_below_what_a_worker_needs() -> None:
    """Each worker is replaced after its first task; the run still comes to its end."""
    results = ps.imap(same, range(200), workers=2, max_rss_bytes=1)
    assert list(results) == list(range(200))
    assert results.report.worker_deaths == 0


def test_awaited_handlers_finish_what_they_have() -> None:
    async def wait(n: int) -> int:
        await asyncio.sleep(0.001)
        return n

    check(branched, wait, range(600), max_events_per_worker=50)


def test_ordered_handlers_go_on_in_their_successor(tmp_path: Path) -> None:
    """One worker at a time: the next one begins where the last one has ended."""
    journal = tmp_path / "journal"

    def note(n: int) -> int:
        with open(journal, "a") as file:
            file.write(f"{n} {os.getpid()}\n")
        return n

    reference = observe(lambda seen: small(seen, range(500), same), runner="inline")
    seen = observe(lambda seen: small(seen, range(500), note, ordered=True), workers=2, max_events_per_worker=60)
    assert_same(reference, seen)
    rows = [line.split() for line in journal.read_text().splitlines()]
    assert [int(n) for n, _ in rows] == list(range(500))
    assert len({pid for _, pid in rows}) > 2


def test_many_replacements_wait_for_nobody() -> None:
    """A replacement is no failure, so the next one does not come ever later."""
    began = time.monotonic()
    results = ps.imap(same, range(400), workers=1, max_events_per_worker=10)
    assert list(results) == list(range(400))
    assert time.monotonic() - began < 20


class StuckInClose(Told):
    """A handler whose `close` does not come back."""

    def close(self) -> None:
        super().close()
        time.sleep(600)


def test_a_close_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    """`close_s` holds for a worker that is replaced too."""
    handler: Any = ps.per_worker(StuckInClose, str(tmp_path))
    began = time.monotonic()
    seen = check(small, handler, range(300), workers=1, max_events_per_worker=100, close_s=0.3)
    assert time.monotonic() - began < 15
    assert len(list(tmp_path.glob("built-*"))) >= 2
    assert set(seen.report.children.values()) <= {"terminated", "killed", "stopped"}


def test_a_worker_that_dies_while_it_is_to_be_replaced_is_blamed(tmp_path: Path) -> None:
    """That a worker is about to go does not excuse the event that kills it before."""
    strikes = Strikes(tmp_path, 2)

    def work(n: int) -> int:
        time.sleep(0.002)
        if n % 2 and strikes.take():
            die("kill")
        return n

    reference = observe(lambda seen: small(seen, range(100), same), runner="inline")
    seen = observe(lambda seen: small(seen, range(100), work), workers=1, max_events_per_worker=1)
    assert_same(reference, seen)
    assert (strikes.left, seen.report.worker_deaths) == (0, 2)
