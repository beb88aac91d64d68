"""A head of the line that does not move: the warning says which number, node and process, and the handler's stack."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from conftest import Seen
from fault_graphs import branched, small, until
from fault_handlers import busy_loop, hold_the_lock, sleep_in_c
from marks import slow


class Ears(logging.Handler):
    """Waits for warnings and sets the stuck free when one has come."""

    def __init__(self, free: Path) -> None:
        super().__init__(logging.WARNING)
        self.free = free
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "nothing has moved" in record.getMessage() and "one is being started" not in record.getMessage():
            self.texts.append(record.getMessage())
            self.free.touch()


@pytest.fixture
def ears(tmp_path: Path) -> Any:
    handler = Ears(tmp_path / "free")
    logger = logging.getLogger("sluiceway")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def stuck_at(number: int, wait: Callable[[str], None], free: Path) -> Callable[[int], int]:
    """Return a handler that is stuck at a number until a file is there."""
    path = str(free)

    def work(n: int) -> int:
        if n == number:
            wait(path)
        return n

    return work


@pytest.mark.parametrize("make", [small, slow(branched)])
@pytest.mark.parametrize("wait", [slow(sleep_in_c), slow(busy_loop), hold_the_lock])
def test_a_stuck_handler(make: Any, wait: Any, ears: Ears, tmp_path: Path) -> None:
    seen = Seen()
    sw.run(make(seen, range(60), stuck_at(40, wait, tmp_path / "free")), workers=2, stall_warning_s=0.4)
    assert len(seen.events("out")) >= 60
    text = ears.texts[0]
    found = re.search(
        r"nothing has moved for (\d+) s: number (\d+) is with worker ([\d.]+) \(process (\d+)\), which is in node"
        r" 'struck' on (number|a batch from number) (\d+)(?: on)?; its stack:",
        text,
    )
    assert found, text
    assert int(found[2]) <= 40
    # A handler that was quick so far is watched by the batch, and its stack shows the rest.
    assert int(found[6]) <= 40
    assert wait.__name__ in text
    assert "in work" in text
    assert "sluiceway/engine" not in text
    assert "executor.py" not in text


def test_an_async_handler_that_waits(ears: Ears, tmp_path: Path) -> None:
    """The loop is not stuck, so there is no stack that would help; the number and the node are named."""
    path = str(tmp_path / "free")

    async def work(n: int) -> int:
        import asyncio

        while n == 40 and not os.path.exists(path):
            await asyncio.sleep(0.02)
        return n

    assert list(sw.imap(work, range(60), workers=1, stall_warning_s=0.4)) == list(range(60))
    assert "number 40 is with worker 0.0.1" in ears.texts[0]
    assert "'work'" in ears.texts[0]


def test_a_slow_sink(ears: Ears) -> None:
    stop = threading.Event()

    def late(n: int) -> None:
        if n == 40:
            until(lambda: ears.texts)
            stop.set()

    graph = sw.Graph()
    graph.source(iter(range(10**9))).map(abs, workers=1).sink(late)
    sw.run(graph, stall_warning_s=0.4, stop=stop)
    assert re.search(r"number \d+ is released and waits for a sink or the consumer in the calling process", ears.texts[0])


def test_a_slow_consumer(ears: Ears) -> None:
    with sw.imap(abs, iter(range(10**9)), workers=1, stall_warning_s=0.4) as results:
        assert next(results) == 0
        until(lambda: ears.texts)
        assert next(results) == 1
    assert "waits for a sink or the consumer" in ears.texts[0]


def test_a_source_that_waits_is_no_stall(ears: Ears) -> None:
    def source() -> Any:
        yield 1
        time.sleep(0.7)
        yield 2

    graph = sw.Graph()
    out: list[int] = []
    graph.source(source).map(abs, workers=1).sink(out.append)
    sw.run(graph, stall_warning_s=0.3)
    assert out == [1, 2]
    assert ears.texts == []


def test_a_run_that_moves_is_not_warned_about(ears: Ears) -> None:
    def work(n: int) -> int:
        time.sleep(0.05)
        return n

    assert list(sw.imap(work, range(16), workers=1, stall_warning_s=0.5)) == list(range(16))
    assert ears.texts == []


def test_the_line_in_the_stack_is_that_of_the_call(ears: Ears, tmp_path: Path) -> None:
    free = str(tmp_path / "free")

    def work(n: int) -> int:
        while n == 0 and not os.path.exists(free):
            time.sleep(0.02)  # it stands here
        return n

    assert list(sw.imap(work, range(20), workers=1, stall_warning_s=0.4)) == list(range(20))
    found = re.search(rf'File "{re.escape(__file__)}", line (\d+) in work', ears.texts[-1])
    assert found, ears.texts
    line = Path(__file__).read_text().splitlines()[int(found[1]) - 1].strip()
    assert line in ("time.sleep(0.02)  # it stands here", "while n == 0 and not os.path.exists(free):")


def test_it_is_told_ever_more_seldom(ears: Ears) -> None:
    """A stall of 1.2 s is told after 0.3 s, after 0.6 s and not again before 1.2 s."""

    def late(n: int) -> None:
        if n == 0:
            time.sleep(1.15)

    graph = sw.Graph()
    graph.source(range(1000)).map(abs, workers=1).sink(late)
    sw.run(graph, stall_warning_s=0.3, window_numbers=50)
    assert 1 <= len([text for text in ears.texts if "is released and waits" in text]) <= 2
