"""The lock that is a file: one holder among processes, rising tokens, and every way to lose it."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sluiceway.nodes.errors import GraphError, LockHeld, LockLost
from sluiceway.nodes.files.file_lock import file_lock
from sluiceway.nodes.locks import Lock

HOLDER = """
import sys
from sluiceway.nodes.files.file_lock import file_lock
print(file_lock(sys.argv[1]).acquire(), flush=True)
sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """Start a process that takes the lock and holds it until its input ends."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_tokens_rise_over_all_holders(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first, second = file_lock(path), file_lock(path)
    assert isinstance(first, Lock)
    assert first.fenced
    for lock, token in ((first, 1), (second, 2), (first, 3)):
        assert lock.acquire() == token
        lock.check()
        lock.release()
    assert path.exists()
    with holder(path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "4\n"
        process.communicate()
    assert first.acquire() == 5
    first.release()


def test_who_holds_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        lock = file_lock(path, wait_s=0.05)
        begun = time.monotonic()
        with pytest.raises(LockHeld) as caught:
            lock.acquire()
        assert time.monotonic() - begun >= 0.05
        assert f"process {process.pid} on {socket.gethostname()} holds it since 20" in str(caught.value)
        assert "0.05 s" in str(caught.value)
        process.communicate()
    assert lock.acquire() == 2
    again = file_lock(path)
    with pytest.raises(LockHeld, match=f"process {os.getpid()} "):
        again.acquire()
    with pytest.raises(LockHeld, match="this object holds it already"):
        lock.acquire()
    lock.release()


def test_it_falls_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        lock = file_lock(path, wait_s=30)
        assert lock.acquire() == 2
        lock.check()
        lock.release()


def test_waiting_ends_when_it_is_given_back(tmp_path: Path) -> None:
    first, second = file_lock(tmp_path / "lock"), file_lock(tmp_path / "lock", wait_s=None)
    first.acquire()
    tokens: list[int] = []
    thread = threading.Thread(target=lambda: tokens.append(second.acquire()))
    thread.start()
    thread.join(0.05)
    assert not tokens
    first.release()
    thread.join(10)
    assert tokens == [2]
    second.release()


def test_a_lost_lock_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = file_lock(path)
    with pytest.raises(LockLost, match="released"):
        lock.check()
    lock.acquire()
    path.unlink()
    with pytest.raises(LockLost, match="removed or replaced"):
        lock.check()
    other = file_lock(path)
    other.acquire()
    with pytest.raises(LockLost, match="removed or replaced"):
        lock.check()
    lock.release()
    lock.release()
    other.check()
    path.write_bytes(b"%020d\n{}\n" % 9)
    with pytest.raises(LockLost, match="holds 9 where 1 was written"):
        other.check()
    path.write_bytes(b"something else")
    with pytest.raises(LockLost, match="holds no token"):
        other.check()
    other.release()
    assert path.read_bytes() == b"something else"


def test_another_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("1,2,3\n")
    with pytest.raises(ValueError, match="a file of its own"):
        file_lock(path).acquire()
    assert path.read_text() == "1,2,3\n"
    with pytest.raises(FileNotFoundError):
        file_lock(tmp_path / "nowhere" / "lock").acquire()


def test_many_take_turns(tmp_path: Path) -> None:
    inside: list[int] = []
    tokens: list[int] = []
    most = []

    def work() -> None:
        for _ in range(5):
            lock = file_lock(tmp_path / "lock", wait_s=None)
            tokens.append(lock.acquire())
            inside.append(1)
            most.append(len(inside))
            lock.check()
            inside.pop()
            lock.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert tokens == list(range(1, 21))
    assert set(most) == {1}


@pytest.mark.parametrize(
    ("path", "wait_s"), [(5, 0), ("", 0), (b"a", 0), ("a", -1), ("a", "1"), ("a", True), ("a", float("nan"))]
)
def test_what_makes_no_lock_is_refused(path: Any, wait_s: Any) -> None:
    with pytest.raises(GraphError, match="; pass "):
        file_lock(path, wait_s=wait_s)


def test_a_system_without_flock_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(GraphError, match="no flock; use the lock of a database"):
        file_lock("a")
