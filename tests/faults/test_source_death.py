"""A source process that dies in the middle: the error names it and how many numbers were read; these are released."""

from __future__ import annotations

import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from conftest import Seen, observe
from fault_cases import GRAPHS
from fault_graphs import branched, descendants, die, same, small, until
from marks import slow

N = 500


def struck_source(at: int, how: str) -> Any:
    """Return a source that ends its process at number `at`."""

    def numbers() -> Iterator[int]:
        for n in range(N):
            if n == at:
                time.sleep(0.1)  # some of what it gave before is under way
                die(how)
            yield n

    return numbers


def told(error: Any) -> int:
    """Return how many numbers were read, as the error says."""
    found = re.search(r"all (\d+) numbers read before are released, what it had read beyond is lost", str(error))
    assert found, str(error)
    return int(found[1])


def check_released(make: Any, seen: Seen) -> int:
    """Assert that all numbers which the error speaks of came out, in order, and no others; give how many they are."""
    count = told(seen.error)
    reference = observe(lambda seen: make(seen, range(count), same), runner="inline")
    assert seen.journal == reference.journal
    assert sorted(map(repr, seen.loose)) == sorted(map(repr, reference.loose))
    return count


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize(
    ("how", "ending"),
    [("kill", "was ended by SIGKILL"), slow("segv", "was ended by SIGSEGV"), ("exit", "exited with code 7")],
)
def test_by_its_own_hand(make: Any, how: str, ending: str) -> None:
    seen = observe(lambda seen: make(seen, struck_source(200, how), same), workers=2)
    assert type(seen.error) is sw.WorkerDied
    assert (seen.error.node, seen.error.seq) == ("numbers", None)
    assert f"the process of source 'numbers' {ending}" in str(seen.error)
    assert 0 < check_released(make, seen) <= 200
    assert (seen.report.ended_by, seen.report.worker_deaths) == ("error", 0)


def test_from_outside_while_the_handlers_are_behind(tmp_path: Path) -> None:
    """What is read and has no number yet, because the window is full, counts too."""
    pid = tmp_path / "pid"

    def numbers() -> Iterator[int]:
        pid.write_text(str(os.getpid()))
        yield from itertools.count()

    def slow(n: int) -> int:
        time.sleep(0.001)
        return n

    def kill() -> None:
        until(lambda: pid.exists() and pid.read_text())
        time.sleep(0.3)  # any moment will do
        os.kill(int(pid.read_text()), signal.SIGKILL)

    killing = threading.Thread(target=kill)
    killing.start()
    seen = observe(lambda seen: branched(seen, numbers, slow), workers=2, window_numbers=100)
    killing.join()
    assert type(seen.error) is sw.WorkerDied
    check_released(branched, seen)


def test_one_of_two() -> None:
    """What the other has given is released too, each in its own order."""

    def others() -> Iterator[int]:
        for n in itertools.count(1000):
            time.sleep(0.001)
            yield n

    out: list[int] = []
    graph = sw.Graph()
    both = graph.sequence(graph.source(struck_source(100, "kill"), name="dying"), graph.source(others, name="other"))
    both.map(same, workers=2).sink(out.append)
    with pytest.raises(sw.WorkerDied, match="'dying' was ended by SIGKILL") as caught:
        sw.run(graph)
    first, second = [n for n in out if n < 1000], [n for n in out if n >= 1000]
    assert first == list(range(len(first)))
    assert first
    assert second == list(range(1000, 1000 + len(second)))
    assert caught.value.report.released == len(out) >= told(caught.value)


def test_together_with_the_process_that_starts_workers() -> None:
    """The workers are started again; the source is not, for what it had read is in nobody's hands."""
    out: list[int] = []

    def numbers() -> Iterator[int]:
        for n in itertools.count():
            time.sleep(0.0005)
            yield n

    def kill() -> None:
        until(lambda: len(out) > 50)
        mine = descendants(os.getpid())
        for pid in mine:
            if descendants(pid):
                os.kill(pid, signal.SIGKILL)

    graph = sw.Graph()
    graph.source(numbers, name="numbers").map(same, workers=2).sink(out.append)
    killing = threading.Thread(target=kill)
    killing.start()
    with pytest.raises(sw.WorkerDied, match="'numbers' died with the process that starts workers") as caught:
        sw.run(graph)
    killing.join()
    assert out == list(range(told(caught.value)))


class Reader:
    """A source whose reader raises where it is told to."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.given = 0

    def reader(self, position: object | None, /) -> Reader:
        self._raise("reader")
        return self

    def read(self, limit: int, /) -> list[int] | None:
        if self.given >= 30:
            self._raise("read")
            return None
        self.given += 10
        return list(range(self.given - 10, self.given))

    def position(self) -> object:
        return ("line", self.given)

    def close(self) -> None:
        self._raise("close")

    def _raise(self, where: str) -> None:
        if self.where == where:
            raise PermissionError("not yours")


@pytest.mark.parametrize(("where", "count"), [("reader", 0), ("read", 30), ("close", 30)])
@pytest.mark.parametrize("runner", ["inline", "processes"])
def test_a_reader_that_raises(where: str, count: int, runner: Any) -> None:
    seen = observe(lambda seen: small(seen, Reader(where), same), workers=2, runner=runner)
    assert type(seen.error) is sw.SourceError
    assert f"source 'numbers' failed after {count} events" in str(seen.error)
    assert "PermissionError: not yours" in str(seen.error)
    assert seen.events("out") == list(range(count))
    if where != "reader":
        assert "(position ('line', 30))" in str(seen.error)


def test_a_handler_fails_while_the_source_blocks() -> None:
    """The failed number ends the run; nobody waits for the source."""
    free = threading.Event()

    def numbers() -> Iterator[int]:
        yield from range(20)
        free.wait(60)

    def refuse(n: int) -> int:
        if n == 15:
            raise ValueError(n)
        return n

    began = time.monotonic()
    seen = observe(lambda seen: small(seen, numbers(), refuse), workers=2)
    free.set()
    assert time.monotonic() - began < 6
    assert (type(seen.error), seen.error.seq) == (sw.HandlerError, 15)  # type: ignore[union-attr]
    assert seen.events("out") == list(range(15))
