"""The shutdown contract: every way in which a run, or its caller, can end, and what is left then: nothing."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from fault_graphs import Caller, descendants, until
from fault_handlers import BadClose, deaf, hang
from marks import slow

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


# -- Ctrl-C -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_process", [False, True])
def test_ctrl_c_once_releases_what_was_read(in_process: bool, tmp_path: Path) -> None:
    read = tmp_path / "read"

    def numbers() -> Iterator[int]:
        n = 0
        while True:
            with open(read, "a") as file:
                file.write("x")
            yield n
            n += 1

    out: list[int] = []

    def sink(n: int) -> None:
        out.append(n)
        if n == 300:
            os.kill(os.getpid(), signal.SIGINT)

    graph = sw.Graph()
    graph.source(numbers if in_process else numbers()).map(abs, workers=2).sink(sink)
    with pytest.raises(KeyboardInterrupt):
        sw.run(graph)
    assert out == list(range(len(out)))
    # A source process may hold one more event that it had not given away.
    assert 0 <= read.stat().st_size - len(out) <= (64 if in_process else 1)


def hanging_from(number: int, told: Path) -> Callable[[int], int]:
    """Return a handler that hangs at a number, and says so."""
    path = str(told)

    def work(n: int) -> int:
        if n == number:
            Path(path).touch()
            hang(n)
        return n

    return work


def interrupt_when(told: Path, times: int) -> None:
    """Send this process Ctrl-C as soon as a handler hangs."""

    def strike() -> None:
        until(told.exists, 30)
        for at in range(times):
            if at:
                time.sleep(0.2)  # two signals at once are one
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=strike).start()


@pytest.mark.parametrize(("times", "drain_s"), [(1, 0.3), (2, 60)])
def test_ctrl_c_while_a_handler_hangs(times: int, drain_s: float, tmp_path: Path) -> None:
    """Once waits until the deadline, twice does not wait."""
    out: list[int] = []
    graph = sw.Graph()
    graph.source(range(1000)).map(hanging_from(500, tmp_path / "hangs"), workers=2).sink(out.append)
    interrupt_when(tmp_path / "hangs", times)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        sw.run(graph, drain_s=drain_s)
    assert time.monotonic() - began < 8
    assert out == list(range(len(out)))
    assert len(out) <= 500
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_while_iterating() -> None:
    graph = sw.Graph()
    stream = graph.source(range(10**9)).map(abs, workers=2)
    results = sw.iterate(stream)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        for n in results:
            if n == 100:
                os.kill(os.getpid(), signal.SIGINT)
    results.close()


ENDLESS = """
import sys
import sluiceway as sw

def work(n):
    return n

def endless():
    n = 0
    while True:
        yield n
        n += 1

def write(n):
    print(n)

graph = sw.Graph()
graph.source(endless).map(work, workers=2).sink(write)
try:
    sw.run(graph)
except KeyboardInterrupt:
    print("interrupted")
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_a_script(number: int, tmp_path: Path) -> None:
    """SIGTERM ends the process as SIGTERM does, after everything read was released; nobody says a traceback."""
    with Caller(tmp_path, ENDLESS) as caller:
        assert caller.line() == "0"
        children = descendants(caller.process.pid)
        caller.process.send_signal(number)
        status, out, error = caller.end()
        caller.gone(children)
        *lines, last = out.split()
        assert status == (130 if number == signal.SIGINT else -signal.SIGTERM)
        if number == signal.SIGINT:
            assert last == "interrupted"
        else:
            lines.append(last)
        assert [int(line) for line in lines] == list(range(1, len(lines) + 1))
        assert error == ""
        assert caller.folders() == []


# -- the caller is killed -----------------------------------------------------------------------------------------

STUCK = """
import ctypes, os, sys
import sluiceway as sw

def work(n):
    if n % 50 == 49:
        os.write(int(sys.argv[1]), b"stuck\\n")
        ctypes.PyDLL(None).pause()  # in C, with the interpreter's lock held
    return n

def sink(n):
    print(n)

stream = sw.Graph().source(range(10000)).map(work, workers=2)
stream.sink(sink)
sw.run(stream.graph)
"""

BUSY = """
import sys
import sluiceway as sw

def work(n):
    return bytes(n % 50000)

def numbers():
    n = 0
    while True:
        yield n
        n += 1

print("begin")
for _ in sw.imap(work, numbers(), workers=2):
    pass
"""

NEXT = """
import sluiceway as sw
assert list(sw.imap(abs, range(10), workers=1)) == list(range(10))
"""


def test_killed_caller_with_children_stuck_in_c(tmp_path: Path) -> None:
    with Caller(tmp_path, STUCK, 1) as caller:
        while caller.line() != "stuck":
            continue
        children = descendants(caller.process.pid)
        assert len(children) >= 3
        caller.process.kill()
        assert caller.gone(children) < 2
    check_next_run_cleans_up(tmp_path)


@pytest.mark.parametrize("seed", [*map(slow, range(20))])
def test_killed_caller_at_a_random_moment(seed: int, tmp_path: Path) -> None:
    with Caller(tmp_path, BUSY) as caller:
        assert caller.line() == "begin"
        time.sleep(random.Random(seed).uniform(0, 0.6))  # any moment will do
        children = descendants(caller.process.pid)
        caller.process.kill()
        assert caller.gone(children) < 2
    check_next_run_cleans_up(tmp_path)


def check_next_run_cleans_up(folder: Path) -> None:
    """Assert that the files of killed runs are gone when another one has run."""
    shared = [path for path in Path("/dev/shm").glob("sluiceway-*") if (folder / path.name).exists()]
    with Caller(folder, NEXT) as caller:
        status, _, error = caller.end()
        assert (status, error) == (0, "")
        assert caller.folders() == []
    assert [path for path in shared if path.exists()] == []


# -- close() of handlers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["raise", slow("exit"), "interrupt"])
def test_close_that_raises_is_logged(how: str, caplog: pytest.LogCaptureFixture) -> None:
    graph = sw.Graph()
    out: list[int] = []
    graph.source(range(50)).map(sw.per_worker(BadClose, how), workers=1).sink(out.append)
    with caplog.at_level(logging.WARNING):
        report = sw.run(graph)
    assert out == list(range(50))
    assert report.ended_by == "source"
    assert "the close() of a handler raised in worker 0.0.1" in caplog.text


@pytest.mark.parametrize(("how", "took"), [("", "stopped"), ("hang", "terminated"), ("deaf", "killed")])
def test_the_ladder_says_what_it_took(how: str, took: str) -> None:
    graph = sw.Graph()
    graph.source(range(50)).map(sw.per_worker(BadClose, how), workers=1).sink(lambda n: None)
    report = sw.run(graph, close_s=0.3)
    assert report.children == {"0.0.1": took}


# -- a caller that never finishes ---------------------------------------------------------------------------------


def begin() -> sw.Results[int]:
    results = sw.imap(abs, iter(range(10**9)), workers=2)
    assert next(results) == 0
    return results


def test_close() -> None:
    results = begin()
    results.close()
    assert results.report.ended_by == "closed"
    assert set(results.report.children.values()) <= {"stopped", "terminated", "killed"}
    assert list(results) == []


def test_del() -> None:
    results = begin()
    children = descendants(os.getpid())
    assert children
    del results
    gc.collect()
    sw.shutdown()
    assert not children & descendants(os.getpid())


def test_garbage_cycle() -> None:
    box: list[Any] = [begin()]
    box.append(box)
    children = descendants(os.getpid())
    del box
    gc.collect()
    sw.shutdown()
    assert not children & descendants(os.getpid())


def test_with_and_an_exception() -> None:
    def divide() -> None:
        with sw.imap(abs, iter(range(10**9)), workers=2) as results:
            for n in results:
                1 // (100 - n)

    with pytest.raises(ZeroDivisionError):
        divide()


def test_never_begun() -> None:
    results = sw.imap(abs, range(10), workers=2)
    del results
    gc.collect()


def test_left_while_a_handler_hangs(tmp_path: Path) -> None:
    told = tmp_path / "hangs"
    path = str(told)

    def work(n: int) -> int:
        if n == 500:
            Path(path).touch()
            deaf(n)
        return n

    results = sw.imap(work, range(1000), workers=2)
    assert next(results) == 0
    until(told.exists)
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < 4
    assert "killed" in results.report.children.values()


OPEN = """
import sluiceway as sw
def numbers():
    n = 0
    while True:
        yield n
        n += 1
{body}
"""
BODIES = {
    "module": "results = sw.imap(abs, numbers(), workers=2)\nprint(next(results))",
    "cycle": "box = [sw.imap(abs, numbers(), workers=2)]\nbox.append(box)\nprint(next(box[0]))",
    "exit": "import sys\nresults = sw.imap(abs, numbers(), workers=2)\nprint(next(results))\nsys.exit(5)",
    "atexit": (
        "import atexit\ndef late():\n    global results\n    results = sw.imap(abs, numbers(), workers=2)\n"
        "    print(next(results))\natexit.register(late)"
    ),
    "thread": (
        "import threading\ndef go():\n    for n in sw.imap(abs, numbers(), workers=2):\n        if n == 5:\n"
        "            print(0)\n            up.set()\nup = threading.Event()\n"
        "threading.Thread(target=go, daemon=True).start()\nup.wait()"
    ),
    "generator": (
        "def outer():\n    with sw.imap(abs, numbers(), workers=2) as results:\n        yield from results\n"
        "keep = outer()\nprint(next(keep))"
    ),
}


@pytest.mark.parametrize("body", ["module", "exit", "thread", slow("atexit"), slow("cycle"), slow("generator")])
def test_interpreter_exit_with_an_open_iterator(body: str, tmp_path: Path) -> None:
    with Caller(tmp_path, OPEN.format(body=BODIES[body])) as caller:
        assert caller.line() == "0"
        children = descendants(caller.process.pid)
        began = time.monotonic()
        status, _, error = caller.end(10)
        assert time.monotonic() - began < 6
        assert (status, error) == (5 if body == "exit" else 0, "")
        caller.gone(children)
        if body != "atexit":  # too late to take the files away: the next run does
            assert caller.folders() == []
    if body in ("atexit", "thread"):
        check_next_run_cleans_up(tmp_path)


def test_threads_may_run_and_end_runs_side_by_side() -> None:
    errors: list[BaseException] = []

    def go(leave: bool) -> None:
        try:
            with sw.imap(abs, iter(range(3000)), workers=1) as results:
                for n, m in enumerate(results):
                    assert n == m
                    if leave and n == 100:
                        return
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=go, args=(at % 2 == 0,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
