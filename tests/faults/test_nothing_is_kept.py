"""What was handled and delivered is not alive any more while the next event is waited for, in any process of a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from kept_events import WAIT_S, Counted, TellsWhenIdle, TellsWhenIdleLater, all_are_gone

RUNNERS: list[Any] = [{"runner": "inline"}, {"workers": 1}]
IDS = ["inline", "processes"]


class Gives:
    """Gives one event after the other; each when what came before is delivered, and says what is alive meanwhile."""

    def __init__(self, reads: int = 4) -> None:
        self.delivered = threading.Semaphore(0)
        self.gone: list[bool] = []
        self.reads = reads

    def one_by_one(self) -> Iterator[Counted]:
        for n in range(self.reads):
            yield Counted(n)
            if n:
                assert self.delivered.acquire(timeout=WAIT_S)
                self.gone.append(all_are_gone())

    def deliver(self, event: Any) -> None:
        if event.n:
            self.delivered.release()


@pytest.mark.parametrize("consumed", ["sink", "imap"])
def test_the_caller_keeps_nothing_while_it_waits_for_the_source(consumed: str) -> None:
    """In processes: inline fills a turn from a generator before it handles any of it."""
    gives = Gives()
    if consumed == "sink":
        graph = sw.Graph()
        graph.source(gives.one_by_one()).map(lambda event: event).sink(gives.deliver)
        sw.run(graph, workers=1)
    else:
        for event in sw.imap(lambda event: event, gives.one_by_one(), workers=1):
            gives.deliver(event)
            del event
    assert gives.gone == [True] * 3


class Reads:
    """A source of the caller's with a reader, whose `read` gives one event."""

    in_caller = True

    def __init__(self, gives: Gives) -> None:
        self.events = gives.one_by_one()

    def reader(self, position: object) -> Reads:
        return self

    def read(self, limit: int) -> list[Counted] | None:
        event = list(next(zip(self.events, strict=False), ()))
        return event or None

    def position(self) -> int:
        return 0

    def close(self) -> None:
        pass


@pytest.mark.parametrize("options", RUNNERS, ids=IDS)
def test_nothing_of_a_reader_is_kept(options: Any) -> None:
    gives = Gives()
    graph = sw.Graph()
    graph.source(Reads(gives)).map(lambda event: event).sink(gives.deliver)
    sw.run(graph, **options)
    assert gives.gone == [True] * 3


@pytest.mark.parametrize("handler", [TellsWhenIdle, TellsWhenIdleLater], ids=["plain", "async"])
@pytest.mark.parametrize("options", [{}, {"timeout_s": 60}], ids=["by the batch", "watched"])
def test_a_worker_keeps_nothing_while_it_is_idle(handler: Any, options: Any, tmp_path: Path) -> None:
    path = tmp_path / "told"

    def source() -> Iterator[Counted]:
        yield from map(Counted, range(5))
        deadline = time.monotonic() + WAIT_S + 10
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        yield Counted(5)

    graph = sw.Graph()
    graph.source(source()).map(sw.per_worker(handler, path), **options).sink(lambda event: None)
    sw.run(graph, workers=1)
    assert path.read_text() == "gone: True"
