"""What a handler may do to the process that it runs in, and what comes of it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from fault_graphs import living, until
from marks import slow
from user_code import N, others, run


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
