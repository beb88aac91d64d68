"""`imap` and `iterate` with checkpoint=: the same call gives all results again, without a call for what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from sluiceway.nodes.errors import CheckpointError, GraphError

RUNNERS = pytest.mark.parametrize("runner", ["inline", "processes"])


class Counted:
    """A handler that counts its calls in a file; it refuses some numbers."""

    def __init__(self, folder: Path, refused: frozenset[int] = frozenset()) -> None:
        self._file, self._refused = folder / "calls", refused

    def __call__(self, n: int) -> int:
        with open(self._file, "a") as calls:
            calls.write("x")
        if n in self._refused:
            raise ValueError("refused")
        return n * 2

    @property
    def calls(self) -> int:
        return self._file.stat().st_size if self._file.exists() else 0


@RUNNERS
def test_all_results_come_again(tmp_path: Path, runner: Any) -> None:
    counted = Counted(tmp_path)
    words: Any = {"checkpoint": tmp_path / "run.db", "runner": runner, "workers": 2, "name": "dear"}
    results = sw.imap(counted, range(50), **words)
    assert list(results) == [2 * n for n in range(50)]
    assert (counted.calls, results.report.recalled) == (50, 0)
    results = sw.imap(counted, range(50), **words)
    assert list(results) == [2 * n for n in range(50)]
    assert (counted.calls, results.report.recalled) == (50, 50)
    results = sw.imap(counted, range(70), **words)
    assert list(results) == [2 * n for n in range(70)], "more of the same input"
    assert (counted.calls, results.report.recalled) == (70, 50)


@RUNNERS
def test_a_consumer_that_stopped_early(tmp_path: Path, runner: Any) -> None:
    counted = Counted(tmp_path, frozenset({3, 4}))
    words: Any = {"checkpoint": tmp_path / "run.db", "runner": runner, "workers": 1, "on_error": "dead_letter"}
    with sw.imap(counted, range(200), **words) as results:
        first = [next(results) for _ in range(10)]
    before = counted.calls
    results = sw.imap(counted, range(200), **words)
    again: list[Any] = list(results)
    assert again[:10] == first
    assert [letter.seq for letter in again if isinstance(letter, sw.DeadLetter)] == [3, 4]
    assert len(again) == 200
    assert results.report.recalled >= 10
    assert counted.calls + results.report.recalled == before + 200
    assert counted.calls <= 200 + 16


@RUNNERS
def test_other_input_is_refused(tmp_path: Path, runner: Any) -> None:
    def events(first: int, stop: int = 30) -> Iterator[int]:
        yield first
        yield from range(1, stop)

    def listed(first: int, stop: int = 30) -> list[int]:
        return list(events(first, stop))

    for at, make in enumerate((listed, events)):
        words: Any = {"checkpoint": tmp_path / f"{at}.db", "runner": runner}
        assert len(list(sw.imap(str, make(0), **words))) == 30
        with pytest.raises(CheckpointError, match="gives other events than in the run before, among the first 30"):
            list(sw.imap(str, make(7), **words))
        assert list(sw.imap(str, make(7), resume="never", **words))[:2] == ["7", "1"]
        with pytest.raises(CheckpointError, match="has fewer events than were numbered before"):
            list(sw.imap(str, make(7, 9), **words))


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("".join(f"line {n}\n" for n in range(100)))
    graph = sw.Graph("lines")
    stream = graph.source(sw.lines(tmp_path / "in.txt")).map(str.upper, durable=True)
    words: Any = {"checkpoint": tmp_path / "run.db"}
    assert len(list(sw.iterate(stream, **words))) == 100
    (tmp_path / "in.txt").write_text("".join(f"LINE {n}\n" for n in range(100)))
    with pytest.raises(sw.SluicewayError, match=r"cannot resume|cannot go on|not the file"):
        list(sw.iterate(stream, **words))


@RUNNERS
def test_a_stream_with_a_state_and_windows_is_iterated_again(tmp_path: Path, runner: Any) -> None:
    counted = Counted(tmp_path)

    def build() -> sw.Stream[Any]:
        graph = sw.Graph("again")
        dear = graph.source(range(40)).map(counted, name="dear", durable=True, workers=2)
        return dear.scan(lambda total, n: (total + n, total + n), 0)

    words: Any = {"checkpoint": tmp_path / "run.db", "runner": runner}
    first = list(sw.iterate(build(), **words))
    assert first == [n * (n + 1) for n in range(40)]
    assert list(sw.iterate(build(), **words)) == first
    assert counted.calls == 40


def test_what_is_refused(tmp_path: Path) -> None:
    graph = sw.Graph("g")
    stream = graph.source(range(3)).map(str)
    with pytest.raises(GraphError, match="no handler is durable, so that nothing would be kept"):
        sw.iterate(stream, checkpoint=tmp_path / "run.db")
    with pytest.raises(GraphError, match="no handler is durable"):
        sw.imap(str, range(3), checkpoint=tmp_path / "run.db", durable=False)
    durable = sw.Graph("g").source(range(3)).map(str, durable=True)
    durable.sink(print, name="beside")
    with pytest.raises(GraphError, match="sink 'beside' would get them again too"):
        sw.iterate(durable, checkpoint=tmp_path / "run.db")


def test_a_run_cannot_go_on_from_results(tmp_path: Path) -> None:
    graph = sw.Graph("g")
    stream = graph.source(range(3)).map(str, durable=True)
    list(sw.iterate(stream, checkpoint=tmp_path / "run.db"))
    stream.sink(print)
    with pytest.raises(CheckpointError, match="cannot resume"):
        sw.run(graph, checkpoint=tmp_path / "run.db")
