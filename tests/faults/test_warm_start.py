"""The process that starts workers waits for the next run: that one begins with it, and finds nothing of the run before."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import sluiceway as sw
from fault_graphs import until
from marks import slow


def parent(_: Any) -> int:
    return os.getppid()


def starter() -> int:
    """Run once and return the process that has started the worker."""
    (pid,) = set(sw.imap(parent, range(3), workers=1))
    return pid


def test_the_next_run_begins_with_the_same_process() -> None:
    first = starter()
    assert starter() == first
    assert [child.pid for child in psutil.Process().children(recursive=True)] == [first]
    sw.shutdown()
    assert psutil.Process().children(recursive=True) == []
    assert starter() != first


def test_shutdown_without_a_run_does_nothing() -> None:
    sw.shutdown()
    sw.shutdown()


def test_runs_at_once_have_one_each_and_one_waits() -> None:
    begin = threading.Barrier(3)
    pids = []

    def run() -> None:
        begin.wait()
        pids.append(set(sw.imap(parent, range(2000), workers=1)))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set.union(*pids)) == 3
    assert len(psutil.Process().children()) == 1


def _variable(monkeypatch: pytest.MonkeyPatch, _: Path) -> None:
    monkeypatch.setenv("SLUICEWAY_TEST_WARM", "set")


def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def _path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))


def _words(monkeypatch: pytest.MonkeyPatch, _: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["other", "words"])


@pytest.mark.parametrize("change", [_variable, _folder, _path, _words])
def test_what_has_changed_since_is_seen_by_the_workers(
    change: Callable[[pytest.MonkeyPatch, Path], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def world(_: Any) -> tuple[Any, ...]:
        return os.environ.get("SLUICEWAY_TEST_WARM"), os.getcwd(), sys.path[0], sys.argv

    starter()
    change(monkeypatch, tmp_path)
    assert list(sw.imap(world, [0], workers=1)) == [world(0)]


def test_a_limit_and_a_mask_that_have_changed_hold_for_the_workers() -> None:
    def limits(_: Any) -> tuple[Any, ...]:
        mask = os.umask(0o22)
        os.umask(mask)
        return resource.getrlimit(resource.RLIMIT_CORE), mask

    first = starter()
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    mask = os.umask(0o77)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0 if soft else min(4096, hard) if hard > 0 else 4096, hard))
        assert list(sw.imap(limits, [0], workers=1)) == [limits(0)]
        assert starter() != first
    finally:
        os.umask(mask)
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_one_that_died_or_hangs_meanwhile_is_replaced(number: int) -> None:
    first = starter()
    os.kill(first, number)
    if number != signal.SIGSTOP:
        until(lambda: psutil.Process(first).status() == psutil.STATUS_ZOMBIE)
    assert starter() != first
    assert not psutil.pid_exists(first)


def test_what_a_handler_has_left_running_does_not_see_the_next_run(tmp_path: Path) -> None:
    """Also in a session of its own: the run waits until it is gone, or the starter is not used again."""
    note = tmp_path / "pid"

    def leave(_: Any) -> int:
        left = subprocess.Popen(["sleep", "60"], start_new_session=True)
        note.write_text(str(left.pid))
        return left.pid

    list(sw.imap(leave, [0], workers=1))
    assert not psutil.pid_exists(int(note.read_text()))
    assert len(psutil.Process().children(recursive=True)) == 1


def test_a_failed_run_leaves_one_that_serves() -> None:
    with pytest.raises(sw.HandlerError):
        list(sw.imap(lambda n: 1 // n, [1, 0], workers=1))
    (waiting,) = psutil.Process().children()
    assert starter() == waiting.pid


def test_a_fork_leaves_the_process_to_its_parent() -> None:
    first = starter()
    reading, writing = os.pipe()
    if not (child := os.fork()):
        code = 1
        try:
            os.write(writing, str(starter()).encode())
            sw.shutdown()
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading) as answer:
        others = int(answer.read())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert others != first
    assert starter() == first


@pytest.mark.parametrize("end", ["", "os._exit(0)", "os.kill(os.getpid(), 9)", "raise SystemExit(0)"])
def test_it_ends_with_its_caller(end: str) -> None:
    body = f"import os, sluiceway as sw; print(*sw.imap(lambda _: os.getppid(), [0], workers=1), flush=True); {end}"
    told = subprocess.run([sys.executable, "-c", body], stdout=subprocess.PIPE, text=True, check=False)
    pid = int(told.stdout)
    until(lambda: not psutil.pid_exists(pid), 30)


def test_hashes_are_the_same_in_all_runs() -> None:
    seen = {value for _ in range(2) for value in sw.imap(hash, ["a word"], workers=1)}
    sw.shutdown()
    assert len(seen | set(sw.imap(hash, ["a word"], workers=1))) == 1


def _figures() -> tuple[int, int]:
    return len(os.listdir("/proc/self/fd")), threading.active_count()


@pytest.mark.parametrize("runs", [30, slow(2000)])
def test_many_runs_leak_nothing(runs: int) -> None:
    starter()
    before = _figures()
    memory = psutil.Process().memory_info().rss
    for _ in range(runs):
        assert list(sw.imap(abs, range(-10, 0), workers=1)) == list(range(10, 0, -1))
    deadline = time.monotonic() + 10
    while _figures() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _figures() == before
    assert psutil.Process().memory_info().rss - memory < 40 << 20
