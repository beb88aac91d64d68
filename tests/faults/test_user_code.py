"""User code from hell: what a handler may raise and return, and runs inside handlers."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from conftest import Seen
from fault_events import Closed, Holding, LoadBomb, Mute, NeedsTwo, NotHere, Outlaw, recurse, throw
from fault_graphs import living, until
from fault_handlers import endless
from marks import slow
from user_code import others, run


def at(number: int, act: Callable[[], Any]) -> Callable[[int], Any]:
    """Return a handler that does something at one number."""

    def work(n: int) -> Any:
        return n if n != number else act()

    return work


# -- what handlers raise ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: NeedsTwo("a", "b"), "NeedsTwo: a: b"),
        (lambda: Holding("held"), "Holding: held"),
        (Mute, "Mute: <text unavailable: its __str__ raised ValueError>"),
        (lambda: LoadBomb("kept"), "LoadBomb: kept"),
        (lambda: ExceptionGroup("many", [ValueError(1), KeyError(2)]), "ExceptionGroup: many (2 sub-exceptions)"),
    ],
    ids=["arguments", "unpicklable", "mute", "load", "group"],
)
def test_exceptions_that_cannot_travel(make: Callable[[], Exception], text: str) -> None:
    """Their text and their traceback arrive, whatever becomes of the object."""
    seen = run(at(150, lambda: throw(make())))
    assert type(seen.error) is sw.HandlerError
    assert (seen.error.seq, seen.error.node, seen.error.event) == (150, "hell", 150)
    assert text in str(seen.error)
    assert seen.error.__cause__ is not None
    assert any("in throw" in note for note in seen.error.__cause__.__notes__)
    assert seen.events("out") == list(range(150))
    assert seen.report.worker_deaths == 0


@pytest.mark.parametrize("make", [lambda: SystemExit(3), slow(lambda: SystemExit("bye")), RecursionError])
def test_sys_exit_is_a_failure_like_any_other(make: Callable[[], BaseException]) -> None:
    seen = run(at(150, lambda: throw(make())), on_error="dead_letter")
    assert seen.events("out") == others(150)
    assert [(it.seq, it.error.split(":")[0]) for it in seen.events("letters")] == [(150, type(make()).__name__)]
    assert seen.report.worker_deaths == 0


@pytest.mark.parametrize("make", [KeyboardInterrupt, slow(GeneratorExit), Outlaw])
def test_what_is_no_exception_ends_the_worker(make: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    """It is taken for an order to the process; the event is charged with the death and has its policy's end."""
    seen = run(at(150, lambda: throw(make())), on_error="skip")
    assert seen.error is None
    assert seen.events("out") == others(150)
    assert (seen.report.skipped, seen.report.worker_deaths) == (1, 3)
    assert f"a worker ends with {make.__name__}, which no handler may raise" in caplog.text


def test_recursion() -> None:
    seen = run(at(150, recurse), on_error="dead_letter")
    assert seen.events("out") == others(150)
    assert seen.events("letters")[0].error.startswith("RecursionError: ")


def test_stop_iteration() -> None:
    seen = run(at(150, lambda: next(iter(()))), on_error="dead_letter")
    assert seen.events("out") == others(150)
    assert "StopIteration" in seen.events("letters")[0].error


# -- what handlers return -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [threading.Lock, slow(lambda: (n for n in ())), Closed, slow(lambda: {"a": [threading.Lock()]})],
    ids=range(4),
)
@pytest.mark.parametrize("policy", ["fail", "dead_letter"])
def test_results_that_cannot_be_pickled(make: Callable[[], Any], policy: Any) -> None:
    seen = run(at(150, make), on_error=policy)
    if policy == "dead_letter":
        assert seen.events("out") == others(150)
        letter = seen.events("letters")[0]
        assert (letter.seq, letter.node) == (150, "hell")
        assert "cannot be pickled" in letter.error or "gave a generator" in letter.error
    else:
        assert (type(seen.error), seen.error.seq) == (sw.HandlerError, 150)  # type: ignore[union-attr]
        assert "cannot be pickled" in str(seen.error) or "gave a generator" in str(seen.error)
        assert seen.events("out") == list(range(150))
    assert seen.report.worker_deaths == 0


def test_results_that_cannot_be_unpacked_by_the_caller() -> None:
    seen = run(at(150, NotHere))
    assert type(seen.error) is sw.HandlerError
    assert (seen.error.seq, seen.error.index) == (150, 0)
    assert "RuntimeError: cannot be rebuilt" in str(seen.error)
    assert seen.events("out") == list(range(150))


def test_huge_results() -> None:
    seen = run(lambda n: bytes([n]) * 30_000_000, 8)
    assert [(len(event), event[0]) for event in seen.events("out")] == [(30_000_000, n) for n in range(8)]


def test_results_larger_than_a_message_may_be() -> None:
    """The limit is made small in the worker, for the real one takes gigabytes."""

    def work(n: int) -> Any:
        from sluiceway.engine.codec import codec

        codec.MAX_FRAME_BYTES = 100_000
        return bytes(200_000) if n == 150 else n

    seen = run(work, on_error="dead_letter")
    assert seen.events("out") == others(150)
    assert "100,000 bytes" in seen.events("letters")[0].error


# -- generators and runs inside -----------------------------------------------------------------------------------


def flat(handler: Any, **words: Any) -> Seen:
    seen = Seen()
    graph = sw.Graph()
    numbers = graph.source(range(20))
    numbers.flat_map(handler, name="hell", **words).sink(seen.sink("out"))
    graph.dead_letters().sink(seen.sink("letters"))
    seen.report = sw.run(graph, workers=2)
    return seen


def test_a_generator_that_never_ends() -> None:
    seen = flat(lambda n: endless(n) if n == 10 else [n], on_error="dead_letter")
    assert seen.events("out") == [n for n in range(20) if n != 10]
    assert "flat_map gave more than 1,000,000 outputs" in seen.events("letters")[0].error


def test_a_generator_that_never_ends_and_never_gives() -> None:
    def silent(n: int) -> Iterator[int]:
        while n == 10:
            time.sleep(0.01)
        yield n

    seen = flat(silent, on_error="dead_letter", timeout_s=0.3)
    assert seen.events("out") == [n for n in range(20) if n != 10]
    assert "HandlerTimeout: still running after timeout_s=0.3" in seen.events("letters")[0].error


def test_runs_inside_a_handler() -> None:
    def work(n: int) -> int:
        import sluiceway as inner

        return sum(inner.imap(lambda m: m + n, range(10), workers=1))

    seen = run(work, 4)
    assert seen.events("out") == [45 + 10 * n for n in range(4)]


def test_a_worker_killed_with_a_run_inside(tmp_path: Path) -> None:
    """What the inner run has started ends with the outer worker."""
    folder = str(tmp_path)

    def work(n: int) -> int:
        import sluiceway as inner

        def note(m: int) -> int:
            Path(folder, str(os.getpid())).touch()
            return m

        for m in inner.imap(note, iter(range(10**9)), workers=1):
            if m == 100 and n == 0 and not os.path.exists(f"{folder}/0"):
                Path(folder, "0").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if m == 100:
                break
        return n

    seen = run(work, 3, workers=1)
    assert seen.events("out") == [0, 1, 2]
    until(lambda: not living(int(path.name) for path in tmp_path.iterdir() if path.name != "0"))


def test_iterate_inside_a_handler_left_open() -> None:
    def work(n: int) -> int:
        import sluiceway as inner

        global kept
        kept = inner.imap(abs, iter(range(10**9)), workers=1)
        return next(kept) + n

    assert run(work, 4, workers=1).events("out") == list(range(4))
