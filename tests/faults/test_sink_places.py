"""Sinks that fail at any place of any number, among others and alone; and sinks that stand still."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import sluiceway as sw
from conftest import Seen, observe
from fault_graphs import same, triple, until
from marks import slow

N = 400


class Refusing:
    """A sink that refuses one event and says where in its batch that was; notes what it got and how it ended."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.got: list[int] = []
        self.ended: list[str] = []

    def write(self, events: Sequence[int]) -> None:
        for position, n in enumerate(events):
            if n == self.at:
                error = OSError("disk full")
                error.position = position  # type: ignore[attr-defined]
                raise error
            self.got.append(n)

    def close(self) -> None:
        self.ended.append("closed")

    def abort(self) -> None:
        self.ended.append("aborted")


def two_pools(seen: Seen, sink: Any) -> sw.Graph:
    """Return a graph with two pools and sinks before and behind the one that is struck."""
    graph = sw.Graph()
    numbers = graph.source(range(N), name="numbers")
    numbers.map(triple, name="first", workers=2).sink(seen.sink("before"), name="before")
    numbers.sink(sink, name="struck")
    again = numbers.barrier().map(same, name="second", workers=2)
    sw.zip(again, numbers).sink(seen.sink("behind"), name="behind")
    numbers.sink(seen.sink("loose", ordered=False), name="loose", ordered=False)
    return graph


@pytest.mark.parametrize("at", [0, slow(N // 2), N - 1])
@pytest.mark.parametrize("form", [slow("callable"), "position"])
def test_at_the_first_and_the_last_number(form: str, at: int) -> None:
    """Sinks that stand before it have the number too, for they are served first; nobody has anything above."""
    sink = Refusing(at)
    struck: Any = sink if form == "position" else lambda n: sink.write([n])
    seen = observe(lambda seen: two_pools(seen, struck))
    error: Any = seen.error
    assert type(error) is sw.SinkError
    assert (error.seq, error.index, error.node, error.event) == (at, 0, "struck", at)
    assert str(error) == (
        f"sink 'struck' failed on number {at}: OSError: disk full; everything below {at} was delivered, nothing above it"
    )
    assert sink.got == list(range(at))
    assert seen.events("before") == [3 * n for n in range(at + 1)]
    assert seen.events("behind") == [(n, n) for n in range(at)]
    assert seen.report.ended_by == "error"
    assert sink.ended == (["aborted"] if form == "position" else [])


@pytest.mark.parametrize("index", [0, 2])
def test_at_one_of_several_outputs_of_a_number(index: int) -> None:
    out: list[tuple[int, int]] = []

    def refuse(pair: tuple[int, int]) -> None:
        if pair == (30, index):
            raise OSError("disk full")
        out.append(pair)

    graph = sw.Graph()
    stream: Any = graph.source(range(100)).flat_map(lambda n: [(n, at) for at in range(3)], workers=2)
    stream.sink(refuse, name="struck")
    with pytest.raises(sw.SinkError) as caught:
        sw.run(graph)
    assert (caught.value.seq, caught.value.index, caught.value.event) == (30, index, (30, index))
    assert out == [pair for pair in ((n, at) for n in range(31) for at in range(3)) if pair < (30, index)]


def test_at_a_dead_letter() -> None:
    def refuse(n: int) -> int:
        if n % 10 == 7:
            raise ValueError(n)
        return n

    def shred(letter: sw.DeadLetter) -> None:
        if letter.seq == 37:
            raise OSError("disk full")

    out: list[int] = []
    graph = sw.Graph()
    graph.source(range(N)).map(refuse, on_error="dead_letter", workers=2).sink(out.append)
    graph.dead_letters().sink(shred, name="letters")
    with pytest.raises(sw.SinkError, match="sink 'letters' failed on number 37") as caught:
        sw.run(graph)
    assert caught.value.seq == 37
    assert out == [n for n in range(37) if n % 10 != 7]


# -- sinks that stand still ---------------------------------------------------------------------------------------

WINDOW = 2 << 20
SIZE = 10_000


class Standing:
    """A sink that takes 20 events and then stands still until it is let go; its source notes how far it has come."""

    def __init__(self) -> None:
        self.read = 0
        self.got = 0
        self.standing = threading.Event()
        self.go = threading.Event()

    def numbers(self) -> Iterator[bytes]:
        for n in itertools.count():
            self.read = n
            yield bytes([n % 251]) * SIZE

    def __call__(self, event: Any) -> None:
        self.got += 1
        if self.got == 20:
            self.standing.set()
            assert self.go.wait(60)


@pytest.mark.parametrize("branches", [slow(False), True])
def test_the_source_stands_still_too(branches: bool) -> None:
    sink = Standing()
    seen: list[int] = []

    def look() -> None:
        """Let the sink go when the source has come as far as it may."""
        sink.standing.wait(60)
        until(lambda: sink.read * SIZE >= WINDOW // 2, 20)
        for _ in range(2):
            time.sleep(0.4)
            seen.append(sink.read)
        sink.go.set()

    looking = threading.Thread(target=look)
    looking.start()
    graph = sw.Graph()
    stream: Any = graph.source(sink.numbers(), name="numbers").map(same, name="first", workers=2)
    if branches:
        stream = sw.zip(stream.barrier().map(same, name="second", workers=2), stream)
    stream.sink(sink)
    report = sw.run(graph, limit=1500, window_bytes=WINDOW)
    looking.join()
    assert sink.got == 1500
    assert seen[0] == seen[1]
    # What the window holds, a chunk above it, and 1 MiB read ahead.
    assert seen[0] * SIZE <= 2 * WINDOW + (1 << 20)
    assert report.peak_bytes <= 2 * WINDOW


def test_a_stop_is_heard() -> None:
    """What was read is delivered when the sink goes on."""
    sink, stop = Standing(), threading.Event()

    def strike() -> None:
        sink.standing.wait(60)
        stop.set()
        time.sleep(0.3)
        sink.go.set()

    striking = threading.Thread(target=strike)
    striking.start()
    graph = sw.Graph()
    graph.source(sink.numbers()).map(same, workers=2).sink(sink)
    report = sw.run(graph, stop=stop, window_bytes=WINDOW)
    striking.join()
    assert report.ended_by == "stop"
    assert sink.got == report.events_in == report.released


def test_one_that_is_not_ordered() -> None:
    sink = Standing()
    letting = threading.Thread(target=lambda: (sink.standing.wait(60), time.sleep(0.5), sink.go.set()))
    letting.start()
    graph = sw.Graph()
    graph.source(sink.numbers()).map(same, workers=2).sink(sink, ordered=False)
    report = sw.run(graph, limit=1000, window_bytes=WINDOW)
    letting.join()
    assert sink.got == 1000
    assert report.peak_bytes <= 2 * WINDOW
