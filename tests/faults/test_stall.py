"""The stall watchdog: what the warning says when nothing moves, wherever it is that nothing moves."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import penstock as ps
import pytest
from conftest import assert_same, observe
from fault_graphs import GRAPHS, branched, same, small, until

AFTER_S = 0.2
AT = 40
_WORDS = re.compile(
    r"^(?P<graph>\w+): nothing has moved for (?P<s>\d+) s: number (?P<number>\d+) is with worker (?P<worker>\S+)"
    r" \(process (?P<pid>\d+)\), which is in node '(?P<node>\w+)' on number (?P<on>\d+); its stack:\n(?P<stack>.*)$",
    re.DOTALL,
)


class Gate:
    """A way to hold a handler up until the test lets it go; tells which process stands there."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "closed")
        Path(self.path).touch()

    def is_closed(self) -> bool:
        return os.path.exists(self.path)

    def stand(self) -> None:
        Path(f"{self.path}-{os.getpid()}").touch()

    def open(self) -> None:
        os.unlink(self.path)

    @property
    def standing(self) -> set[int]:
        return {int(path.name.split("-")[1]) for path in Path(self.path).parent.glob("closed-*")}


def asleep(gate: Gate) -> Any:
    def wait(n: int) -> int:
        while n == AT and gate.is_closed():
            gate.stand()
            time.sleep(0.02)  # the line of the sleep
        return n

    return wait


def in_a_loop(gate: Gate) -> Any:
    def spin(n: int) -> int:
        if n == AT:
            gate.stand()
            while os.path.exists(gate.path):
                continue
        return n

    return spin


def in_c(gate: Gate) -> Any:
    def hold(n: int) -> int:
        """Hold the interpreter's lock nearly all of the time."""
        library = ctypes.PyDLL(None)
        if n == AT:
            gate.stand()
            while gate.is_closed():
                library.usleep(50_000)
        return n

    return hold


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Give the warnings of a stall so far."""
    return [record.getMessage() for record in list(caplog.records) if "nothing has moved" in record.getMessage()]


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def run_until_told(caplog: pytest.LogCaptureFixture, gate: Gate, make: Any, handler: Any, **words: Any) -> str:
    """Run a graph that stalls, let it go when it is told, and give what was told first."""

    def let_go() -> None:
        try:
            until(lambda: said(caplog), 20)
        finally:
            gate.open()

    letting = threading.Thread(target=let_go)
    reference = observe(lambda seen: make(seen, range(300), same), runner="inline")
    with caplog.at_level(logging.WARNING, logger="penstock"):
        letting.start()
        seen = observe(lambda seen: make(seen, range(300), handler), workers=2, stall_warning_s=AFTER_S, **words)
        letting.join()
    assert_same(reference, seen)
    assert seen.report.worker_deaths == 0  # to look at a stack does no harm
    return said(caplog)[0]


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize(("way", "line"), [(asleep, "in wait"), (in_a_loop, "in spin"), (in_c, "in hold")])
def test_a_handler_that_does_not_come_back(
    make: Any, way: Any, line: str, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    told = _WORDS.match(run_until_told(caplog, gate, make, way(gate)))
    assert told is not None, said(caplog)
    assert told["graph"] == ("small" if make is small else "branched")
    assert (int(told["number"]), told["node"]) == (AT, "struck")
    assert {int(told["pid"])} <= gate.standing
    assert f'File "{__file__}", line ' in told["stack"]
    assert line in told["stack"]
    assert os.path.join("penstock", "engine") not in told["stack"]
    assert "File \"<string>\"" not in told["stack"]


def test_the_line_in_the_stack_is_that_of_the_call(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    told = run_until_told(caplog, gate, small, asleep(gate))
    text = Path(__file__).read_text().splitlines()
    lines = [text[int(number) - 1].strip() for number in re.findall(r"line (\d+) in wait", told)]
    assert lines
    assert set(lines) <= {
        "time.sleep(0.02)  # the line of the sleep",
        "while n == AT and gate.is_closed():",
        "gate.stand()",
    }


def test_an_awaited_handler_is_named(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """The process and the number are told; where a coroutine stands is not on the stack of its process."""

    async def wait(n: int) -> int:
        import asyncio

        while n == AT and gate.is_closed():
            gate.stand()
            await asyncio.sleep(0.02)
        return n

    told = run_until_told(caplog, gate, branched, wait)
    assert f"number {AT} is with worker 1." in told
    assert any(f"(process {pid})" in told for pid in gate.standing)


def test_it_is_told_ever_more_seldom(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    def let_go() -> None:
        try:
            until(lambda: len(said(caplog)) >= 2, 20)
        finally:
            gate.open()

    letting = threading.Thread(target=let_go)
    letting.start()
    began = time.monotonic()
    list(ps.imap(asleep(gate), range(100), workers=2, stall_warning_s=0.5))
    took = time.monotonic() - began
    letting.join()
    assert took >= 1.0
    assert len(said(caplog)) == 2
    assert "for 0 s" in said(caplog)[0] or "for 1 s" in said(caplog)[0]


def test_a_slow_sink_is_named(caplog: pytest.LogCaptureFixture) -> None:
    def sink(n: int) -> None:
        if n == AT:
            until(lambda: said(caplog), 20)

    graph = ps.Graph("slow")
    graph.source(range(100)).map(same, workers=2).sink(sink)
    ps.run(graph, stall_warning_s=AFTER_S)
    assert re.fullmatch(
        r"slow: nothing has moved for \d s: number \d+ is released and waits for a sink or the consumer in the"
        r" calling process",
        said(caplog)[0],
    )


def test_a_slow_consumer_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with ps.imap(same, range(100), workers=2, stall_warning_s=AFTER_S) as results:
        for n in results:
            if n == AT:
                until(lambda: said(caplog), 20)
    assert "waits for a sink or the consumer in the calling process" in said(caplog)[0]


def test_a_silent_source_is_no_stall(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is unreleased: there is nothing to warn of."""

    def numbers() -> Any:
        yield 1
        time.sleep(4 * AFTER_S)
        yield 2

    assert list(ps.imap(same, numbers(), workers=1, stall_warning_s=AFTER_S)) == [1, 2]
    assert said(caplog) == []


def test_a_run_that_moves_slowly_is_no_stall(caplog: pytest.LogCaptureFixture) -> None:
    def steady(n: int) -> int:
        time.sleep(0.05)
        return n

    assert list(ps.imap(steady, range(20), workers=1, stall_warning_s=0.6)) == list(range(20))
    assert said(caplog) == []
