"""Entries for child processes, and how their lives are watched from outside."""

from __future__ import annotations

import os
import select
import selectors
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sluiceway.engine.local.processes.nursery import ChildExited, Event, Nursery

LIMIT_S = 10.0

ENTRIES = '''
import ctypes, os, random, signal, subprocess, sys, time

def act(child, argument):
    globals()[child.split("-")[0]](argument.decode())

def quiet(text):
    pass

def echo(text):
    with open(text, "w") as file:
        file.write(text)

def size(text):
    sys.exit(len(text) % 251)

def leave(text):
    sys.exit(int(text))

def complain(text):
    sys.exit(text)

def fail(text):
    raise ValueError(text)

def wait(text):
    signal.pause()

def stuck(text):
    tell(text)
    ctypes.PyDLL(None).pause()  # in C, with the GIL held

def deaf(text):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell(text)
    while True:
        signal.pause()

def polite(text):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    tell(text)
    signal.pause()

def parent(text):
    tell(text, subprocess.Popen(["sleep", "60"]).pid)
    signal.pause()

def abandon(text):
    tell(text, subprocess.Popen(["sleep", "60"]).pid)
    os._exit(3)

def dice(text):
    numpy = sys.modules["numpy"]  # imported before the fork
    with open(text, "w") as file:
        file.write(repr([random.random(), numpy.random.random()]))

def look(text):
    facts = {
        "ppid": os.getppid(),
        "pgid": os.getpgrp() == os.getpid(),
        "cwd": os.getcwd(),
        "path": sys.path,
        "argv": sys.argv,
        "omp": os.environ.get("OMP_NUM_THREADS"),
        "mkl": os.environ.get("MKL_NUM_THREADS"),
        "stdin": sys.stdin.read(),
        "stdin_at": os.readlink("/proc/self/fd/0"),
        "random": random.random(),
        "int": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
        "term": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
        "mask": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "main": sys.modules["__main__"].__dict__.get("__file__"),
        "sockets": [target for target in descriptors() if target.startswith("socket")],
    }
    with open(text, "w") as file:
        file.write(repr(facts))

def descriptors():
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:  # that of the listing itself
            continue
    return found

def tell(path, *words):
    """Write this process's pid and the words, at once and whole."""
    with open(path + ".part", "w") as file:
        file.write(" ".join(map(str, [os.getpid(), *words])))
    os.rename(path + ".part", path)
'''

WITH_THREAD = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on `sys.path` with the entries."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "child_entries.py").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture(params=["zygote", "fresh"])
def way(request: pytest.FixtureRequest, modules: Path) -> str:
    (modules / "with_thread.py").write_text(WITH_THREAD)
    return str(request.param)


@pytest.fixture
def make(modules: Path) -> Iterator[Callable[..., Nursery]]:
    made = []

    def nursery(**options: Any) -> Nursery:
        made.append(Nursery(entry="child_entries:act", **options))
        made[-1].start()
        return made[-1]

    yield nursery
    for one in made:
        one.close()


def by_way(make: Callable[..., Nursery], way: str) -> Nursery:
    """A nursery whose children are forked, or are clean interpreters of a zygote with a thread."""
    return make(preload=["with_thread"] if way == "fresh" else ())


def until(nursery: Nursery, done: Callable[[list[Event]], bool]) -> list[Event]:
    """Collect events until `done` says so."""
    found: list[Event] = []
    deadline = time.monotonic() + LIMIT_S
    while not done(found):
        with selectors.DefaultSelector() as selector:
            selector.register(nursery.fileno(), selectors.EVENT_READ)
            assert selector.select(deadline - time.monotonic()), f"no event within {LIMIT_S} s after {found}"
        found += nursery.events()
    return found


def exits(nursery: Nursery, number: int) -> dict[str, int]:
    """Wait for so many exits; gives their codes."""
    found = until(nursery, lambda events: sum(isinstance(e, ChildExited) for e in events) >= number)
    return {event.child: event.code for event in found if isinstance(event, ChildExited)}


def started(nursery: Nursery) -> None:
    until(nursery, lambda _: not nursery.requested)


def zygote_of(nursery: Nursery) -> int:
    """The zygote is the parent of a child that runs."""
    return parent_of(next(iter(nursery.alive.values())))


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def told(path: Path) -> list[int]:
    """Wait for the numbers that a child tells in a file."""
    deadline = time.monotonic() + LIMIT_S
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} was not written within {LIMIT_S} s"
        time.sleep(0.005)
    return [int(word) for word in path.read_text().split()]


class Watch:
    """Sees the ends of processes that are not children of this one."""

    def __init__(self, *pids: int) -> None:
        self._open = {pid: os.pidfd_open(pid) for pid in pids}

    def left_after(self, limit_s: float) -> set[int]:
        """Return the pids that have not ended within the limit."""
        deadline = time.monotonic() + limit_s
        left = set()
        for pid, descriptor in self._open.items():
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                left.add(pid)
            os.close(descriptor)
        return left
