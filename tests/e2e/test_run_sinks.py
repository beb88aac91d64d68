"""Sinks in a run: their order, their thread, their life, and dead letters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import sluiceway as sw
from each_runner import runner

__all__ = ["runner"]


class Collector:
    """A sink that notes its life."""

    def __init__(self) -> None:
        self.life: list[Any] = []

    def open(self) -> None:
        self.life.append("open")

    def write(self, events: Sequence[Any]) -> None:
        self.life.extend(events)

    def close(self) -> None:
        self.life.append("close")

    def abort(self) -> None:
        self.life.append("abort")


def test_sinks_are_written_number_by_number_in_the_order_they_were_added(both: Callable[..., Any]) -> None:
    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        source = graph.source(range(50))
        odd = source.filter(lambda n: n % 2, name="odd", workers=1)
        odd.flat_map(lambda n: [n, n], workers=2).sink(seen.sink("twice"))
        source.sink(seen.sink("raw"))
        odd.sink(seen.sink("odd"))
        return graph

    _, seen = both(graph)
    assert [row[:2] for row in seen.journal[:6]] == [
        *[("raw", 0), ("twice", 1), ("twice", 1), ("raw", 1), ("odd", 1), ("raw", 2)]
    ]


def test_sinks_run_in_the_calling_thread(runner: Any) -> None:
    threads: set[int] = set()
    graph = sw.Graph()
    graph.source(range(3)).map(lambda n: n).sink(lambda n: threads.add(threading.get_ident()))
    sw.run(graph, workers=1, runner=runner)
    assert threads == {threading.get_ident()}


def test_the_life_of_a_sink(runner: Any) -> None:
    good, bad = Collector(), Collector()
    graph = sw.Graph()
    graph.source(range(3)).sink(good)
    sw.run(graph, runner=runner)
    assert good.life == ["open", 0, 1, 2, "close"]
    graph = sw.Graph()
    graph.source([1, 0]).map(lambda n: 1 // n).sink(bad)
    with pytest.raises(sw.HandlerError):
        sw.run(graph, workers=1, runner=runner)
    assert bad.life == ["open", 1, "abort"]


def test_handlers_behind_dead_letters(both: Callable[..., Any]) -> None:
    def graph(seen: Any) -> sw.Graph:
        graph = sw.Graph()
        numbers = graph.source(["1", "x", "2", "y", "z"]).map(int, on_error="dead_letter", retries=1)
        numbers.sink(seen.sink("out"))
        letters = graph.dead_letters()
        letters.sink(seen.sink("letters"))
        letters.filter(lambda letter: letter.event != "y").map(lambda letter: letter.event).sink(seen.sink("events"))
        return graph

    _, seen = both(graph, workers=2)
    assert seen.events("out") == [1, 2]
    assert seen.events("events") == ["x", "z"]
    assert [letter.attempts for letter in seen.events("letters")] == [2, 2, 2]
    assert seen.report.dead_letters == seen.report.retries == 3
    assert [row[0] for row in seen.journal] == ["out", "letters", "events", "out", "letters", "letters", "events"]


def test_what_is_skipped_is_counted_and_three_are_logged(runner: Any, caplog: pytest.LogCaptureFixture) -> None:
    graph = sw.Graph()
    graph.source([*"abcde"]).map(int, on_error="skip").sink(print)
    report = sw.run(graph, workers=1, runner=runner)
    assert (report.skipped, report.events_out) == (5, 0)
    assert [record.name for record in caplog.records] == ["sluiceway"] * 3
    assert "'int' skipped number 0" in caplog.messages[0]


def test_retries_with_a_pause_give_way_to_others(both: Callable[..., Any]) -> None:
    def graph(seen: Any) -> sw.Graph:
        def flaky(n: int) -> int:
            if n % 10 == 0 and sw.current().attempt < 3:
                raise OSError("not yet")
            return n

        graph = sw.Graph()
        graph.source(range(100)).map(flaky, retries=2, backoff_s=0.001).sink(seen.sink("out"))
        return graph

    _, seen = both(graph, workers=2)
    assert seen.events("out") == list(range(100))
    assert seen.report.retries == 20
