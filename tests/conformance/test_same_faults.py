"""Workers that die, hang or are replaced: every runner of processes goes on and gives what the inline runner gives."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from conftest import Seen, assert_same, observe
from fault_graphs import Strikes, branched, killer, same, small

N = 2000


def check(make: Any, struck: Any, runner: str, plain: Any = same, **words: Any) -> Seen:
    """Run a graph with a struck handler and assert that it gives what the inline run gives with `plain`."""
    reference = observe(lambda seen: make(seen, range(N), plain), runner="inline")
    seen = observe(lambda seen: make(seen, range(N), struck), runner=runner, workers=2, **words)
    assert_same(reference, seen)
    return seen


@pytest.mark.parametrize("how", ["kill", "exit", "segv"])
def test_one_worker_dies(how: str, elsewhere: str, tmp_path: Path) -> None:
    strikes = Strikes(tmp_path, 1)
    seen = check(branched, killer([N // 2], how, strikes), elsewhere)
    assert (strikes.left, seen.report.worker_deaths) == (0, 1)


def test_many_workers_die(elsewhere: str, tmp_path: Path) -> None:
    strikes = Strikes(tmp_path, 8)
    seen = check(small, killer(range(0, N, 200), "kill", strikes), elsewhere, max_deaths=None)
    assert (strikes.left, seen.report.worker_deaths) == (0, 8)


def test_an_event_that_kills_is_named(elsewhere: str) -> None:
    seen = observe(lambda seen: small(seen, range(N), killer([250])), runner=elsewhere, workers=2)
    assert type(seen.error) is sw.WorkerDied
    assert (seen.error.seq, seen.error.node) == (250, "struck")
    assert "was ended by SIGKILL" in str(seen.error)
    assert [row[1] for row in seen.journal] == list(range(250))


def test_events_that_kill_are_skipped_or_letters(elsewhere: str) -> None:
    bad = {7, 300, 301}
    seen = observe(
        lambda seen: small(seen, range(N), killer(bad), on_error="dead_letter"), runner=elsewhere, workers=2
    )
    assert seen.error is None
    assert [row[1] for row in seen.journal if row[0] == "out"] == [n for n in range(N) if n not in bad]
    assert [row[1] for row in seen.journal if row[0] == "letters"] == sorted(bad)
    assert seen.report.worker_deaths == 3 * len(bad)


def test_a_call_past_its_time_limit_is_ended(elsewhere: str) -> None:
    def hang(n: int) -> int:
        if n == 40:
            time.sleep(60)
        return n

    seen = observe(
        lambda seen: small(seen, range(100), hang, timeout_s=0.5, on_error="skip"), runner=elsewhere, workers=2
    )
    assert seen.error is None
    assert [row[1] for row in seen.journal] == [n for n in range(100) if n != 40]
    assert (seen.report.skipped, seen.report.worker_deaths) == (1, 0)


def test_workers_are_replaced_after_some_events(elsewhere: str) -> None:
    check(small, same, elsewhere, max_events_per_worker=300)


def test_a_stall_is_told_with_the_stack(elsewhere: str, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    go = str(tmp_path / "go")

    def wait_for_a_file(n: int) -> int:
        while n == 5 and not os.path.exists(go):
            time.sleep(0.01)
        return n

    class Ends(logging.Handler):
        """Lets the handler go on as soon as it is told that it does not."""

        def emit(self, record: logging.LogRecord) -> None:
            if "nothing has moved" in record.getMessage() and "wait_for_a_file" in record.getMessage():
                Path(go).touch()

    ends = Ends()
    logging.getLogger("sluiceway").addHandler(ends)
    try:
        got = list(sw.imap(wait_for_a_file, range(10), runner=elsewhere, workers=1, stall_warning_s=0.5))
    finally:
        logging.getLogger("sluiceway").removeHandler(ends)
    assert got == list(range(10))
    assert "is with worker 0.0.1 (process" in caplog.text
    assert "on number 5" in caplog.text


def test_a_handler_that_cannot_be_built_ends_the_run(elsewhere: str) -> None:
    class Broken:
        def __init__(self) -> None:
            raise RuntimeError("no such model")

        def __call__(self, n: int) -> int:
            return n

    seen = observe(lambda seen: small(seen, range(10), Broken), runner=elsewhere, workers=2)
    assert "no such model" in str(seen.error)
