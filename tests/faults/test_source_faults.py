"""Sources that die, raise, block for ever or give without end: everything read is released, and nothing hangs."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import penstock as ps
import pytest
from conftest import observe
from fault_graphs import GRAPHS, branched, die, same, small, until

N = 500


def struck_source(at: int, how: str) -> Any:
    """Give a source that ends its process at number `at`."""

    def numbers() -> Iterator[int]:
        for n in range(N):
            if n == at:
                time.sleep(0.2)  # what it gave before is under way, so that all of it is known
                die(how)
            yield n

    return numbers


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize(
    ("how", "told"), [("kill", "was ended by SIGKILL"), ("segv", "was ended by SIGSEGV"), ("exit", "exited with code 7")]
)
def test_a_source_process_that_dies(make: Any, how: str, told: str) -> None:
    """What was read is released, in order, as if the source had ended there."""
    seen = observe(lambda seen: make(seen, struck_source(200, how), same), workers=2)
    assert type(seen.error) is ps.WorkerDied
    assert (seen.error.node, seen.error.seq) == ("numbers", None)
    assert f"the process of source 'numbers' {told}" in str(seen.error)
    count = len({seq for _, seq, _, _ in seen.journal})
    assert f"all {count} numbers read before are released, what it had read beyond is lost" in str(seen.error)
    assert 0 < count <= 200
    reference = observe(lambda seen: make(seen, range(count), same), runner="inline")
    assert seen.journal == reference.journal
    assert sorted(map(repr, seen.loose)) == sorted(map(repr, reference.loose))
    assert (seen.report.ended_by, seen.report.worker_deaths) == ("error", 0)


def test_killed_from_outside(tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    def numbers() -> Iterator[int]:
        pid.write_text(str(os.getpid()))
        for n in itertools.count():
            time.sleep(0.0005)
            yield n

    def kill() -> None:
        until(lambda: pid.exists() and pid.read_text())
        time.sleep(0.3)  # any moment will do
        os.kill(int(pid.read_text()), signal.SIGKILL)

    killing = threading.Thread(target=kill)
    killing.start()
    seen = observe(lambda seen: branched(seen, numbers, same), workers=2)
    killing.join()
    assert type(seen.error) is ps.WorkerDied
    count = int(re.findall(r"all (\d+) numbers", str(seen.error))[0])
    assert sorted({seq for _, seq, _, _ in seen.journal}) == list(range(count))


def test_one_of_two_that_dies() -> None:
    """What the other has given is released too."""

    def others() -> Iterator[int]:
        for n in itertools.count(1000):
            time.sleep(0.001)
            yield n

    out: list[int] = []
    graph = ps.Graph()
    both = graph.sequence(graph.source(struck_source(100, "kill"), name="dying"), graph.source(others, name="other"))
    both.map(same, workers=2).sink(out.append)
    with pytest.raises(ps.WorkerDied, match="the process of source 'dying' was ended by SIGKILL") as caught:
        ps.run(graph)
    first, second = [n for n in out if n < 1000], [n for n in out if n >= 1000]
    assert first == list(range(len(first)))
    assert second == list(range(1000, 1000 + len(second)))
    assert len(first) > 0
    assert caught.value.report.released == len(out)


def raising(at: int) -> Any:
    def numbers() -> Iterator[int]:
        for n in range(N):
            if n == at:
                raise OSError("unplugged")
            yield n

    return numbers


def raising_async(at: int) -> Any:
    async def numbers() -> AsyncIterator[int]:
        for n in range(N):
            await asyncio.sleep(0)
            if n == at:
                raise OSError("unplugged")
            yield n

    return numbers


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("form", ["process", "async", "iterator"])
@pytest.mark.parametrize("at", [0, N - 1])
def test_raised_at_the_first_and_the_last_event(make: Any, form: str, at: int) -> None:
    source = {"process": raising(at), "async": raising_async(at), "iterator": raising(at)()}[form]
    seen = observe(lambda seen: make(seen, source, same), workers=2)
    reference = observe(lambda seen: make(seen, range(at), same), runner="inline")
    assert type(seen.error) is ps.SourceError
    assert f"source 'numbers' failed after {at} events (position {at}): OSError: unplugged" in str(seen.error)
    assert (seen.error.node, str(seen.error.__cause__)) == ("numbers", "unplugged")
    assert seen.journal == reference.journal


def test_sys_exit_in_a_source() -> None:
    def numbers() -> Iterator[int]:
        yield from range(20)
        raise SystemExit(3)

    for source in (numbers, numbers()):
        seen = observe(lambda seen, source=source: small(seen, source, same), workers=2)
        assert type(seen.error) is ps.SourceError
        assert "SystemExit: 3" in str(seen.error)
        assert seen.events("out") == list(range(20))


# -- blocked for ever ---------------------------------------------------------------------------------------------


class Blocked:
    """Sources that give twenty numbers and then nothing more, without ending."""

    def __init__(self) -> None:
        self.free = threading.Event()

    def iterator(self) -> Iterator[int]:
        yield from range(20)
        self.free.wait(60)

    @staticmethod
    def process() -> Iterator[int]:
        yield from range(20)
        while True:
            time.sleep(60)

    @staticmethod
    async def coroutine() -> AsyncIterator[int]:
        for n in range(20):
            yield n
        while True:
            await asyncio.sleep(60)


@pytest.fixture(params=["process", "coroutine", "iterator"])
def blocked(request: pytest.FixtureRequest) -> Iterator[Any]:
    source = Blocked()
    given = getattr(source, request.param)
    yield given() if request.param == "iterator" else given
    source.free.set()


@pytest.mark.parametrize("make", GRAPHS)
def test_stopped_while_the_source_blocks(make: Any, blocked: Any) -> None:
    stop = threading.Event()
    waiting = threading.Timer(1.5, stop.set)
    waiting.start()
    began = time.monotonic()
    seen = observe(lambda seen: make(seen, blocked, same), workers=2, stop=stop)
    waiting.join()
    assert time.monotonic() - began < 6
    reference = observe(lambda seen: make(seen, range(20), same), runner="inline")
    assert (seen.error, seen.report.ended_by) == (None, "stop")
    assert seen.journal == reference.journal


def test_left_while_the_source_blocks(blocked: Any) -> None:
    graph = ps.Graph()
    stream = graph.source(blocked).map(same, workers=2)
    with ps.iterate(stream) as results:
        assert list(itertools.islice(results, 20)) == list(range(20))
        began = time.monotonic()
    assert time.monotonic() - began < 3
    assert results.report.ended_by == "closed"


def test_a_time_limit_while_the_source_blocks(blocked: Any) -> None:
    seen = observe(lambda seen: small(seen, blocked, same), workers=2, time_limit_s=1.5)
    assert (seen.error, seen.report.ended_by) == (None, "time_limit")
    assert seen.events("out") == list(range(20))


def test_a_handler_fails_while_the_source_blocks(blocked: Any) -> None:
    def refuse(n: int) -> int:
        if n == 15:
            raise ValueError(n)
        return n

    began = time.monotonic()
    seen = observe(lambda seen: small(seen, blocked, refuse), workers=2)
    assert time.monotonic() - began < 6
    assert (type(seen.error), seen.error.seq) == (ps.HandlerError, 15)
    assert seen.events("out") == list(range(15))


# -- faster than memory -------------------------------------------------------------------------------------------

WINDOW = 4 << 20
SIZE = 100_000


@pytest.mark.parametrize("form", ["process", "coroutine", "iterator"])
def test_a_source_that_gives_faster_than_anyone_takes(form: str, tmp_path: Path) -> None:
    """The source waits as soon as the window is full."""
    read = str(tmp_path / "read")

    def numbers() -> Iterator[bytes]:
        for n in itertools.count():
            with open(read, "a") as file:
                file.write("x")
            yield n.to_bytes(8, "big") * (SIZE // 8)

    async def coroutine() -> AsyncIterator[bytes]:
        for event in numbers():
            yield event

    graph = ps.Graph()
    source: Any = {"process": numbers, "coroutine": coroutine, "iterator": numbers()}[form]
    handled = tmp_path / "handled"
    handled.touch()

    def slow(event: bytes) -> int:
        time.sleep(0.01)
        with handled.open("a") as file:
            file.write("x")
        return len(event)

    stream = graph.source(source).map(slow, workers=1)
    with ps.iterate(stream, window_bytes=WINDOW) as results:
        for length in itertools.islice(results, 80):
            assert length == SIZE
            # The window, a chunk above it, and 1 MiB read ahead.
            known = handled.stat().st_size
            assert (os.path.getsize(read) - known) * SIZE <= 2 * WINDOW + (1 << 20)
    assert results.report.peak_bytes <= 2 * WINDOW


# -- refused ------------------------------------------------------------------------------------------------------


def test_a_source_that_cannot_be_sent_is_refused() -> None:
    lock = threading.Lock()

    def numbers() -> Iterator[int]:
        with lock:
            yield 1

    graph = ps.Graph()
    graph.source(numbers, name="locked").map(same).sink(lambda n: None)
    with pytest.raises(ps.GraphError, match=r"'locked'.*lock"):
        ps.run(graph, workers=1)


class Reader:
    """A source whose reader cannot be opened, or raises in the middle."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.given = 0

    def reader(self, position: object | None, /) -> Reader:
        if self.where == "reader":
            raise PermissionError("not yours")
        return self

    def read(self, limit: int, /) -> list[int] | None:
        if self.given >= 30:
            if self.where == "read":
                raise PermissionError("not yours")
            return None
        self.given += 10
        return list(range(self.given - 10, self.given))

    def position(self) -> object:
        return ("line", self.given)

    def close(self) -> None:
        if self.where == "close":
            raise PermissionError("not yours")


@pytest.mark.parametrize(("where", "count"), [("reader", 0), ("read", 30), ("close", 30)])
def test_a_reader_that_raises(where: str, count: int) -> None:
    seen = observe(lambda seen: small(seen, Reader(where), same), workers=2)
    reference = observe(lambda seen: small(seen, Reader(where), same), runner="inline")
    assert type(seen.error) is type(reference.error) is ps.SourceError
    assert "PermissionError: not yours" in str(seen.error)
    assert seen.events("out") == reference.events("out") == list(range(count))
    if where == "read":
        assert "position ('line', 30)" in str(seen.error)
