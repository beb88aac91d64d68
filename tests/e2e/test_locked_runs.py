"""A run under a lock: one at a time, and none that commits after its lock is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw

WAYS: list[dict[str, Any]] = [{"runner": "inline"}, {"workers": 2}]


class _Lock:
    """A lock that is lost after so many checks."""

    fenced = True

    def __init__(self, checks: int | None = None) -> None:
        self.left, self.held, self.taken = checks, False, 0

    def acquire(self) -> int:
        self.held, self.taken = True, self.taken + 1
        return self.taken

    def check(self) -> None:
        assert self.held, "a lock is only checked while it is held"
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise sw.LockLost("the lock was given to another run")

    def release(self) -> None:
        self.held = False


class _Fenced:
    commits = True

    def __init__(self) -> None:
        self.token, self.committed, self.ended, self.rows = 0, -1, "", []  # type: tuple[int, int, str, list[int]]

    def fence(self, token: int) -> None:
        self.token = token

    def write(self, events: Any) -> None:
        self.rows += events

    def commit(self, n: int) -> None:
        self.committed = n

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"


@pytest.mark.parametrize("way", WAYS, ids=["inline", "two"])
def test_the_lock_is_held_for_the_run_and_its_token_reaches_the_sink(way: dict[str, Any]) -> None:
    lock, sink = _Lock(), _Fenced()
    graph = sw.Graph("locked")
    graph.source(range(100)).map(abs).sink(sink)
    sw.run(graph, lock=lock, **way)
    assert (sink.token, sink.committed, sink.ended, lock.held) == (1, 99, "closed", False)


@pytest.mark.parametrize("way", WAYS, ids=["inline", "two"])
def test_a_lost_lock_stops_the_run_before_its_next_commit(way: dict[str, Any]) -> None:
    lock, sink = _Lock(checks=0), _Fenced()
    graph = sw.Graph("locked")
    graph.source(range(100)).map(abs).sink(sink)
    with pytest.raises(sw.LockLost):
        sw.run(graph, lock=lock, **way)
    assert (sink.committed, sink.ended, lock.held) == (-1, "aborted", False)


def test_a_second_run_is_refused_while_the_first_one_holds_the_lock(tmp_path: Path) -> None:
    path, graph, seen = tmp_path / "lock", sw.Graph("locked"), []
    graph.source(range(3)).sink(seen.append)

    def second(number: int) -> None:
        with pytest.raises(sw.LockHeld):
            sw.run(graph, lock=sw.file_lock(path))
        seen.append(number)

    outer = sw.Graph("outer")
    outer.source(range(1)).sink(second)
    sw.run(outer, lock=sw.file_lock(path), runner="inline")
    assert seen == [0]
    sw.run(graph, lock=sw.file_lock(path))
    assert seen == [0, 0, 1, 2]


def test_what_is_no_lock_is_refused() -> None:
    graph = sw.Graph("locked")
    graph.source(range(3)).sink(len)
    with pytest.raises(sw.GraphError, match="file_lock"):
        sw.run(graph, lock="run.lock")  # type: ignore[arg-type]


class _Unreachable(_Lock):
    def __repr__(self) -> str:
        return "lock of a server"

    def acquire(self) -> int:
        raise ConnectionError("nobody answers")


class _Mute(_Lock):
    def check(self) -> None:
        raise TimeoutError("no answer in time")


@pytest.mark.parametrize("way", WAYS, ids=["inline", "two"])
@pytest.mark.parametrize("stored", [False, True], ids=["plain", "checkpoints"])
def test_a_lock_that_cannot_be_taken_is_an_error_of_the_lock(way: dict[str, Any], stored: bool, tmp_path: Path) -> None:
    graph = sw.Graph("locked")
    graph.source([1, 2]).sink(print)
    words = {"checkpoint": tmp_path / "run.db"} if stored else {}
    with pytest.raises(sw.LockError, match=r"cannot take the lock lock of a server: ConnectionError: nobody answers") as found:
        sw.run(graph, lock=_Unreachable(), **words, **way)
    assert isinstance(found.value.__cause__, ConnectionError)
    with pytest.raises(sw.LockError, match=r"file_lock.*IsADirectoryError"):
        sw.run(graph, lock=sw.file_lock(tmp_path), **words, **way)


@pytest.mark.parametrize("way", WAYS, ids=["inline", "two"])
def test_a_lock_that_cannot_tell_counts_as_lost(way: dict[str, Any]) -> None:
    graph, sink = sw.Graph("locked"), _Fenced()
    graph.source(range(100)).sink(sink)
    with pytest.raises(sw.LockLost, match=r"its check failed \(TimeoutError: no answer in time\)") as found:
        sw.run(graph, lock=_Mute(), **way)
    assert isinstance(found.value.__cause__, TimeoutError)
    assert (sink.committed, sink.ended) == (-1, "aborted")
