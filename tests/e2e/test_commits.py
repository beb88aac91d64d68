"""Sinks that commit and sources that hear of it: at one number, in order, and never ahead of what is released."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from queue_source import Queue, Unsendable, dawdle


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
    graph = sw.Graph("queue")
    graph.source(Queue(events, log)).map(dawdle).sink(sink)
    report = sw.run(graph, checkpoint_interval_s=0.02, **words)
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


def test_a_number_that_is_not_finished_holds_back_the_commit(tmp_path: Path) -> None:
    """The barrier: while number 50 is worked on, nothing above it is committed or acknowledged."""
    log, gate, standing = tmp_path / "log", tmp_path / "gate", tmp_path / "standing"
    sink = _Table(log)
    graph = sw.Graph("queue")

    def wait_at_50(number: int) -> int:
        while number == 50 and not gate.exists():
            standing.touch()
            threading.Event().wait(0.005)
        return number

    graph.source(Queue(200, log)).map(wait_at_50).sink(sink)
    run = threading.Thread(target=sw.run, args=(graph,), kwargs={"workers": 2, "checkpoint_interval_s": 0.01})
    run.start()
    while not standing.exists():
        assert run.is_alive()
        time.sleep(0.005)
    time.sleep(0.2)  # twenty intervals between commits, of which none may go too far
    held = _words(log) if log.exists() else []
    gate.touch()
    run.join(60)
    assert not run.is_alive()
    assert all(number <= 50 for _, number in held)
    assert _words(log)[-3:] != held
    assert ("ack", 200) in _words(log)


def test_a_failed_number_holds_back_the_commit(tmp_path: Path) -> None:
    log = tmp_path / "log"
    graph = sw.Graph("queue")
    graph.source(Queue(1_000, log)).map(lambda n: 1 // (n - 500)).sink(_Table(log))
    with pytest.raises(sw.HandlerError) as caught:
        sw.run(graph, workers=2, checkpoint_interval_s=0.001)
    assert caught.value.seq == 500
    assert all(number <= 500 for _, number in _words(log))


def test_a_commit_that_fails_is_a_sink_error_and_nothing_is_acknowledged_above(tmp_path: Path) -> None:
    log = tmp_path / "log"
    graph = sw.Graph("queue")
    graph.source(Queue(2_000, log)).map(dawdle).sink(_Table(log, broken_at=300), name="table")
    with pytest.raises(sw.SinkError, match=r"table.*cannot commit") as caught:
        sw.run(graph, workers=2, checkpoint_interval_s=0.01)
    assert isinstance(caught.value.__cause__, OSError)
    assert all(number <= 300 for word, number in _words(log) if word == "ack")


def test_an_event_that_cannot_be_sent_is_never_acknowledged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    graph = sw.Graph("queue")
    graph.source(Unsendable(200, log)).map(dawdle).sink(_Table(log))
    with pytest.raises(sw.SourceError):
        sw.run(graph, workers=2, checkpoint_interval_s=0.0)
    assert all(number <= 55 for word, number in _words(log) if word == "ack")


def test_a_file_is_committed_for_a_source_that_wants_to_hear(tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out.txt"
    graph = sw.Graph("queue")
    graph.source(Queue(500, log)).map(str).sink(sw.lines(out))
    sw.run(graph, workers=2, checkpoint_interval_s=0.01)
    assert out.read_text().split() == [str(n) for n in range(500)]
    assert ("ack", 500) in _words(log)


def test_what_names_no_store_is_refused() -> None:
    graph = sw.Graph("unnamed")
    graph.source(range(3)).sink(print)
    with pytest.raises(sw.GraphError, match="resume='required' without checkpoint="):
        sw.run(graph, resume="required")
    for given in ("", True, 3, b"run.db"):
        with pytest.raises(sw.GraphError, match="it is the path of a file, a PostgreSQL URL or a store"):
            sw.run(graph, checkpoint=given)  # type: ignore[arg-type]
    with pytest.raises(sw.GraphError, match="what is kept must outlive the run"):
        sw.run(graph, checkpoint=":memory:")


def test_a_finished_run_leaves_alone_what_others_have_appended_since(tmp_path: Path) -> None:
    out = tmp_path / "all.txt"

    def run(day: str, first: int) -> None:
        graph = sw.Graph("day")
        graph.source(range(first, first + 3)).map(str).sink(sw.lines(out, append=True))
        sw.run(graph, runner="inline", checkpoint=tmp_path / f"{day}.db")

    for _ in range(2):
        run("monday", 0)
        run("tuesday", 10)
    assert out.read_text().split() == ["0", "1", "2", "10", "11", "12"]
    out.unlink()
    run("monday", 0)
    assert not out.exists()
