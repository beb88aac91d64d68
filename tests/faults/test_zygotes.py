"""A zygote and the nurseries around it: its end, its threads, its imports, and what is left in the caller."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from sluiceway.engine.local.processes import warm
from sluiceway.engine.local.processes.nursery import Nursery, SpawnFailed, ZygoteDied
from sluiceway.nodes.errors import SluicewayError
from watched_children import (
    LIMIT_S,
    Watch,
    by_way,
    exits,
    make,
    modules,
    parent_of,
    started,
    told,
    until,
    way,
    zygote_of,
)

__all__ = ["make", "modules", "way"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def shows_in_command(pid: int, word: bytes) -> None:
    """Wait for a word in a process's command: right after the fork it is that of the parent, or empty."""
    deadline = time.monotonic() + LIMIT_S
    while word not in (said := Path(f"/proc/{pid}/cmdline").read_bytes()):
        assert time.monotonic() < deadline, said
        time.sleep(0.005)


def descriptors() -> Counter[str]:
    """Return how many descriptors of each kind are open; which ones they are changes with the threads of other libraries."""
    found: Counter[str] = Counter()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found[os.readlink(entry).partition("[")[0]] += 1
    return found


def children_of(pid: int) -> list[int]:
    """The pids of a process's children, zombies too."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            if parent_of(int(stat.parent.name)) == pid:
                found.append(int(stat.parent.name))
    return found


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
