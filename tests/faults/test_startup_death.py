"""Workers that cannot start: the run fails with what kept them from it, and nobody is started again for ever."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import penstock as ps
import pytest
from conftest import assert_same, observe
from fault_graphs import GRAPHS, Strikes, die, same, small


class NoModel:
    """A handler that cannot be built."""

    def __init__(self, path: str) -> None:
        raise FileNotFoundError(path)

    def __call__(self, n: int) -> int:
        return n


class NoAsyncModel(NoModel):
    """The same with calls that are awaited."""

    async def __call__(self, n: int) -> int:  # type: ignore[override]
        return n


class Dies:
    """A handler whose building ends its process, as long as there are strikes; and tells how often it was tried."""

    def __init__(self, how: str, tried: str, strikes: Strikes | None = None) -> None:
        with open(tried, "a") as file:
            file.write("x")
        if strikes is None or strikes.take():
            die(how)

    def __call__(self, n: int) -> int:
        return n


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("model", [NoModel, NoAsyncModel])
def test_a_constructor_that_raises(make: Any, model: Any) -> None:
    handler: Any = ps.per_worker(model, "model.pt")
    seen = observe(lambda seen: make(seen, range(100), handler), workers=2)
    assert type(seen.error) is ps.HandlerError
    assert "cannot be built in a worker: FileNotFoundError: model.pt" in str(seen.error)
    assert seen.error.node in ("struck", "third+struck")
    assert isinstance(seen.error.__cause__, FileNotFoundError)
    assert "in __init__" in "".join(seen.error.__cause__.__notes__)
    assert seen.events("out") == []


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize(("how", "told"), [("exit", "exited with code 7"), ("segv", "SIGSEGV"), ("kill", "SIGKILL")])
def test_a_constructor_that_ends_its_process(make: Any, how: str, told: str, tmp_path: Path) -> None:
    tried = tmp_path / "tried"
    handler: Any = ps.per_worker(Dies, how, str(tried))
    began = time.monotonic()
    seen = observe(lambda seen: make(seen, range(100), handler), workers=2)
    assert time.monotonic() - began < 20
    assert type(seen.error) is ps.HandlerError
    assert "die at their start, before any event" in str(seen.error)
    assert told in str(seen.error)
    assert seen.events("out") == []
    # The two workers are tried side by side; the first that has failed often enough ends the run.
    assert 5 <= tried.stat().st_size <= 10


def test_a_constructor_that_recovers(tmp_path: Path) -> None:
    """What dies a few times and then starts has not failed."""
    strikes = Strikes(tmp_path, 3)
    handler: Any = ps.per_worker(Dies, "exit", str(tmp_path / "tried"), strikes)
    reference = observe(lambda seen: small(seen, range(300), same), runner="inline")
    seen = observe(lambda seen: small(seen, range(300), handler), workers=1)
    assert_same(reference, seen)
    assert (strikes.left, seen.report.worker_deaths) == (0, 3)


MODULE = """
import os
if os.getpid() != {pid}:
    {what}

def double(n):
    return 2 * n
"""


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("raise ImportError('no GPU here')", "cannot be built in a worker: ImportError: no GPU here"),
        ("raise SystemExit(4)", "die at their start, before any event"),
        ("os._exit(4)", "exited with code 4"),
    ],
)
def test_a_module_that_cannot_be_imported_in_a_worker(
    what: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"fault_module_{abs(hash(what)) % 10**8}"
    (tmp_path / f"{name}.py").write_text(MODULE.format(pid=os.getpid(), what=what))
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module(name)
    try:
        seen = observe(lambda seen: small(seen, range(100), module.double), workers=2)
    finally:
        del sys.modules[name]
    assert type(seen.error) is ps.HandlerError
    assert told in str(seen.error)
    assert seen.error.node == "struck"


def test_a_signal_that_ends_every_start_is_named(tmp_path: Path) -> None:
    handler: Any = ps.per_worker(Dies, "term", str(tmp_path / "tried"))
    seen = observe(lambda seen: small(seen, range(10), handler), workers=1)
    assert signal.Signals.SIGTERM.name in str(seen.error)
    assert "look at what the handlers import or build" in str(seen.error)
