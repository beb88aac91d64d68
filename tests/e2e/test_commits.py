"""Sinks that commit and sources that hear of it: at one number, in order, and never ahead of what is released."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import penstock as ps
import pytest


class _Queue:
    """A source of numbers that writes down what it is told, beside the highest number that its sink had committed."""

    acknowledges = True

    def __init__(self, events: int, log: Path, each: int = 10) -> None:
        self.events, self.log, self.each = events, log, each

    def reader(self, position: object | None) -> _QueueReader:
        return _QueueReader(self)


class _QueueReader:
    def __init__(self, queue: _Queue) -> None:
        self._queue, self._next = queue, 0

    def read(self, limit: int) -> Sequence[int] | None:
        if self._next >= self._queue.events:
            return None
        first, self._next = self._next, min(self._queue.events, self._next + min(limit, self._queue.each))
        return range(first, self._next)

    def position(self) -> int:
        return self._next

    def acknowledge(self, position: int) -> None:
        self._say(f"ack {position}")

    def close(self) -> None:
        self._say("close")

    def _say(self, what: str) -> None:
        with open(self._queue.log, "a") as file:
            file.write(what + "\n")


class _Table:
    """A sink that writes its commits into the same file."""

    commits = True

    def __init__(self, log: Path, broken_at: int | None = None) -> None:
        self.log, self.rows, self.broken_at = log, [], broken_at  # type: tuple[Path, list[Any], int | None]

    def write(self, events: Sequence[Any]) -> None:
        self.rows += events

    def commit(self, n: int) -> int:
        assert len(self.rows) == n + 1, "a commit is for exactly what was written"
        if self.broken_at is not None and n >= self.broken_at:
            raise OSError("the disk is full")
        with open(self.log, "a") as file:
            file.write(f"commit {n + 1}\n")
        return n

    def close(self) -> None:
        with open(self.log, "a") as file:
            file.write("closed\n")


def _words(log: Path) -> list[tuple[str, int]]:
    lines = [line.split() for line in log.read_text().splitlines()]
    return [(line[0], int(line[1]) if len(line) > 1 else 0) for line in lines]


@pytest.mark.parametrize("words", [{"runner": "inline"}, {"workers": 2}, {}], ids=["inline", "two", "auto"])
def test_a_source_hears_only_of_what_is_committed(tmp_path: Path, words: Any) -> None:
    log, events = tmp_path / "log", 3_000
    sink = _Table(log)
    graph = ps.Graph("queue")
    graph.source(_Queue(events, log)).map(_slow).sink(sink)
    report = ps.run(graph, checkpoint_interval_s=0.02, **words)
    assert sink.rows == list(range(events))
    assert report.events_in == events
    committed = acked = 0
    for word, number in _words(log):
        if word == "commit":
            assert number >= committed
            committed = number
        elif word == "ack":
            assert acked <= number <= committed
            acked = number
    assert (committed, acked) == (events, events)
    kinds = [word for word, _ in _words(log)]
    assert kinds.count("commit") > 2, "commits come while the run goes on"
    assert kinds.count("closed") == kinds.count("close") == 1


def _slow(number: int) -> int:
    threading.Event().wait(0.0001)
    return number


def test_a_number_that_is_not_finished_holds_back_the_commit(tmp_path: Path) -> None:
    """The barrier: while number 50 is worked on, nothing above it is committed or acknowledged."""
    log, gate = tmp_path / "log", tmp_path / "gate"
    sink = _Table(log)
    graph = ps.Graph("queue")

    def wait_at_50(number: int) -> int:
        while number == 50 and not gate.exists():
            threading.Event().wait(0.005)
        return number

    graph.source(_Queue(200, log)).map(wait_at_50).sink(sink)
    run = threading.Thread(target=ps.run, args=(graph,), kwargs={"workers": 2, "checkpoint_interval_s": 0.01})
    run.start()
    threading.Event().wait(1.0)
    held = _words(log) if log.exists() else []
    gate.touch()
    run.join(60)
    assert not run.is_alive()
    assert all(number <= 50 for _, number in held)
    assert _words(log)[-3:] != held
    assert ("ack", 200) in _words(log)


def test_a_failed_number_holds_back_the_commit(tmp_path: Path) -> None:
    log = tmp_path / "log"
    graph = ps.Graph("queue")
    graph.source(_Queue(1_000, log)).map(lambda n: 1 // (n - 500)).sink(_Table(log))
    with pytest.raises(ps.HandlerError) as caught:
        ps.run(graph, workers=2, checkpoint_interval_s=0.001)
    assert caught.value.seq == 500
    assert all(number <= 500 for _, number in _words(log))


def test_a_commit_that_fails_is_a_sink_error_and_nothing_is_acknowledged_above(tmp_path: Path) -> None:
    log = tmp_path / "log"
    graph = ps.Graph("queue")
    graph.source(_Queue(2_000, log)).map(_slow).sink(_Table(log, broken_at=300), name="table")
    with pytest.raises(ps.SinkError, match=r"table.*cannot commit") as caught:
        ps.run(graph, workers=2, checkpoint_interval_s=0.01)
    assert isinstance(caught.value.__cause__, OSError)
    assert all(number <= 300 for word, number in _words(log) if word == "ack")


class _Unsendable(_Queue):
    """Gives one event in the middle of a read that cannot be packed."""

    def reader(self, position: object | None) -> _QueueReader:
        return _UnsendableReader(self)


class _UnsendableReader(_QueueReader):
    def read(self, limit: int) -> Sequence[Any] | None:  # type: ignore[override]
        events = super().read(limit)
        return None if events is None else [threading.Lock() if n == 55 else n for n in events]


def test_an_event_that_cannot_be_sent_is_never_acknowledged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    graph = ps.Graph("queue")
    graph.source(_Unsendable(200, log)).map(_slow).sink(_Table(log))
    with pytest.raises(ps.SourceError):
        ps.run(graph, workers=2, checkpoint_interval_s=0.0)
    assert all(number <= 55 for word, number in _words(log) if word == "ack")


def test_a_file_is_committed_for_a_source_that_wants_to_hear(tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out.txt"
    graph = ps.Graph("queue")
    graph.source(_Queue(500, log)).map(str).sink(ps.lines(out))
    ps.run(graph, workers=2, checkpoint_interval_s=0.01)
    assert out.read_text().split() == [str(n) for n in range(500)]
    assert ("ack", 500) in _words(log)
