"""Sinks that raise, at any place, and sinks that block: nothing above is delivered, memory stays in its bounds."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import penstock as ps
import pytest
from conftest import Seen, observe
from fault_graphs import branched, same, triple, until

N = 400


class Refusing:
    """A sink that raises where it is told to, and notes what it got and how it ended."""

    def __init__(self, where: str = "", at: int = -1, position: bool = False) -> None:
        self.where = where
        self.at = at
        self.position = position
        self.got: list[int] = []
        self.ended: list[str] = []

    def open(self) -> None:
        self._raise("open")

    def write(self, events: Sequence[int]) -> None:
        for position, n in enumerate(events):
            if n == self.at:
                error = OSError("disk full")
                if self.position:
                    error.position = position  # type: ignore[attr-defined]
                raise error
            self.got.append(n)

    def close(self) -> None:
        self.ended.append("closed")
        self._raise("close")

    def abort(self) -> None:
        self.ended.append("aborted")

    def _raise(self, where: str) -> None:
        if self.where == where:
            raise OSError("disk full")


def two_pools(seen: Seen, sink: Any) -> ps.Graph:
    """Give a graph with two pools and sinks before and behind the one that is struck."""
    graph = ps.Graph()
    numbers = graph.source(range(N), name="numbers")
    numbers.map(triple, name="first", workers=2).sink(seen.sink("before"), name="before")
    numbers.sink(sink, name="struck")
    again = numbers.barrier().map(same, name="second", workers=2)
    ps.zip(again, numbers).sink(seen.sink("behind"), name="behind")
    numbers.sink(seen.sink("loose", ordered=False), name="loose", ordered=False)
    return graph


@pytest.mark.parametrize("at", [0, N // 2, N - 1])
@pytest.mark.parametrize("form", ["callable", "position"])
def test_raised_at_the_first_and_the_last_event(form: str, at: int) -> None:
    """Sinks that stand before it have the number too, for they are served first; nobody has anything above."""
    sink = Refusing(at=at, position=True)
    struck: Any = sink if form == "position" else lambda n: sink.write([n])
    seen = observe(lambda seen: two_pools(seen, struck))
    assert type(seen.error) is ps.SinkError
    assert (seen.error.seq, seen.error.index, seen.error.node, seen.error.event) == (at, 0, "struck", at)
    assert str(seen.error) == (
        f"sink 'struck' failed on number {at}: OSError: disk full; everything below {at} was delivered, nothing above it"
    )
    assert isinstance(seen.error.__cause__, OSError)
    assert sink.got == list(range(at))
    assert seen.events("before") == [3 * n for n in range(at + 1)]
    assert seen.events("behind") == [(n, n) for n in range(at)]
    assert seen.report.ended_by == "error"
    if form == "position":
        assert sink.ended == ["aborted"]


def test_a_batch_that_says_no_position() -> None:
    """Alone at the end of the line it gets many numbers at once; the first and the last are named."""
    sink = Refusing(at=200)
    graph = ps.Graph()
    graph.source(range(N)).map(same, workers=2).sink(sink, name="struck")
    with pytest.raises(ps.SinkError, match="sink 'struck' failed on number") as caught:
        ps.run(graph)
    assert caught.value.seq is not None
    assert caught.value.seq <= 200
    assert sink.got == list(range(200))
    assert sink.ended == ["aborted"]


@pytest.mark.parametrize("index", [0, 2])
def test_one_of_several_outputs_of_a_number(index: int) -> None:
    out: list[tuple[int, int]] = []

    def refuse(pair: tuple[int, int]) -> None:
        if pair == (30, index):
            raise OSError("disk full")
        out.append(pair)

    graph = ps.Graph()
    stream: Any = graph.source(range(100)).flat_map(lambda n: [(n, at) for at in range(3)], workers=2)
    stream.sink(refuse, name="struck")
    with pytest.raises(ps.SinkError) as caught:
        ps.run(graph)
    assert (caught.value.seq, caught.value.index, caught.value.event) == (30, index, (30, index))
    assert out == [pair for pair in ((n, at) for n in range(31) for at in range(3)) if pair < (30, index)]


@pytest.mark.parametrize(("where", "what"), [("open", "opened"), ("close", "closed")])
def test_open_and_close_that_raise(where: str, what: str) -> None:
    sink = Refusing(where)
    seen = observe(lambda seen: two_pools(seen, sink))
    assert type(seen.error) is ps.SinkError
    assert (seen.error.node, seen.error.seq) == ("struck", None)
    assert str(seen.error) == f"sink 'struck' cannot be {what}: OSError: disk full"
    assert len(sink.got) == len(seen.events("behind")) == (0 if where == "open" else N)
    assert seen.error.report.ended_by == "error"


def test_a_close_that_raises_hides_no_other_error() -> None:
    sink = Refusing("close", at=10, position=True)
    sink.abort = sink.close  # type: ignore[method-assign]
    seen = observe(lambda seen: two_pools(seen, sink))
    assert "failed on number 10" in str(seen.error)


def test_sinks_behind_one_that_cannot_be_closed_are_aborted() -> None:
    first, second, third = Refusing("close"), Refusing("close"), Refusing()
    graph = ps.Graph()
    numbers = graph.source(range(10)).map(same, workers=1)
    for sink in (first, second, third):
        numbers.sink(sink)
    with pytest.raises(ps.SinkError, match="cannot be closed"):
        ps.run(graph)
    assert [sink.ended for sink in (first, second, third)] == [["closed"], ["aborted"], ["aborted"]]


def test_an_unordered_sink_that_raises() -> None:
    def refuse(n: int) -> None:
        if n == 100:
            raise OSError("disk full")

    graph = ps.Graph()
    graph.source(range(N)).map(same, workers=2).sink(refuse, name="struck", ordered=False)
    with pytest.raises(ps.SinkError, match="sink 'struck' failed on number 100: OSError: disk full") as caught:
        ps.run(graph)
    assert (caught.value.seq, caught.value.event) == (100, 100)


def test_a_sink_of_dead_letters_that_raises() -> None:
    def refuse(n: int) -> int:
        if n % 10 == 7:
            raise ValueError(n)
        return n

    def shred(letter: ps.DeadLetter) -> None:
        if letter.seq == 37:
            raise OSError("disk full")

    out: list[int] = []
    graph = ps.Graph()
    graph.source(range(N)).map(refuse, on_error="dead_letter", workers=2).sink(out.append)
    graph.dead_letters().sink(shred, name="letters")
    with pytest.raises(ps.SinkError, match="sink 'letters' failed on number 37") as caught:
        ps.run(graph)
    assert caught.value.seq == 37
    assert out == [n for n in range(37) if n % 10 != 7]


# -- sinks that block ---------------------------------------------------------------------------------------------

WINDOW = 2 << 20


class Blocking:
    """A sink that takes 20 numbers and then stands still until the test says go; notes how far the source had come."""

    def __init__(self) -> None:
        self.read = 0
        self.standing = threading.Event()
        self.go = threading.Event()
        self.got = 0
        self.read_at: list[int] = []

    def numbers(self) -> Iterator[bytes]:
        for n in itertools.count():
            self.read = n
            yield bytes([n % 251]) * 10_000

    def __call__(self, event: Any) -> None:
        self.got += 1
        if self.got == 20:
            self.standing.set()
            assert self.go.wait(60)


@pytest.mark.parametrize("branches", [False, True])
def test_a_sink_that_blocks_holds_the_source_back(branches: bool) -> None:
    sink = Blocking()

    def look() -> None:
        """Let the sink go when the source has stood still for a while."""
        sink.standing.wait(60)
        until(lambda: sink.read * 10_000 >= WINDOW // 2, 20)
        for _ in range(2):
            time.sleep(0.4)
            sink.read_at.append(sink.read)
        sink.go.set()

    looking = threading.Thread(target=look)
    looking.start()
    graph = ps.Graph()
    numbers = graph.source(sink.numbers(), name="numbers")
    stream: Any = numbers.map(same, name="first", workers=2)
    if branches:
        stream = ps.zip(stream.barrier().map(same, name="second", workers=2), stream)
    stream.sink(sink)
    report = ps.run(graph, limit=2000, window_bytes=WINDOW)
    looking.join()
    assert sink.got == 2000
    # It read no further while the sink stood still: what the window holds, a chunk above it, and 1 MiB read ahead.
    assert sink.read_at[0] == sink.read_at[1]
    assert sink.read_at[0] * 10_000 <= 2 * WINDOW + (1 << 20)
    assert report.peak_bytes <= 2 * WINDOW


def test_interrupted_while_a_sink_blocks_for_a_while() -> None:
    """A stop is heard while a sink stands still; what was read is delivered when it goes on."""
    sink, stop = Blocking(), threading.Event()

    def strike() -> None:
        sink.standing.wait(60)
        stop.set()
        time.sleep(0.3)
        sink.go.set()

    striking = threading.Thread(target=strike)
    striking.start()
    graph = ps.Graph()
    graph.source(sink.numbers()).map(same, workers=2).sink(sink)
    report = ps.run(graph, stop=stop, window_bytes=WINDOW)
    striking.join()
    assert report.ended_by == "stop"
    assert sink.got == report.events_in == report.released


def test_an_unordered_sink_that_blocks() -> None:
    sink = Blocking()
    opening = threading.Timer(1.0, sink.go.set)
    opening.start()
    graph = ps.Graph()
    graph.source(sink.numbers()).map(same, workers=2).sink(sink, ordered=False)
    report = ps.run(graph, limit=1000, window_bytes=WINDOW)
    opening.join()
    assert sink.got == 1000
    assert report.peak_bytes <= 2 * WINDOW


def test_faults_of_sinks_in_the_graph_with_all_kinds() -> None:
    """The last of its sinks has all that is below the number that the other one refused."""

    class Seeing(Seen):
        def sink(self, name: str, *, ordered: bool = True) -> Any:
            if name == "loose":
                return super().sink(name, ordered=ordered)
            return refuse

    got: list[Any] = []

    def refuse(event: Any) -> None:
        if event == (150, "450"):
            raise OSError("disk full")
        got.append(event)

    reference = observe(lambda seen: branched(seen, range(N), same), runner="inline")
    graph = branched(Seeing(), range(N), same)
    with pytest.raises(ps.SinkError, match="sink 'out' failed on number 150") as caught:
        ps.run(graph, workers=2)
    assert caught.value.seq == 150
    assert got == [event for _, seq, index, event in reference.journal if (seq, index) < (150, 0)]
