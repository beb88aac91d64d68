"""Sources that raise, block, die or never end."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from conftest import Seen, assert_same, observe
from fault_cases import GRAPHS
from fault_graphs import die, same, small, until
from fault_handlers import blocked, fail
from marks import slow

N = 1000


def numbers(count: int, end: Callable[[], object]) -> Callable[[], Iterator[int]]:
    """Return a source that gives numbers and then does something."""

    def read() -> Iterator[int]:
        yield from range(count)
        end()

    return read


def async_numbers(count: int, end: Callable[[], object]) -> Callable[[], AsyncIterator[int]]:
    async def read() -> AsyncIterator[int]:
        for n in range(count):
            if n % 100 == 0:
                await asyncio.sleep(0)
            yield n
        end()

    return read


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize(("source", "in_caller"), [(numbers, False), (numbers, True), (async_numbers, False)])
@pytest.mark.parametrize("count", [slow(0), N])
def test_raises(make: Any, source: Any, in_caller: bool, count: int) -> None:
    """Everything read before is released, then the error tells how far it came."""
    def given() -> Any:
        return source(count, fail)() if in_caller else source(count, fail)

    reference = observe(lambda seen: make(seen, given(), same), runner="inline")
    seen = observe(lambda seen: make(seen, given(), same), workers=2)
    assert_same(reference, seen)
    error = seen.error
    assert isinstance(error, sw.SourceError)
    assert isinstance(error.__cause__, ConnectionError)
    assert f"source 'numbers' failed after {count} events" in str(error)
    assert "ConnectionError: the line is dead" in str(error)
    assert seen.report.events_in == count
    assert len(seen.events("loose" if make is not small else "out")) == count


@pytest.mark.parametrize("in_caller", [False, True])
@pytest.mark.parametrize(
    "end",
    [
        lambda: sys.exit(3),
        slow(lambda: throw(KeyboardInterrupt)),
        slow(lambda: throw(GeneratorExit)),
    ],
)
def test_raises_what_is_no_exception(in_caller: bool, end: Any) -> None:
    seen = observe(lambda seen: small(seen, numbers(50, end)() if in_caller else numbers(50, end), same), workers=2)
    assert isinstance(seen.error, sw.SluicewayError)
    assert "source 'numbers'" in str(seen.error)
    assert seen.events("out") == list(range(50))


def throw(error: type[BaseException]) -> None:
    raise error


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("how", ["kill", slow("exit")])
def test_its_process_dies(make: Any, how: str) -> None:
    seen = observe(lambda seen: make(seen, numbers(N, lambda: die(how)), same), workers=2)
    error = seen.error
    assert type(error) is sw.WorkerDied
    assert error.node == "numbers"
    assert "the process of source 'numbers' " in str(error)
    assert ("exited with code 7" if how == "exit" else "was ended by SIGKILL") in str(error)
    out = seen.events("out" if make is small else "loose")
    assert sorted(out) == list(range(seen.report.events_in))


class Unpicklable:
    """A source that cannot be sent anywhere."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def reader(self, position: object) -> Any:
        raise AssertionError


def test_cannot_be_pickled() -> None:
    with pytest.raises(sw.GraphError, match=r"source .* cannot be sent to its process: it captures attribute 'lock'"):
        sw.run(small(Seen(), Unpicklable(), same), workers=2)


def test_events_that_cannot_be_pickled() -> None:
    def read() -> Iterator[Any]:
        yield 1
        yield 2
        yield threading.Lock()

    for source in (read, read()):
        seen = observe(lambda seen, given=source: small(seen, given, same), workers=2)  # type: ignore[misc]
        assert isinstance(seen.error, sw.SourceError)
        assert "_thread.lock cannot be pickled" in str(seen.error)
        assert seen.events("out") == [1, 2]


@pytest.mark.parametrize("in_caller", [False, True])
@pytest.mark.parametrize(
    "way",
["limit", slow("stop"), slow("time_limit_s"), "interrupt"],
)
def test_blocks_for_ever(in_caller: bool, way: str, tmp_path: Path) -> None:
    """The end does not wait for user code that nobody can interrupt."""
    folder = str(tmp_path)

    def read() -> Iterator[int]:
        return blocked(folder)

    stop = threading.Event()
    told = tmp_path / "blocked"
    all_words: dict[str, dict[str, Any]] = {
        "limit": {"limit": 20}, "stop": {"stop": stop}, "time_limit_s": {"time_limit_s": 4.0}, "interrupt": {},
    }  # fmt: skip
    words = all_words[way]
    if way in ("stop", "interrupt"):
        act: Callable[[], object] = stop.set if way == "stop" else lambda: os.kill(os.getpid(), 2)
        threading.Thread(target=lambda: (until(told.exists), act())).start()
    out: list[int] = []
    graph = sw.Graph()
    graph.source(read() if in_caller else read).map(abs, workers=1).sink(out.append)
    began = time.monotonic()
    if way == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            sw.run(graph)
    else:
        assert sw.run(graph, **words).ended_by == way.removesuffix("_s")
    assert out == list(range(20))
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("in_caller", [False, True])
def test_blocks_for_ever_and_is_left(in_caller: bool, tmp_path: Path) -> None:
    folder = str(tmp_path)

    def read() -> Iterator[int]:
        return blocked(folder)

    graph = sw.Graph()
    stream = graph.source(read() if in_caller else read).map(abs, workers=1)
    with sw.iterate(stream) as results:
        assert [next(results) for _ in range(20)] == list(range(20))
        began = time.monotonic()
    assert time.monotonic() - began < 4


@pytest.mark.parametrize("in_caller", [False, True])
def test_yields_faster_than_memory(in_caller: bool) -> None:
    """A flood of large events: the source waits, the memory stays inside the budget."""

    def flood() -> Iterator[bytes]:
        while True:
            yield bytes(200_000)

    graph = sw.Graph()
    taken = []

    def slow(size: int) -> None:
        time.sleep(0.001)
        taken.append(size)

    graph.source(flood() if in_caller else flood).map(lambda event: event).map(len, workers=1).sink(slow)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = sw.run(graph, limit=500, window_bytes=8 << 20)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert taken == [200_000] * 500
    assert report.peak_bytes < (8 << 20) + 20 * 200_000
    assert grown < 50_000  # KiB; the flood is 100 MB


def test_a_source_that_closes_badly() -> None:
    """What its `finally` raises at an early end is of no use to anybody."""

    def read() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            raise ValueError("closing")

    seen = observe(lambda seen: small(seen, read, same), workers=1, limit=50)
    assert seen.error is None
    assert seen.events("out") == list(range(50))


class Counted:
    """Ten lists of ten events, whose reader says how far it is, and nothing once it is closed."""

    def reader(self, position: object) -> Any:
        return CountedReader()


class CountedReader:
    def __init__(self) -> None:
        self.read_so_far = 0
        self.thread: int | None = None
        self.closed = False

    def read(self, limit: int) -> list[int] | None:
        self.thread = threading.get_ident()
        self.read_so_far += 10
        return None if self.read_so_far > 100 else list(range(self.read_so_far - 10, self.read_so_far))

    def progress(self) -> float:
        if self.closed or threading.get_ident() != self.thread:
            raise ValueError("asked after the end, or elsewhere")
        return self.read_so_far / 100

    def position(self) -> int:
        return self.read_so_far

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("options", [{"runner": "inline"}, {"workers": 1}, {"workers": 1, "progress": repr}])
def test_progress_is_asked_where_the_source_is_read(options: dict[str, Any]) -> None:
    out: list[int] = []
    graph = sw.Graph()
    graph.source(Counted()).map(abs).sink(out.append)
    assert sw.run(graph, **options).expected == 100
    assert out == list(range(100))


def test_what_progress_raises_is_the_sources_error() -> None:
    class Broken(CountedReader):
        def progress(self) -> float:
            raise ValueError("no idea")

    class Source(Counted):
        def reader(self, position: object) -> Any:
            return Broken()

    for options in ({"runner": "inline"}, {"workers": 1}):
        with pytest.raises(sw.SourceError, match="ValueError: no idea"):
            list(sw.iterate(sw.Graph().source(Source()), **options))  # type: ignore[arg-type]
