"""Sinks that raise or block, at their opening, at a number, at their close."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import pytest
import sluiceway as sw
from fault_graphs import same, until
from marks import slow

N = 500


class Sink:
    """A sink that fails where it is told to, and notes what was done to it."""

    def __init__(self, fails: str = "", at: int = -1) -> None:
        self.fails = fails
        self.at = at
        self.events: list[Any] = []
        self.done: list[str] = []

    def open(self) -> None:
        self.done.append("open")
        self.fail("open")

    def write(self, events: Sequence[Any]) -> None:
        for (seq, _), event in zip(events.numbers, events, strict=True):  # type: ignore[attr-defined]
            if seq == self.at:
                self.fail("write")
            self.events.append(event)

    def close(self) -> None:
        self.done.append("close")
        self.fail("close")

    def abort(self) -> None:
        self.done.append("abort")

    def fail(self, where: str) -> None:
        if self.fails == where:
            raise OSError("disk full")


def run(first: Sink, second: Sink) -> sw.SinkError:
    """Run a graph with the two sinks; it must fail."""
    graph = sw.Graph()
    numbers = graph.source(range(N)).map(same, workers=2)
    numbers.sink(first, name="first")
    numbers.sink(second, name="second")
    with pytest.raises(sw.SinkError) as caught:
        sw.run(graph)
    assert caught.value.report is not None
    return caught.value


@pytest.mark.parametrize("at", [0, 250, slow(N - 1)])
def test_raises_at_a_number(at: int) -> None:
    """No ordered sink sees a higher number, whichever of them failed."""
    first, second = Sink("write", at), Sink()
    error = run(first, second)
    assert (error.seq, error.index, error.node) == (at, 0, "first")
    assert "disk full" in str(error)
    assert isinstance(error.__cause__, OSError)
    assert first.events == list(range(at))
    assert second.events in (list(range(at)), list(range(len(second.events))))
    assert len(second.events) <= at
    assert (first.done, second.done) == (["open", "abort"], ["open", "abort"])


def test_the_second_raises() -> None:
    first, second = Sink(), Sink("write", 100)
    error = run(first, second)
    assert (error.seq, error.node) == (100, "second")
    assert first.events == list(range(101))
    assert second.events == list(range(100))


def test_a_callable_raises() -> None:
    out: list[int] = []

    def sink(n: int) -> None:
        if n == 77:
            raise ValueError("no more")
        out.append(n)

    graph = sw.Graph()
    graph.source(range(N)).map(same, workers=2).sink(sink)
    with pytest.raises(sw.SinkError) as caught:
        sw.run(graph)
    assert (caught.value.seq, caught.value.event) == (77, 77)
    assert "everything below 77 was delivered, nothing above it" in str(caught.value)
    assert out == list(range(77))


@pytest.mark.parametrize("error", [KeyboardInterrupt, slow(SystemExit), slow(GeneratorExit)])
def test_a_callable_raises_what_is_no_exception(error: type[BaseException]) -> None:
    """It is the caller's own thread: it goes up as it is, and the run is gone."""

    def sink(n: int) -> None:
        if n == 77:
            raise error

    graph = sw.Graph()
    graph.source(range(N)).map(same, workers=2).sink(sink)
    with pytest.raises(error):
        sw.run(graph)


def test_close_raises() -> None:
    first, second = Sink("close"), Sink()
    error = run(first, second)
    assert (error.seq, error.node) == (None, "first")
    assert "sink 'first' cannot be closed: OSError: disk full" in str(error)
    assert first.events == second.events == list(range(N))
    assert second.done == ["open", "abort"]


def test_open_raises() -> None:
    first, second = Sink(), Sink("open")
    error = run(first, second)
    assert "sink 'second' cannot be opened: OSError: disk full" in str(error)
    assert first.events == second.events == []
    assert first.done == ["open", "abort"]


def test_an_unordered_sink_raises() -> None:
    first, second = Sink("write", 100), Sink()
    graph = sw.Graph()
    numbers = graph.source(range(N)).map(same, workers=2)
    numbers.sink(first, name="first", ordered=False)
    numbers.sink(second, name="second")
    with pytest.raises(sw.SinkError, match="sink 'first' failed on"):
        sw.run(graph)
    assert second.events == list(range(len(second.events)))


def test_blocks_and_memory_stays_flat() -> None:
    """A short stand-in for a minute: the source waits while the sink does, and the budget holds."""
    reports: list[Any] = []

    def sink(event: bytes) -> None:
        if len(reports) == 0:
            until(lambda: time.monotonic() > began + 0.6)
            reports.append(1)

    began = time.monotonic()
    graph = sw.Graph()
    graph.source(range(3000)).map(lambda n: bytes(50_000), workers=2).sink(sink)
    report = sw.run(graph, window_bytes=4 << 20)
    assert report.events_out == 3000
    assert report.peak_bytes < 3 * (4 << 20)


def test_a_sink_that_closes_stdout_of_the_caller() -> None:
    """What a sink does to the calling process is the caller's affair; the run goes on."""
    out: list[int] = []
    kept = sys.stdout

    def sink(n: int) -> None:
        sys.stdout = open(os.devnull, "w") if n == 0 else sys.stdout  # noqa: SIM115
        out.append(n)

    try:
        graph = sw.Graph()
        graph.source(range(100)).map(same, workers=1).sink(sink)
        sw.run(graph)
    finally:
        sys.stdout.close()
        sys.stdout = kept
    assert out == list(range(100))
