"""Child processes are real here: started, killed and orphaned, with and without a zygote."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from sluiceway.engine.local.processes import warm
from sluiceway.engine.local.processes.nursery import ChildExited, ChildStarted, Event, Nursery, SpawnFailed, ZygoteDied
from sluiceway.nodes.errors import SluicewayError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

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

CALLER = '''
import os, signal, sys, threading
from sluiceway.engine.local.processes.nursery import ChildStarted, Nursery
import selectors

out, kinds = sys.argv[1], sys.argv[2].split(",")
preload = [sys.argv[3]] if sys.argv[3] else []
nursery = Nursery(entry="child_entries:act", preload=preload)
nursery.start()
for number, kind in enumerate(kinds):
    nursery.spawn(kind, f"{out}.{number}".encode())
while len(nursery.alive) < len(kinds):
    with selectors.DefaultSelector() as selector:
        selector.register(nursery.fileno(), selectors.EVENT_READ)
        selector.select(5)
    nursery.events()
if sys.argv[4] == "fork" and os.fork() == 0:  # holds a copy of every descriptor of the caller
    os.write(1, f"fork {os.getpid()}\\n".encode())
    signal.pause()
threading.Thread(target=signal.pause, daemon=True).start()
os.write(1, f"ready {nursery.alive[kinds[0]]}\\n".encode())
signal.pause()
'''


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


def shows_in_command(pid: int, word: bytes) -> None:
    """Wait for a word in a process's command: right after the fork it is that of the parent, or empty."""
    deadline = time.monotonic() + LIMIT_S
    while word not in (said := Path(f"/proc/{pid}/cmdline").read_bytes()):
        assert time.monotonic() < deadline, said
        time.sleep(0.005)


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


def descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # that of the listing itself
            continue
    return found


def children_of(pid: int) -> list[int]:
    """The pids of a process's children, zombies too."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            if parent_of(int(stat.parent.name)) == pid:
                found.append(int(stat.parent.name))
    return found


def test_entry_runs_and_its_end_is_told(make: Callable[..., Nursery], way: str, tmp_path: Path) -> None:
    nursery = by_way(make, way)
    nursery.spawn("echo", str(tmp_path / "out").encode())
    events = until(nursery, lambda events: len(events) == 2)
    start, end = events
    assert isinstance(start, ChildStarted)
    assert end == ChildExited("echo", start.pid, 0)
    assert (tmp_path / "out").read_text() == str(tmp_path / "out")
    assert dict(nursery.alive) == {}


def test_exit_codes(make: Callable[..., Nursery], way: str, capfd: pytest.CaptureFixture[str]) -> None:
    nursery = by_way(make, way)
    for child, argument in (("quiet", ""), ("leave", "5"), ("complain", "no such thing"), ("fail", "bad date")):
        nursery.spawn(child, argument.encode())
    assert exits(nursery, 4) == {"quiet": 0, "leave": 5, "complain": 1, "fail": 1}
    nursery.spawn("wait", b"")
    started(nursery)
    nursery.kill("wait", signal.SIGUSR1)
    assert exits(nursery, 1) == {"wait": -signal.SIGUSR1}
    said = capfd.readouterr().err
    assert "ValueError: bad date" in said
    assert "no such thing" in said


def test_kill_right_after_spawn(make: Callable[..., Nursery], way: str) -> None:
    nursery = by_way(make, way)
    nursery.spawn("wait", b"")
    nursery.kill("wait")
    assert exits(nursery, 1) == {"wait": -signal.SIGKILL}
    nursery.kill("wait")
    nursery.spawn("wait", b"")  # the name is free again
    started(nursery)
    with pytest.raises(ValueError, match="'wait': it is there already"):
        nursery.spawn("wait", b"")


def test_kill_takes_the_grandchildren(make: Callable[..., Nursery], way: str, tmp_path: Path) -> None:
    nursery = by_way(make, way)
    nursery.spawn("parent", str(tmp_path / "pids").encode())
    _, grandchild = told(tmp_path / "pids")
    watch = Watch(grandchild)
    nursery.kill("parent")
    assert exits(nursery, 1) == {"parent": -signal.SIGKILL}
    assert not watch.left_after(2)


def test_what_a_dead_child_left_behind_is_killed(make: Callable[..., Nursery], way: str, tmp_path: Path) -> None:
    nursery = by_way(make, way)
    nursery.spawn("wait", b"")
    nursery.spawn("abandon", str(tmp_path / "pids").encode())
    assert exits(nursery, 1) == {"abandon": 3}
    _, orphan = told(tmp_path / "pids")
    deadline = time.monotonic() + 2
    while Path(f"/proc/{orphan}").exists():  # reaped too, where a zygote adopts it
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_a_child_finds(
    make: Callable[..., Nursery], way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.chdir(tmp_path)
    nursery = by_way(make, way)
    for number in "12":
        nursery.spawn(f"look-{number}", (tmp_path / number).as_posix().encode())
    assert exits(nursery, 2) == {"look-1": 0, "look-2": 0}
    one, two = (eval((tmp_path / number).read_text()) for number in "12")
    assert one["random"] != two["random"]
    assert one["pgid"]
    assert one["cwd"] == str(tmp_path)
    assert one["path"] == sys.path
    assert one["argv"] == sys.argv
    assert (one["omp"], one["mkl"]) == ("1", "3")
    assert one["stdin"] == ""
    assert one["stdin_at"] == os.devnull
    assert one["int"]
    assert one["term"]
    assert one["mask"] == 0
    assert one["sockets"] == []
    assert one["main"] is None
    assert one["ppid"] != os.getpid()


def test_forks_differ_in_their_random_numbers(make: Callable[..., Nursery], tmp_path: Path) -> None:
    nursery = make(preload=["numpy.random", "random"])
    for number in range(3):
        nursery.spawn(f"dice-{number}", str(tmp_path / str(number)).encode())
    assert set(exits(nursery, 3).values()) == {0}
    drawn = [number for child in range(3) for number in eval((tmp_path / str(child)).read_text())]
    assert len(set(drawn)) == 6


def test_many_children(make: Callable[..., Nursery]) -> None:
    nursery = make()
    for number in range(50):
        nursery.spawn(f"wait-{number}", b"")
    started(nursery)
    assert len(set(nursery.alive.values())) == 50
    for child in nursery.alive:
        nursery.kill(child, signal.SIGTERM)
    assert exits(nursery, 50) == {f"wait-{number}": -signal.SIGTERM for number in range(50)}


def test_large_arguments_do_not_block(make: Callable[..., Nursery], way: str) -> None:
    nursery = by_way(make, way)
    for number in range(4):
        nursery.spawn(f"size-{number}", b"x" * 3_000_000)
    assert exits(nursery, 4) == dict.fromkeys((f"size-{number}" for number in range(4)), 3_000_000 % 251)


@pytest.mark.parametrize(
    ("grace_s", "expected"),
    [
        (LIMIT_S, {"polite": "ended", "stuck": "terminated", "wait": "terminated"}),  # over as soon as all have ended
        (0.1, {"deaf": "killed"}),
        (0.0, {"stuck": "killed", "wait": "killed"}),
    ],
)
def test_shutdown_ladder(
    make: Callable[..., Nursery], way: str, tmp_path: Path, grace_s: float, expected: dict[str, str]
) -> None:
    nursery = by_way(make, way)
    for child in expected:
        nursery.spawn(child, str(tmp_path / child).encode())
    started(nursery)
    for child in expected.keys() - {"wait"}:
        told(tmp_path / child)
    watch = Watch(*nursery.alive.values())
    begin = time.monotonic()
    assert nursery.shutdown(grace_s) == expected
    assert time.monotonic() - begin < LIMIT_S / 2
    assert not watch.left_after(0)
    assert nursery.shutdown() == {}
    assert nursery.events() == []


def test_zygote_waits_for_the_next_nursery_until_shutdown(make: Callable[..., Nursery]) -> None:
    nursery = make()
    nursery.spawn("wait", b"")
    started(nursery)
    zygote = zygote_of(nursery)
    watch = Watch(zygote)
    nursery.close()
    assert children_of(os.getpid()) == [zygote]
    assert children_of(zygote) == []
    warm.shutdown()
    assert not watch.left_after(0)
    assert dict(nursery.alive) == {}
    with pytest.raises(RuntimeError, match=r"start\(\) first"):
        nursery.spawn("wait", b"")


def test_close_before_the_zygote_is_ready(make: Callable[..., Nursery]) -> None:
    nursery = make()
    nursery.spawn("wait", b"")
    assert nursery.shutdown(1) == {"wait": "terminated"}
    warm.shutdown()
    assert children_of(os.getpid()) == []


def test_killed_zygote_takes_everyone_with_it(make: Callable[..., Nursery], tmp_path: Path) -> None:
    nursery = make()
    nursery.spawn("stuck", str(tmp_path / "stuck").encode())
    nursery.spawn("parent", str(tmp_path / "parent").encode())
    pids = told(tmp_path / "stuck") + told(tmp_path / "parent")
    started(nursery)
    watch = Watch(*pids)
    os.kill(zygote_of(nursery), signal.SIGKILL)
    nursery.spawn("late", b"")
    (event,) = until(nursery, bool)
    assert isinstance(event, ZygoteDied)
    assert event.status == -signal.SIGKILL
    assert event.was_ready
    assert set(event.children) == {"stuck", "parent", "late"}
    assert "SIGKILL" in event.reason
    assert not watch.left_after(2)
    assert nursery.events() == []
    nursery.start()
    nursery.spawn("quiet", b"")
    assert exits(nursery, 1) == {"quiet": 0}


def test_terminated_zygote_kills_its_children(make: Callable[..., Nursery], tmp_path: Path) -> None:
    nursery = make()
    nursery.spawn("deaf", str(tmp_path / "pid").encode())
    watch = Watch(*told(tmp_path / "pid"))
    started(nursery)
    os.kill(zygote_of(nursery), signal.SIGTERM)
    events = until(nursery, lambda events: any(isinstance(event, ZygoteDied) for event in events))
    assert isinstance(events[-1], ZygoteDied)
    assert not watch.left_after(2)


def test_threads_in_the_zygote_force_clean_interpreters(make: Callable[..., Nursery], way: str) -> None:
    nursery = by_way(make, way)
    nursery.spawn("wait", b"")
    started(nursery)
    (pid,) = nursery.alive.values()
    shows_in_command(pid, b"engine.local.processes.zygote" if way == "zygote" else b"engine.local.processes.bootstrap")


def test_threads_that_python_does_not_know_count(make: Callable[..., Nursery], modules: Path) -> None:
    (modules / "with_native_thread.py").write_text("import _thread, time\n_thread.start_new_thread(time.sleep, (9,))\n")
    nursery = make(preload=["with_native_thread"])
    nursery.spawn("wait", b"")
    started(nursery)
    shows_in_command(nursery.alive["wait"], b"engine.local.processes.bootstrap")


def test_two_nurseries_do_not_disturb_each_other(make: Callable[..., Nursery]) -> None:
    one, two = make(), make()
    one.spawn("wait", b"")
    two.spawn("wait", b"")
    started(one)
    started(two)
    first = Watch(*one.alive.values())
    one.close()
    assert not first.left_after(0)
    assert two.events() == []
    two.spawn("quiet", b"")
    assert exits(two, 1) == {"quiet": 0}


def test_nothing_is_left_in_the_caller(make: Callable[..., Nursery], way: str) -> None:
    before = descriptors()
    for _ in range(2):
        nursery = by_way(make, way)
        nursery.spawn("wait", b"")
        nursery.spawn("quiet", b"")
        assert exits(nursery, 1) == {"quiet": 0}
        nursery.close()
    warm.shutdown()
    assert descriptors() == before
    assert children_of(os.getpid()) == []


def test_nothing_is_left_after_failures(make: Callable[..., Nursery], modules: Path) -> None:
    before = descriptors()
    (modules / "breaks.py").write_text("raise ImportError('libmodel.so is missing')\n")
    nursery = make(preload=["breaks"])
    nursery.spawn("wait", b"")
    (event,) = until(nursery, bool)
    assert isinstance(event, ZygoteDied)
    assert (event.status, event.children, event.was_ready) == (1, ("wait",), False)
    assert "imported breaks, child_entries; it said:\nTraceback" in event.reason
    assert "ImportError: libmodel.so is missing" in event.reason
    with pytest.raises(SluicewayError, match=r"interpreter '/no/python': .*No such file"):
        make(executable="/no/python")
    with pytest.raises(SluicewayError, match=r"sys\.executable is empty"):
        make(executable="")
    assert descriptors() == before
    assert children_of(os.getpid()) == []


def test_an_interpreter_that_is_none(make: Callable[..., Nursery], tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho this is no interpreter >&2\nexit 9\n")
    fake.chmod(0o755)
    (event,) = until(make(executable=str(fake)), bool)
    assert isinstance(event, ZygoteDied)
    assert event.status == 9
    assert event.reason.endswith("it said:\nthis is no interpreter")


def test_an_import_that_hangs(make: Callable[..., Nursery], modules: Path) -> None:
    (modules / "hangs.py").write_text("import signal\nsignal.pause()\n")
    nursery = make(preload=["hangs"], start_limit_s=0.5)
    time.sleep(0.5)
    (event,) = nursery.events()
    assert isinstance(event, ZygoteDied)
    assert not event.was_ready
    assert "was not ready within 0.5 s" in event.reason
    assert children_of(os.getpid()) == []


def test_what_imports_say_reaches_stderr(
    make: Callable[..., Nursery], modules: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (modules / "talks.py").write_text("import sys\nprint('mind the gap', file=sys.stderr)\nprint('once')\n")
    nursery = make(preload=["talks"])
    for number in range(3):
        nursery.spawn(f"quiet-{number}", b"")
    exits(nursery, 3)
    said = capfd.readouterr()
    assert said.err == "mind the gap\n"
    assert said.out == "once\n"


def test_a_child_that_cannot_be_started(make: Callable[..., Nursery], modules: Path) -> None:
    (modules / "no_forks.py").write_text(
        "import os\ndef fork():\n    raise BlockingIOError(11, 'too many processes')\nos.fork = fork\n"
    )
    nursery = make(preload=["no_forks"])
    nursery.spawn("wait", b"")
    assert until(nursery, bool) == [SpawnFailed("wait", "[Errno 11] too many processes")]
    assert nursery.requested == frozenset()


def test_a_fork_of_the_caller_ends_nothing(make: Callable[..., Nursery]) -> None:
    nursery = make()
    nursery.spawn("wait", b"")
    started(nursery)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if nursery.shutdown() == {} else 1)
    assert os.waitpid(pid, 0)[1] == 0
    nursery.spawn("quiet", b"")
    assert exits(nursery, 1) == {"quiet": 0}
    assert "wait" in nursery.alive


class Caller:
    """A script that uses a nursery and waits."""

    def __init__(self, tmp_path: Path, kinds: str, *, preload: str = "", fork: str = "") -> None:
        script = tmp_path / "caller.py"
        script.write_text(CALLER)
        self.out = tmp_path / "out"
        command = [sys.executable, str(script), str(self.out), kinds, preload, fork]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, start_new_session=True)

    def __enter__(self) -> Caller:
        assert self.process.stdout is not None
        self._output: IO[bytes] = self.process.stdout
        return self

    def __exit__(self, *_: object) -> None:
        self._output.close()
        self.process.kill()
        self.process.wait()

    def line(self) -> tuple[str, int]:
        word, number = self._output.readline().split()
        return word.decode(), int(number)


@pytest.mark.parametrize("preload", ["", "with_thread", "no_pidfd"])
def test_nobody_survives_a_killed_caller(tmp_path: Path, modules: Path, preload: str) -> None:
    (modules / "with_thread.py").write_text(WITH_THREAD)
    (modules / "no_pidfd.py").write_text("import os\ndel os.pidfd_open\n")
    kinds = "stuck,deaf,parent"
    with Caller(tmp_path, kinds, preload=preload) as caller:
        _, child = caller.line()
        pids = [pid for number in range(kinds.count(",") + 1) for pid in told(Path(f"{caller.out}.{number}"))]
        watch = Watch(*pids, parent_of(child))
        caller.process.kill()
        assert not watch.left_after(2)


def test_nobody_survives_a_killed_caller_that_was_forked(tmp_path: Path, modules: Path) -> None:
    """The fork holds the caller's end of the line, so that end never closes."""
    with Caller(tmp_path, "stuck", fork="fork") as caller:
        said = dict([caller.line(), caller.line()])
        watch = Watch(*told(Path(f"{caller.out}.0")), parent_of(said["ready"]))
        fork = Watch(said["fork"])
        caller.process.kill()
        assert not watch.left_after(2)
        os.kill(said["fork"], signal.SIGKILL)
        assert not fork.left_after(2)


def test_children_of_a_killed_zygote_end_without_the_caller(tmp_path: Path, modules: Path) -> None:
    with Caller(tmp_path, "stuck,deaf") as caller:
        _, child = caller.line()
        watch = Watch(*told(Path(f"{caller.out}.0")), *told(Path(f"{caller.out}.1")))
        caller.process.send_signal(signal.SIGSTOP)  # it can do nothing for them
        os.kill(parent_of(child), signal.SIGKILL)
        assert not watch.left_after(2)


def test_nobody_survives_a_caller_killed_while_the_zygote_imports(tmp_path: Path, modules: Path) -> None:
    (modules / "hangs.py").write_text(
        f"import child_entries, signal\nchild_entries.tell({str(tmp_path / 'zygote')!r})\nsignal.pause()\n"
    )
    with Caller(tmp_path, "wait", preload="hangs") as caller:
        watch = Watch(*told(tmp_path / "zygote"))
        caller.process.kill()
        assert not watch.left_after(2)


def test_end_of_the_line_ends_everyone(tmp_path: Path, make: Callable[..., Nursery]) -> None:
    """The caller lives on, but closes its end: the zygote has nobody to serve."""
    nursery = make()
    nursery.spawn("stuck", str(tmp_path / "pid").encode())
    watch = Watch(*told(tmp_path / "pid"))
    started(nursery)
    zygote = Watch(zygote_of(nursery))
    nursery._starter._pipe.close()  # type: ignore[union-attr]
    assert not watch.left_after(2)
    assert not zygote.left_after(2)
    nursery._starter._zygote.wait()  # type: ignore[union-attr]
    nursery._starter._selector.close()  # type: ignore[union-attr]
    nursery._starter._caught.close()  # type: ignore[union-attr]
    nursery._starter = None


def test_descriptors_may_be_many(make: Callable[..., Nursery]) -> None:
    """Numbers above 1023, where `select` gives up."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1100
    if soft < wanted + 100:
        pytest.skip("the limit of open files is too low")
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(wanted)]
    try:
        nursery = make()
        nursery.spawn("wait", b"")
        started(nursery)
        assert nursery.fileno() > 1023
        assert nursery.shutdown() == {"wait": "terminated"}
    finally:
        for descriptor in held:
            os.close(descriptor)
