"""The process that starts the others dies: they die with it, are started again, and the run goes on."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from conftest import assert_same, observe
from fault_cases import GRAPHS
from fault_graphs import branched, same, until
from marks import slow


def parent_of_workers(folder: Path) -> int:
    """Wait for a worker to tell who its parent is."""
    until(lambda: list(folder.glob("parent-*")))
    return int(next(iter(folder.glob("parent-*"))).name.split("-")[1])


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("number", [signal.SIGKILL, slow(signal.SIGTERM)])
def test_the_run_goes_on(make: Any, number: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = str(tmp_path)

    def work(n: int) -> int:
        if n == 500 and not os.path.exists(f"{folder}/done"):
            Path(folder, f"parent-{os.getppid()}").touch()
            until(lambda: os.path.exists(f"{folder}/done"))
        return n

    def strike() -> None:
        zygote = parent_of_workers(tmp_path)
        Path(folder, "done").touch()
        os.kill(zygote, number)

    def events() -> Iterator[int]:
        yield from range(2999)
        killing.join()  # so that the death is not behind the end of the run
        yield 2999

    killing = threading.Thread(target=strike)
    reference = observe(lambda seen: make(seen, range(3000), same), runner="inline")
    killing.start()
    with caplog.at_level(logging.WARNING):
        seen = observe(lambda seen: make(seen, events(), work), workers=2)
    assert_same(reference, seen)
    # Told to end it still says that it has killed its children; killed it says nothing. No event is lost for it.
    assert seen.report.worker_deaths <= (0 if number == signal.SIGKILL else 4)
    assert "the process that starts children" in caplog.text


def test_with_a_source_process(tmp_path: Path) -> None:
    """What a source had read and not handed over is lost, so the run ends with an error that says so."""
    folder = str(tmp_path)

    def numbers() -> Iterator[int]:
        yield from range(500)
        Path(folder, f"parent-{os.getppid()}").touch()
        threading.Event().wait()

    killing = threading.Thread(target=lambda: os.kill(parent_of_workers(tmp_path), signal.SIGKILL))
    killing.start()
    seen = observe(lambda seen: branched(seen, numbers, same), workers=2)
    killing.join()
    assert type(seen.error) is sw.WorkerDied
    assert "the process of source 'numbers' died with the process that starts workers" in str(seen.error)
    assert sorted(seen.events("loose")) == list(range(seen.report.events_in))


def test_again_and_again(tmp_path: Path) -> None:
    folder = str(tmp_path)

    def work(n: int) -> int:
        if n % 300 == 299:
            path = Path(folder, f"struck-{n}")
            if not path.exists():
                path.touch()
                os.kill(os.getppid(), signal.SIGKILL)
                until(lambda: False, 5)
        return n

    seen = observe(lambda seen: branched(seen, range(1000), work), workers=2)
    assert seen.error is None
    assert sorted(seen.events("loose")) == list(range(1000))
