"""Work is measured without the time in which a thread waited for a core."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter, sleep

import pytest
from sluiceway.engine.interpreter import work_time as module
from sluiceway.engine.interpreter.work_time import work_time


def test_what_a_thread_waited_for_a_core_is_no_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stats = tmp_path / "schedstat"
    monkeypatch.setattr(module, "_STATS", str(stats))
    stats.write_text("5000000 1000000000 7\n")
    began, wall = work_time(), perf_counter()
    stats.write_text("9000000 3500000000 9\n")
    assert work_time() - began == pytest.approx(perf_counter() - wall - 2.5, abs=0.5)


def test_waiting_on_purpose_is_work() -> None:
    began = work_time()
    sleep(0.05)
    assert work_time() - began >= 0.04  # it wakes up later than asked on a busy machine, and that is not counted


def test_without_the_kernel_s_figure_all_time_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_STATS", str(tmp_path / "none"))
    wall = perf_counter()
    assert wall <= work_time() <= perf_counter()
