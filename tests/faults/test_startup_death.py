"""Workers that do not get beyond their start: the run fails with the reason, and is not started for ever."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from conftest import Seen, observe
from fault_cases import GRAPHS
from fault_graphs import Strikes, die, small
from fault_handlers import AsyncRaises, Dies, Raises, explode
from marks import slow


@pytest.mark.parametrize("make", GRAPHS)
def test_a_constructor_that_raises(make: Any) -> None:
    began = time.monotonic()
    seen = observe(lambda seen: make(seen, range(100), Raises), workers=2)
    error = seen.error
    assert type(error) is sw.HandlerError
    assert "cannot be built in a worker: OSError: no model here; no event was handled" in str(error)
    assert isinstance(error.__cause__, OSError)
    assert any("no model here" in note for note in error.__cause__.__notes__)
    assert seen.journal == []
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize(
    ("how", "ending"),
    [("exit", "exited with code 7"), slow("segv", "was ended by SIGSEGV")],
)
def test_a_constructor_that_ends_the_process(make: Any, how: str, ending: str) -> None:
    seen = observe(lambda seen: make(seen, range(100), sw.per_worker(Dies, how)), workers=2)
    assert type(seen.error) is sw.HandlerError
    assert "die at their start, before any event" in str(seen.error)
    assert ending in str(seen.error)
    assert seen.journal == []
    assert seen.report.worker_deaths <= 10


def test_a_constructor_that_ends_the_process_now_and_then(tmp_path: Path) -> None:
    """It is started again, with a growing pause, until it stands."""
    strikes = Strikes(tmp_path, 3)
    seen = observe(lambda seen: small(seen, range(100), sw.per_worker(Dies, "kill", strikes)), workers=1)
    assert seen.error is None
    assert seen.events("out") == list(range(100))
    assert seen.report.worker_deaths == 3


@pytest.mark.slow
def test_a_constructor_that_no_longer_works(tmp_path: Path) -> None:
    """Replacements that die at their start end the run too, though later: it has handled events before."""
    strikes = Strikes(tmp_path, 1)
    gone = str(tmp_path / "gone")

    class Once:
        def __init__(self) -> None:
            if os.path.exists(gone):
                os._exit(5)

        def __call__(self, n: int) -> int:
            if n == 50 and strikes.take():
                Path(gone).touch()
                die("kill")
            return n

    seen = observe(lambda seen: small(seen, range(100), Once), workers=1)
    assert type(seen.error) is sw.HandlerError
    assert "die at their start" in str(seen.error)
    assert "exited with code 5" in str(seen.error)
    assert seen.events("out") == list(range(len(seen.events("out"))))


def test_an_async_constructor_that_raises() -> None:
    seen = observe(lambda seen: small(seen, range(100), AsyncRaises), workers=2)
    assert type(seen.error) is sw.HandlerError
    assert "cannot be built in a worker: OSError: no session here" in str(seen.error)


def test_a_handler_that_cannot_be_unpacked() -> None:
    class Sour:
        def __call__(self, n: int) -> int:
            return n

        def __reduce__(self) -> Any:
            return explode, ()

    with pytest.raises(sw.HandlerError, match="cannot be built in a worker: ValueError: not in this process"):
        list(sw.imap(Sour(), range(10), workers=1))


def test_the_error_holds_also_where_nothing_is_read() -> None:
    with pytest.raises(sw.HandlerError, match="no model here"):
        list(sw.imap(Raises, iter(()), workers=1))
    assert Seen().journal == []
