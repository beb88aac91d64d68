"""What a run needs to begin is short, or its caller ends while it begins: one error in words, and nothing is left."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from fault_graphs import living, until
from marks import slow
from sluiceway.engine.hub.wakeup import Wakeup
from sluiceway.engine.local.backend import ChildBackend
from sluiceway.engine.local.limits import Room, shortage
from sluiceway.engine.local.processes.starters import ZygoteStarter
from sluiceway.engine.local.transport.router import Router
from sluiceway.engine.local.transport.run_dir import RunDir
from sluiceway.engine.local.transport.status_page import StatusPage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

# -- too little of something ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("room", "text"),
    [
        (Room(descriptors=30), "it needs some 34 descriptors and this process may open 30 more; raise the limit (ulimit -n)"),
        (Room(processes=10), "it needs some 17 processes and threads and only 10 are allowed"),
        (Room(memory_bytes=1 << 20), "at the least and this machine has 0.0"),
    ],
)
def test_a_shortage_is_told(room: Room, text: str) -> None:
    assert text in (shortage(4, room) or "")


def test_there_is_room() -> None:
    assert shortage(4, Room()) is None
    assert shortage(200, Room(1024, 32_768, 8 << 30)) is None


@pytest.mark.parametrize("workers", [1_000_000_000, slow(10_000_000)])
def test_absurd_counts_of_workers_are_refused(workers: int) -> None:
    with pytest.raises(sw.SluicewayError, match=f"cannot start a run of {workers} processes: it"):
        list(sw.imap(abs, range(3), workers=workers))


@pytest.mark.parametrize("free", [2, 6, slow(12), 20])
def test_too_few_descriptors(free: int, tmp_path: Path) -> None:
    """Checked before a library meets the limit, which would end the whole process."""
    body = f"""
import os, resource, sluiceway as sw
taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
used = max(int(name) for name in os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (used + {free}, used + {free}))
try:
    list(sw.imap(abs, range(3), workers=1))
except sw.SluicewayError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", body],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "descriptors" in done.stdout
    assert list(tmp_path.iterdir()) == []


def fails_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception) -> None:
    """Make the next call of a method raise."""
    real, left = getattr(owner, name), [error]

    def failing(*args: Any, **words: Any) -> Any:
        if left:
            raise left.pop()
        return real(*args, **words)

    monkeypatch.setattr(owner, name, failing)


CALLS = [
    (Wakeup, "__init__", OSError(errno.EMFILE, "too many open files")),
    (RunDir, "__init__", FileNotFoundError("no usable temporary directory")),
    (Router, "__init__", OSError(errno.EMFILE, "too many open files")),
    (Router, "bind_in", OSError(errno.EADDRNOTAVAIL, "no such address")),
    (ZygoteStarter, "__init__", OSError(errno.EAGAIN, "no more processes")),
    (ZygoteStarter, "spawn", MemoryError()),
    (StatusPage, "__init__", OSError(errno.ENOSPC, "no space left on device")),
    (Router, "send", OSError(errno.ENOMEM, "no memory")),
    (Router, "receive", OSError(errno.ENOMEM, "no memory")),
    (Router, "close", OSError(errno.EBADF, "bad descriptor")),
    (Wakeup, "close", OSError(errno.EBADF, "bad descriptor")),
]


@pytest.mark.parametrize(("owner", "name", "error"), CALLS, ids=[f"{owner.__name__}.{name}" for owner, name, _ in CALLS])
def test_a_call_to_the_system_fails(owner: Any, name: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    out: list[int] = []
    graph = sw.Graph()
    graph.source(range(50)).map(abs).sink(out.append)
    with monkeypatch.context() as patched:
        fails_once(patched, owner, name, error)
        with pytest.raises(sw.SluicewayError):
            sw.run(graph, workers=1)
    assert out == list(range(len(out)))


def test_a_thread_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    real = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if self.name == "sluiceway-hub":
            raise RuntimeError("can't start new thread")
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(sw.SluicewayError, match="can't start new thread"):
        list(sw.imap(abs, range(3), workers=1))


# -- what the caller's own streams and logging raise ---------------------------------------------------------------


class Full:
    """A stream of the user's that has no room."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")


def shout(n: int) -> int:
    print("here", n)
    return n


def test_stdout_of_the_caller_raises(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    assert list(sw.imap(shout, range(50), workers=1)) == list(range(50))
    told = [record.getMessage() for record in caplog.records if "sys.stdout" in record.getMessage()]
    assert len(told) == 1
    assert "no space left on device" in told[0]


# -- its caller ends, or its starter is killed ---------------------------------------------------------------------


@pytest.mark.slow
def test_children_of_a_caller_killed_while_they_are_born(tmp_path: Path) -> None:
    """Whoever starts them looks for the end of the caller between two births."""
    body = "import time, sluiceway as sw; list(sw.imap(time.sleep, [600] * 300, workers=300))"
    caller = subprocess.Popen([sys.executable, "-c", body], env=os.environ | {"TMPDIR": str(tmp_path)})
    mark = f"TMPDIR={tmp_path}".encode()

    def mine() -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    until(lambda: len(mine()) > 15, 60)
    caller.kill()
    caller.wait()
    until(lambda: not living(mine()), 10)


def test_the_starter_is_killed_before_it_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    real, killed = ZygoteStarter.__init__, []

    def start(self: Any, *args: Any) -> None:
        real(self, *args)
        if not killed:
            killed.append(self._zygote.pid)
            os.kill(self._zygote.pid, signal.SIGKILL)

    monkeypatch.setattr(ZygoteStarter, "__init__", start)
    assert list(sw.imap(abs, range(50), workers=1)) == list(range(50))
    assert killed


@pytest.mark.parametrize("noticed", ["at once", "while the hub waits"])
def test_a_starter_that_is_always_killed_ends_the_run(monkeypatch: pytest.MonkeyPatch, noticed: str) -> None:
    real, wait, killed, stopped = ZygoteStarter.__init__, ChildBackend.wait, [], []

    def start(self: Any, *args: Any) -> None:
        real(self, *args)
        if len(killed) < 12:  # so that a run which never gives up comes to an end here too
            killed.append(self._zygote.pid)
            os.kill(self._zygote.pid, signal.SIGSTOP)
            stopped.append(self._zygote.pid)
            if noticed == "at once":
                os.kill(stopped.pop(), signal.SIGKILL)

    def wait_for_the_death(self: Any, timeout_s: float) -> bool:
        if stopped:
            os.kill(stopped.pop(), signal.SIGKILL)
            return wait(self, 10.0)
        return wait(self, timeout_s)

    monkeypatch.setattr(ZygoteStarter, "__init__", start)
    monkeypatch.setattr(ChildBackend, "wait", wait_for_the_death)
    with pytest.raises(sw.SluicewayError, match="SIGKILL"):
        list(sw.imap(abs, range(50), workers=1))
    assert len(killed) == 4


def test_what_was_started_in_a_session_of_its_own_ends_with_the_run() -> None:
    def start(n: int) -> int:
        return subprocess.Popen(["sleep", "300"], start_new_session=True).pid if n == 0 else 0

    [pid, *_] = list(sw.imap(start, range(3), workers=1))
    until(lambda: not living([pid]))
