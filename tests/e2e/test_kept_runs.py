"""Durable handlers, from run to run: what is answered is not called for again, and what is said about it."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from sluiceway.engine.cli.main import main
from sluiceway.nodes.errors import CheckpointError, GraphError, HandlerError

RUNNERS = pytest.mark.parametrize("runner", ["inline", "processes"])


class Calls:
    """Counts the calls of a handler, whatever process makes them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "calls"
        self._folder.mkdir()

    def __call__(self, n: int) -> int:
        with open(self._folder / str(n), "a") as made:
            made.write("x")
        return n * 2

    def made(self) -> dict[int, int]:
        """Return how often each number was called for."""
        return {int(path.name): path.stat().st_size for path in self._folder.iterdir()}


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(tmp_path)


def lines(folder: Path) -> list[str]:
    return (folder / "out.txt").read_text().splitlines()


class Refuses:
    """A handler that raises for some numbers, until a file says that it is mended."""

    def __init__(self, calls: Calls, folder: Path, numbers: set[int]) -> None:
        self._calls, self._mended, self._numbers = calls, folder / "mended", numbers

    def __call__(self, n: int) -> int:
        result = self._calls(n)
        if n in self._numbers and not self._mended.exists():
            raise ValueError(f"no {n}")
        return result


def graph_of(folder: Path, handler: Callable[..., Any], total: int = 60, **options: Any) -> sw.Graph:
    graph = sw.Graph("kept")
    options = {"durable": True, "workers": 2, **options}
    graph.source(range(total)).map(handler, name="dear", **options).map(str).sink(sw.lines(folder / "out.txt"))
    return graph


@RUNNERS
def test_a_failed_run_goes_on_with_all_that_was_answered(tmp_path: Path, calls: Calls, runner: Any) -> None:
    words: Any = {"checkpoint": tmp_path / "run.db", "runner": runner, "checkpoint_interval_s": 60}
    graph = graph_of(tmp_path, Refuses(calls, tmp_path, {40}))
    with pytest.raises(HandlerError, match="number 40"):
        sw.run(graph, **words)
    before = calls.made()
    (tmp_path / "mended").touch()
    report = sw.run(graph, **words)
    assert lines(tmp_path) == [str(2 * n) for n in range(60)]
    again = {n: count - before.get(n, 0) for n, count in calls.made().items()}
    assert all(again[n] == 0 for n in range(40)), "answered below the failed number"
    assert again[40] == 1
    assert report.recalled > 0


@RUNNERS
def test_failures_are_answers(tmp_path: Path, calls: Calls, runner: Any) -> None:
    stop = threading.Event()
    words: Any = {"checkpoint": tmp_path / "run.db", "runner": runner, "checkpoint_interval_s": 60}
    fatal = Refuses(calls, tmp_path, {50})
    letters = Refuses(calls, tmp_path, {3, 4, 30})

    def build() -> sw.Graph:
        graph = sw.Graph("kept")
        stream = graph.source(range(60)).map(letters, name="dear", durable=True, workers=1, on_error="dead_letter")
        stream.map(lambda n: fatal(n // 2), name="then", workers=1).map(str).sink(sw.lines(tmp_path / "out.txt"))
        graph.dead_letters().map(lambda letter: f"{letter.seq} {letter.event} {letter.error}").sink(
            sw.lines(tmp_path / "letters.txt")
        )
        return graph

    with pytest.raises(HandlerError, match="number 50"):
        sw.run(build(), stop=stop, **words)
    before = calls.made()
    assert before[3] + before[4] + before[30] >= 3
    (tmp_path / "mended").touch()
    report = sw.run(build(), **words)
    assert report.recalled > 0
    assert (tmp_path / "letters.txt").read_text().splitlines() == [f"{n} {n} ValueError: no {n}" for n in (3, 4, 30)]
    assert lines(tmp_path) == [str(2 * n) for n in range(60) if n not in (3, 4, 30)]


@RUNNERS
def test_what_failed_before_a_durable_handler_reaches_it_when_that_is_mended(
    tmp_path: Path, calls: Calls, runner: Any
) -> None:
    """A durable handler has answered such a number with nothing, for it was given nothing."""
    words: Any = {"checkpoint": tmp_path / "run.db", "runner": runner, "checkpoint_interval_s": 60}
    (tmp_path / "other").mkdir()
    parse = Refuses(Calls(tmp_path / "other"), tmp_path, {20, 21, 30})
    fatal = Refuses(calls, tmp_path, {50})

    def build() -> sw.Graph:
        graph = sw.Graph("kept")
        parsed = graph.source(range(60)).map(parse, name="parse", on_error="skip", workers=1)
        dear = parsed.map(calls, name="dear", durable=True, workers=1)
        dear.map(lambda n: fatal(n // 4) * 2, name="then", workers=1).map(str).sink(sw.lines(tmp_path / "out.txt"))
        return graph

    with pytest.raises(HandlerError, match="number 50"):
        sw.run(build(), **words)
    (tmp_path / "mended").touch()
    sw.run(build(), **words)
    assert lines(tmp_path) == [str(4 * n) for n in range(60)]


def test_what_is_committed_is_trimmed(tmp_path: Path, calls: Calls) -> None:
    sw.run(graph_of(tmp_path, calls), checkpoint=tmp_path / "run.db")
    with sqlite3.connect(tmp_path / "run.db") as db:
        assert db.execute("SELECT count(*) FROM answer WHERE size > 0").fetchone() == (0,)
    assert (tmp_path / "run.db").stat().st_mode & 0o777 == 0o600


def test_forgetting_the_run_forgets_its_answers(tmp_path: Path, calls: Calls) -> None:
    words: Any = {"checkpoint": tmp_path / "run.db", "checkpoint_interval_s": 60}
    graph = graph_of(tmp_path, Refuses(calls, tmp_path, {40}))
    with pytest.raises(HandlerError):
        sw.run(graph, **words)
    (tmp_path / "mended").touch()
    report = sw.run(graph, resume="never", **words)
    assert report.recalled == 0
    assert min(calls.made().values()) >= 1
    assert sum(calls.made().values()) >= 60 + 40


@pytest.mark.parametrize(("durable", "again"), [(True, 0), ("by_code", 1)])
def test_other_code_is_told(
    tmp_path: Path, calls: Calls, caplog: pytest.LogCaptureFixture, durable: Any, again: int
) -> None:
    words: Any = {"checkpoint": tmp_path / "run.db", "checkpoint_interval_s": 60}
    refuses = Refuses(calls, tmp_path, {40})
    with pytest.raises(HandlerError):
        sw.run(graph_of(tmp_path, lambda n: refuses(n) * 1, durable=durable), **words)
    (tmp_path / "mended").touch()
    with caplog.at_level(logging.WARNING, "sluiceway"):
        sw.run(graph_of(tmp_path, lambda n: refuses(n) + 0, durable=durable), **words)
    assert "node 'dear' has kept answers of other code than it has now" in caplog.text
    assert {calls.made()[n] for n in range(30, 40)} == {1 + again}
    assert lines(tmp_path) == [str(2 * n) for n in range(60)]


@RUNNERS
def test_the_bound_on_disk(tmp_path: Path, runner: Any) -> None:
    def large(n: int) -> str:
        return f"{n:04}" * 1000

    graph = graph_of(tmp_path, large)
    words: Any = {"checkpoint": tmp_path / "run.db", "runner": runner, "checkpoint_interval_s": 60}
    with pytest.raises(CheckpointError, match=r"cannot keep the answer of node 'dear' .* kept_bytes=3000 is the most"):
        sw.run(graph, kept_bytes=3000, **words)
    sw.run(graph, **words)
    assert lines(tmp_path) == [large(n) for n in range(60)]


def test_a_bound_that_checkpoints_make_room_for(tmp_path: Path) -> None:
    def large(n: int) -> str:
        return f"{n:04}" * 1000

    graph = graph_of(tmp_path, large, total=400)
    report = sw.run(graph, checkpoint=tmp_path / "run.db", checkpoint_interval_s=60, kept_bytes=800_000, window_bytes=100_000)
    assert report.events_out == 400


def test_what_is_refused(tmp_path: Path) -> None:
    graph = sw.Graph("refused")
    numbers = graph.source(range(3))
    with pytest.raises(GraphError, match=r"durable='no'; use True, 'by_code' or False"):
        numbers.map(str, durable="no")  # type: ignore[arg-type]
    with pytest.raises(GraphError, match=r"durable=True answers numbers of an earlier run without a call"):
        numbers.map(str, durable=True, ordered=True)
    with pytest.raises(GraphError, match=r"durable=True has no place there"):
        graph.dead_letters().map(str, name="told", durable=True)


def test_answers_that_cannot_be_packed_fail_their_events(tmp_path: Path) -> None:
    def gives(n: int) -> Any:
        return threading.Lock() if n == 3 else n

    graph = sw.Graph("kept")
    graph.source(range(6)).map(gives, name="gives", durable=True, on_error="dead_letter").map(str).sink(
        sw.lines(tmp_path / "out.txt")
    )
    graph.dead_letters().map(lambda letter: letter.error).sink(sw.lines(tmp_path / "letters.txt"))
    sw.run(graph, runner="inline", checkpoint=tmp_path / "run.db")
    assert lines(tmp_path) == ["0", "1", "2", "4", "5"]
    assert "cannot be pickled" in (tmp_path / "letters.txt").read_text()


def test_an_unordered_sink_gets_what_is_durable(tmp_path: Path, calls: Calls) -> None:
    graph = sw.Graph("kept")
    found: list[int] = []
    graph.source(range(60)).map(calls, durable=True, workers=2).sink(found.append, ordered=False)
    sw.run(graph, checkpoint=tmp_path / "run.db")
    assert sorted(found) == [2 * n for n in range(60)]


def test_a_copy_of_a_store_in_use(tmp_path: Path, calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    """What is copied is what the store holds at one moment, with the answers that are kept by then."""
    copied: list[int] = []

    def copy(report: Any) -> None:
        if not copied:
            copied.append(main(["checkpoints", str(tmp_path / "run.db"), "--copy", str(tmp_path / "copy.db")]))

    graph = graph_of(tmp_path, Refuses(calls, tmp_path, {50}))
    with pytest.raises(HandlerError):
        sw.run(graph, checkpoint=tmp_path / "run.db", progress=copy)
    assert copied == [0]
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    assert main(["checkpoints", str(tmp_path / "copy.db")]) == 0
    assert "graph 'kept'" in capsys.readouterr().out
    assert main(["checkpoints", str(tmp_path / "run.db"), "--copy", str(tmp_path / "copy.db")]) == 1
    assert "name a file that is not there yet" in capsys.readouterr().err
    assert main(["checkpoints", str(tmp_path / "none.db"), "--copy", str(tmp_path / "other.db")]) == 1
    assert not (tmp_path / "other.db").exists()
