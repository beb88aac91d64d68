"""User code from hell: what a handler may do to its process, and what comes of it."""

from __future__ import annotations

import os
import signal
import sys
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

N = 200


def run(handler: Any, count: int = N, **words: Any) -> Seen:
    """Run numbers through a handler in two processes, with letters where they are asked for."""
    of_run = {name: words.pop(name) for name in ("max_deaths", "workers") if name in words}
    seen = Seen()
    graph = sw.Graph()
    graph.source(range(count)).map(handler, name="hell", **words).sink(seen.sink("out"))
    if words.get("on_error") == "dead_letter":
        graph.dead_letters().sink(seen.sink("letters"))
    try:
        seen.report = sw.run(graph, **{"workers": 2, **of_run})
    except sw.SluicewayError as error:
        seen.error, seen.report = error, error.report
    return seen


def at(number: int, act: Callable[[], Any]) -> Callable[[int], Any]:
    """Return a handler that does something at one number."""

    def work(n: int) -> Any:
        return n if n != number else act()

    return work


def others(number: int) -> list[int]:
    return [n for n in range(N) if n != number]


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


# -- what handlers do to their process ----------------------------------------------------------------------------


def test_print(capfd: pytest.CaptureFixture[str]) -> None:
    def work(n: int) -> int:
        print(f"line {n}")
        print(f"to stderr {n}", file=sys.stderr)
        print("no end", end="")
        return n

    seen = run(work, 20, workers=1)
    assert seen.events("out") == list(range(20))
    out, error = capfd.readouterr()
    assert [line.removeprefix("no end") for line in out.splitlines()] == [*(f"line {n}" for n in range(20)), ""]
    assert error.splitlines() == [f"to stderr {n}" for n in range(20)]


def test_stdout_replaced() -> None:
    def work(n: int) -> int:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        print("gone")
        return n

    assert run(work).events("out") == list(range(N))


def test_stdout_closed() -> None:
    def work(n: int) -> int:
        sys.stdout.close()
        os.close(1) if n == 0 else None
        return n

    assert run(work).events("out") == list(range(N))


@pytest.mark.parametrize("way", ["exits", "lives", "returns"])
def test_fork(way: str, tmp_path: Path) -> None:
    """A fork that goes on as if it were the worker answers nothing; one that lives on ends with the run."""
    folder = str(tmp_path)

    def work(n: int) -> int:
        if n % 50 == 25:
            pid = os.fork()
            if pid == 0:
                if way == "exits":
                    os._exit(0)
                if way == "lives":
                    time.sleep(60)
                    os._exit(0)
                return -1
            Path(folder, str(pid)).touch()
            if way == "exits":
                os.waitpid(pid, 0)
        return n

    seen = run(work)
    assert seen.events("out") == list(range(N))
    forks = [int(path.name) for path in tmp_path.iterdir()]
    assert len(forks) >= 4  # a fork that goes on may fork too
    until(lambda: not living(forks))


@pytest.mark.parametrize("daemon", [slow(True), False])
def test_threads(daemon: bool) -> None:
    """A thread that never ends does not hold the run up."""

    def work(n: int) -> int:
        if n % 50 == 0:
            threading.Thread(target=time.sleep, args=(3600,), daemon=daemon).start()
        return n

    began = time.monotonic()
    seen = run(work)
    assert seen.events("out") == list(range(N))
    assert set(seen.report.children.values()) == {"stopped"}
    assert time.monotonic() - began < 10


def test_a_thread_that_ends_the_process(tmp_path: Path) -> None:
    told = str(tmp_path / "told")

    def work(n: int) -> int:
        if n == 50 and not os.path.exists(told):
            Path(told).touch()
            threading.Timer(0.01, os._exit, [9]).start()
        time.sleep(0.001)
        return n

    seen = run(work)
    assert seen.events("out") == list(range(N))
    assert seen.report.worker_deaths == 1


def test_prints_and_logs_from_threads(capfd: pytest.CaptureFixture[str]) -> None:
    def work(n: int) -> int:
        thread = threading.Thread(target=print, args=(f"from a thread {n}",))
        thread.start()
        thread.join()
        return n

    assert run(work, 20).events("out") == list(range(20))
    assert sorted(capfd.readouterr().out.split("\n"))[1:] == sorted(f"from a thread {n}" for n in range(20))


def test_chdir_umask_environ(tmp_path: Path) -> None:
    here, mark = os.getcwd(), str(tmp_path)

    def work(n: int) -> int:
        os.chdir(mark)
        os.umask(0o777)
        os.environ.clear()
        os.environ["TMPDIR"] = "/nonexistent"
        sys.path.clear()
        return n

    seen = run(work)
    assert seen.events("out") == list(range(N))
    assert os.getcwd() == here


@pytest.mark.parametrize("policy", ["skip", slow("fail")])
def test_close_every_descriptor(policy: Any) -> None:
    """Its socket goes too, so the worker dies; the event is charged with it."""

    def work(n: int) -> int:
        if n == 150:
            os.closerange(0, 10000)
        return n

    seen = run(work, on_error=policy)
    if policy == "skip":
        assert seen.error is None
        assert seen.events("out") == others(150)
        assert seen.report.skipped == 1
    else:
        assert (type(seen.error), seen.error.seq) == (sw.WorkerDied, 150)  # type: ignore[union-attr]
        assert seen.events("out") == list(range(150))


def test_close_standard_descriptors() -> None:
    def work(n: int) -> int:
        os.closerange(0, 3)
        return n

    assert run(work).events("out") == list(range(N))


def test_signal_handlers() -> None:
    def work(n: int) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        return n

    seen = run(work)
    assert seen.events("out") == list(range(N))


def test_an_alarm() -> None:
    def work(n: int) -> int:
        if n == 150:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            time.sleep(30)
        return n

    seen = run(work, on_error="dead_letter", max_deaths=1)
    assert "SIGALRM" in seen.events("letters")[0].error
    assert seen.events("out") == others(150)


def test_logging_is_reconfigured() -> None:
    def work(n: int) -> int:
        import logging

        logging.root.handlers.clear()
        logging.shutdown()
        logging.getLogger("sluiceway").disabled = True
        return n

    assert run(work).events("out") == list(range(N))


def test_modules_are_broken() -> None:
    def work(n: int) -> int:
        import pickle

        pickle.dumps = pickle.loads = None  # type: ignore[assignment]
        sys.modules.pop("cloudpickle", None)
        return n

    assert run(work).events("out") == list(range(N))


def test_the_collector_and_the_recursion_limit() -> None:
    def work(n: int) -> int:
        import gc

        gc.disable()
        sys.setrecursionlimit(60)
        sys.setswitchinterval(1e-6)
        return n

    seen = run(work)
    assert seen.error is None
    assert seen.events("out") == list(range(N))


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
