"""Workers that are replaced for their age or their size: nobody is blamed, nothing is lost, the place is kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import penstock as ps
import pytest
from conftest import assert_same, observe
from fault_graphs import GRAPHS, same, small

N = 2000


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("workers", [1, 2])
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

    seen = observe(lambda seen: small(seen, range(N), note), workers=2, max_events_per_worker=200)
    assert seen.events("out") == list(range(N))
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert sum(sizes) == N
    assert len(sizes) >= 3


def test_by_memory(tmp_path: Path) -> None:
    folder = str(tmp_path)
    kept: list[bytes] = []

    def leak(n: int) -> int:
        kept.append(os.urandom(1 << 20))
        Path(folder, str(os.getpid())).touch()
        return n

    seen = observe(lambda seen: small(seen, range(300), leak), workers=1, max_rss_bytes=150 << 20)
    assert seen.events("out") == list(range(300))
    assert seen.report.worker_deaths == 0
    assert len(list(tmp_path.iterdir())) >= 3


def test_by_events_async() -> None:
    async def work(n: int) -> int:
        import asyncio

        await asyncio.sleep(0)
        return n

    results = ps.imap(work, range(600), workers=2, max_events_per_worker=100)
    assert list(results) == list(range(600))
    assert results.report.worker_deaths == 0


def test_by_events_ordered() -> None:
    reference = observe(lambda seen: small(seen, range(N), same), runner="inline")
    seen = observe(lambda seen: small(seen, range(N), same, ordered=True), workers=2, max_events_per_worker=300)
    assert_same(reference, seen)
    assert seen.report.worker_deaths == 0


class Closes:
    """A handler that notes its end."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        Path(folder, f"open-{os.getpid()}").touch()

    def __call__(self, n: int) -> int:
        return n

    def close(self) -> None:
        Path(self.folder, f"closed-{os.getpid()}").touch()


def test_a_recycled_worker_closes_its_handlers(tmp_path: Path) -> None:
    handler: Any = ps.per_worker(Closes, str(tmp_path))
    observe(lambda seen: small(seen, range(N), handler), workers=2, max_events_per_worker=300)
    opened = sorted(path.name.split("-")[1] for path in tmp_path.glob("open-*"))
    assert opened == sorted(path.name.split("-")[1] for path in tmp_path.glob("closed-*"))
    assert len(opened) > 3
