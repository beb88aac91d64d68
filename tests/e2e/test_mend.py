"""A finished run is mended: what failed is handled again, everything stands at its place, nothing else is called."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from sluiceway.nodes.errors import CheckpointError, GraphError

RUNNERS = pytest.mark.parametrize("runner", ["inline", "processes"])


class Dear:
    """A handler that counts its calls, and refuses texts that begin with `bad` unless it is mended."""

    def __init__(self, folder: Path, mended: bool = False, pause_s: float = 0.0) -> None:
        self._file, self._mended, self._pause_s = folder / "calls", mended, pause_s

    def __call__(self, text: str) -> str:
        with open(self._file, "a") as calls:
            calls.write("x")
        time.sleep(self._pause_s)
        if text.startswith("bad") and not (self._mended and text != "bad 13"):
            raise ValueError(f"cannot take {text[:3]}")
        return text.upper()

    @property
    def calls(self) -> int:
        return self._file.stat().st_size


def second(text: str) -> str:
    """Handle what the first handler gave."""
    return text + "!"


def graph_of(folder: Path, dear: Callable[[str], str], *, two: bool = False) -> sw.Graph:
    graph = sw.Graph("mended")
    texts = graph.source(sw.lines(folder / "in.txt")).map(
        dear, name="dear", durable=True, on_error="dead_letter", workers=2
    )
    if two:
        texts = texts.map(second, name="second", durable=True, workers=2)
    texts.scan(lambda n, text: (n + 1, f"{n} {text}"), 0).sink(sw.lines(folder / "out.txt"))
    graph.dead_letters().map(lambda letter: f"{letter.seq} {letter.event}").sink(sw.lines(folder / "letters.txt"))
    return graph


def write_input(folder: Path, total: int, bad: set[int]) -> None:
    (folder / "in.txt").write_text("".join(f"bad {n}\n" if n in bad else f"good {n}\n" for n in range(total)))


def out(folder: Path) -> list[str]:
    return (folder / "out.txt").read_text().splitlines()


def plain(total: int, without: set[int], bad: set[int], end: str = "") -> list[str]:
    texts = [f"BAD {n}" if n in bad else f"GOOD {n}" for n in range(total) if n not in without]
    return [f"{at} {text}{end}" for at, text in enumerate(texts)]


@RUNNERS
@pytest.mark.parametrize("two", [False, True])
def test_what_failed_is_handled_again_at_its_place(tmp_path: Path, runner: Any, two: bool) -> None:
    bad, end = {3, 13, 40, 41, 99}, "!" if two else ""
    write_input(tmp_path, 100, bad)
    words: Any = {"checkpoint": tmp_path / "run.db", "runner": runner}
    first = Dear(tmp_path)
    sw.run(graph_of(tmp_path, first, two=two), keep="all", **words)
    assert out(tmp_path) == plain(100, bad, bad, end)
    assert first.calls == 100
    report = sw.mend(graph_of(tmp_path, Dear(tmp_path, mended=True), two=two), **words)
    assert out(tmp_path) == plain(100, {13}, bad, end), "number 13 is still bad"
    assert (tmp_path / "letters.txt").read_text() == "13 bad 13\n"
    assert first.calls == 105
    assert report.recalled >= 95
    write_input(tmp_path, 100, bad - {13})  # the data is corrected
    sw.mend(graph_of(tmp_path, Dear(tmp_path, mended=True), two=two), **words)
    assert out(tmp_path) == plain(100, set(), bad - {13}, end)
    assert (tmp_path / "letters.txt").read_text() == ""
    assert first.calls == 106
    sw.mend(graph_of(tmp_path, Dear(tmp_path, mended=True), two=two), numbers=[0, 7], **words)
    assert first.calls == 108
    assert out(tmp_path) == plain(100, set(), bad - {13}, end)
    assert sw.run(graph_of(tmp_path, Dear(tmp_path, mended=True), two=two), keep="all", **words).events_in == 0


def test_numbers_between_kept_ones_in_long_tasks(tmp_path: Path) -> None:
    """What is kept for several numbers lies on both sides of what is handled again, in tasks that are decoded in blocks."""
    bad = set(range(7, 20_000, 500))
    write_input(tmp_path, 20_000, bad)
    words: Any = {"checkpoint": tmp_path / "run.db", "workers": 2}
    dear = Dear(tmp_path)
    sw.run(graph_of(tmp_path, dear), keep="all", **words)
    sw.mend(graph_of(tmp_path, Dear(tmp_path, mended=True)), **words)
    assert dear.calls == 20_000 + len(bad)
    assert out(tmp_path) == plain(20_000, set(), bad)


def test_a_mend_that_is_stopped_is_gone_on_with(tmp_path: Path) -> None:
    """The mended run is a run like any other: it goes on by the call of the run."""
    bad = set(range(0, 200, 2))
    write_input(tmp_path, 200, bad)
    words: Any = {"checkpoint": tmp_path / "run.db", "workers": 2, "keep": "all"}
    dear = Dear(tmp_path)
    sw.run(graph_of(tmp_path, dear), **words)
    stop = threading.Event()
    mended = Dear(tmp_path, mended=True, pause_s=0.01)
    graph = graph_of(tmp_path, mended)
    report = sw.mend(graph, stop=stop, progress=lambda report: stop.set(), **words)
    assert report.ended_by in ("stop", "source")
    assert (tmp_path / "out.txt").read_text().count("\n") in (100, 200), "the old file stands until the new one is whole"
    sw.run(graph_of(tmp_path, mended), **words)
    assert out(tmp_path) == plain(200, set(), bad)
    assert dear.calls == 300


def test_what_cannot_be_mended(tmp_path: Path) -> None:
    write_input(tmp_path, 10, {3})
    words: Any = {"checkpoint": tmp_path / "run.db"}
    graph = graph_of(tmp_path, Dear(tmp_path))
    with pytest.raises(GraphError, match="needs checkpoint="):
        sw.mend(graph)
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        sw.mend(graph, **words)
    sw.run(graph, **words)
    with pytest.raises(CheckpointError, match=r"begun with keep='above', and goes on with keep='all'"):
        sw.mend(graph, **words)
    graph = sw.Graph("g")
    graph.source(range(3)).map(str, durable=True).sink(print)
    with pytest.raises(GraphError, match="sink 'print' is no file that is written anew"):
        sw.mend(graph, checkpoint=tmp_path / "other.db")
    graph = sw.Graph("g")
    graph.source(range(3)).map(str).sink(sw.lines(tmp_path / "x"))
    with pytest.raises(GraphError, match="no handler is durable"):
        sw.run(graph, checkpoint=tmp_path / "other.db", keep="all")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_of_a_hundred_thousand(tmp_path: Path) -> None:
    bad = set(range(7, 100_000, 1000))
    write_input(tmp_path, 100_000, bad - {13})
    words: Any = {"checkpoint": tmp_path / "run.db", "workers": 2}
    dear = Dear(tmp_path, pause_s=0.001)
    began = time.monotonic()
    sw.run(graph_of(tmp_path, dear), keep="all", **words)
    took = time.monotonic() - began
    began = time.monotonic()
    sw.mend(graph_of(tmp_path, Dear(tmp_path, mended=True, pause_s=0.001)), **words)
    mended = time.monotonic() - began
    assert dear.calls == 100_100
    assert out(tmp_path) == plain(100_000, set(), bad)
    print(f"run {took:.1f} s, mend {mended:.1f} s")
    assert mended < took / 2, "a tenth on a machine that has nothing else to do"
