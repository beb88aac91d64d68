"""Child processes are real here: started and killed, with and without a zygote."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sluiceway.engine.local.processes.nursery import ChildExited, ChildStarted, Nursery
from watched_children import LIMIT_S, Watch, by_way, exits, make, modules, started, told, until, way, zygote_of

__all__ = ["make", "modules", "way"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


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
