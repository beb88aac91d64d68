"""The process that starts the others dies, and they with it: it is started again, and the run goes on."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import penstock as ps
import pytest
from conftest import assert_same, observe
from fault_graphs import GRAPHS, descendants, same, small, until

N = 600


def zygotes() -> list[int]:
    """Give the children of this process that have children: those that start the others."""
    found = []
    for pid in descendants(os.getpid()):
        with suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] == str(os.getpid()):
                found.append(pid)
    return [pid for pid in found if descendants(pid)]


def kill_at(told: Path, number: int) -> threading.Thread:
    """Kill the zygote when handlers have told of `number` calls."""

    def kill() -> None:
        until(lambda: told.exists() and told.stat().st_size >= number)
        for pid in zygotes():
            os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def telling(told: Path) -> Any:
    """Give a handler that tells of each call and takes a moment."""
    path = str(told)

    def work(n: int) -> int:
        with open(path, "a") as file:
            file.write("x")
        time.sleep(0.001)
        return n

    return work


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("at", [1, 200])
def test_the_run_goes_on(make: Any, at: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = tmp_path / "told"
    reference = observe(lambda seen: make(seen, range(N), same), runner="inline")
    killing = kill_at(told, at)
    with caplog.at_level(logging.WARNING, logger="penstock"):
        seen = observe(lambda seen: make(seen, range(N), telling(told)), workers=2)
    killing.join()
    assert_same(reference, seen)
    # Nobody is blamed: none of the events did it.
    assert seen.report.worker_deaths == 0
    assert [record for record in caplog.records if "it is started again with its" in record.getMessage()]


def test_again_and_again(tmp_path: Path) -> None:
    over = threading.Event()
    killed: list[int] = []

    def kill() -> None:
        while not over.wait(0.15):
            for pid in zygotes():
                if pid not in killed:
                    killed.append(pid)
                    os.kill(pid, signal.SIGKILL)

    def work(n: int) -> int:
        time.sleep(0.002)
        return n

    reference = observe(lambda seen: small(seen, range(N), same), runner="inline")
    killing = threading.Thread(target=kill)
    killing.start()
    try:
        seen = observe(lambda seen: small(seen, range(N), work), workers=2)
    finally:
        over.set()
        killing.join()
    assert_same(reference, seen)
    assert len(killed) >= 2


def test_a_source_that_goes_with_it_ends_the_run_in_order(tmp_path: Path) -> None:
    """What a source process had read beyond the last number is in nobody's hands, so the run cannot go on."""
    told = tmp_path / "told"

    def numbers() -> Iterator[int]:
        for n in range(100_000):
            time.sleep(0.0005)
            yield n

    killing = kill_at(told, 100)
    seen = observe(lambda seen: small(seen, numbers, telling(told)), workers=2)
    killing.join()
    assert type(seen.error) is ps.WorkerDied
    assert seen.error.node == "numbers"
    assert "the process of source 'numbers' died with the process that starts workers" in str(seen.error)
    out = seen.events("out")
    assert out == list(range(len(out)))
    assert f"all {len(out)} numbers read before are released" in str(seen.error)


def test_killed_while_the_run_ends(tmp_path: Path) -> None:
    """Handlers that are being closed die with it; all was delivered before."""

    class Slow:
        def __call__(self, n: int) -> int:
            return n

        def close(self) -> None:
            (tmp_path / "closing").write_text("x")
            time.sleep(30)

    killing = kill_at(tmp_path / "closing", 1)
    reference = observe(lambda seen: small(seen, range(100), same), runner="inline")
    began = time.monotonic()
    seen = observe(lambda seen: small(seen, range(100), Slow), workers=2)
    killing.join()
    assert time.monotonic() - began < 15
    assert_same(reference, seen)
