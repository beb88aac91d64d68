"""Results that die or are left in odd places: in a thread of the engine, in a fork, by Ctrl-C again and again."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from fault_graphs import descendants, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def endless() -> Any:
    n = 0
    while True:
        yield n
        n += 1


# -- in a thread of the engine ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [{"workers": 1}, {}, {"runner": "inline"}])
def test_a_cycle_of_garbage_is_found_in_any_thread(words: dict[str, Any]) -> None:
    """The collector works in the hub's thread as well: what it calls there must not wait for that thread."""
    results = sw.imap(abs, endless(), **words)
    next(results)
    children = descendants(os.getpid())
    run = results._lists.run
    box: list[Any] = [results]
    box.append(box)
    hub = getattr(run, "_hub", None)
    del results
    gc.disable()
    try:
        del box
        if hub is not None:
            hub._command(gc.collect)
            until(lambda: run._finished)
        else:
            gc.collect()
    finally:
        gc.enable()
    sw.shutdown()
    until(lambda: not children & descendants(os.getpid()))
    assert run.report().ended_by == "closed"


# -- in a fork ----------------------------------------------------------------------------------------------------

FORK = """
import os, sys
import sluiceway as sw

def work(n):
    return n

def fork(act):
    sys.stdout.flush()
    if (child := os.fork()) == 0:
        act()
        sys.exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def read():
    try:
        list(results)
    except sw.SluicewayError as error:
        assert "of which it is a fork" in str(error), error
    else:
        raise AssertionError("no error")

def let_go():
    global results
    del results

class Sink:
    def write(self, batch):
        with open(sys.argv[1], "a") as file:
            file.writelines(f"{n}\\n" for n in batch)
    def commit(self, n): return None
    def close(self): print("closed", flush=True)
    def abort(self): print("aborted", flush=True)

words = {words}
results = sw.imap(work, range(3000), **words)
assert next(results) == 0
for act in (read, let_go, lambda: results.close(), lambda: None):
    assert fork(act) == 7
assert list(results) == list(range(1, 3000))

def sink(n):
    if n == 100:
        assert fork(lambda: None) == 7
    Sink().write([n])

stream = sw.Graph().source(range(300)).map(work)
stream.sink(Sink())
stream.sink(sink)
report = sw.run(stream.graph, **words)
assert report.ended_by == "source", report
print("done", flush=True)
"""


@pytest.mark.parametrize("words", [{"workers": 1}, {}, {"runner": "inline"}])
def test_a_fork_leaves_the_run_alone(words: dict[str, Any], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(FORK.replace("{words}", repr(words)))
    command = [sys.executable, str(script), str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "closed\ndone\n", "")


RETURNS = """
import os, sys
import sluiceway as sw

def note(word):
    with open(sys.argv[2], "a") as file:
        file.write(word)

class Sink:
    def write(self, batch):
        note("".join(f"{n}\\n" for n in batch))
        if batch[-1] >= 100 and not os.path.exists(sys.argv[1]):
            open(sys.argv[1], "x").close()
            if child := os.fork():
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    def close(self): print("closed", flush=True)
    def abort(self): print("aborted", flush=True)

graph = sw.Graph("returns")
graph.source(range(3000)).map(lambda n: n).sink(Sink())
try:
    report = sw.run(graph, **{words})
except sw.SluicewayError as error:
    assert "'returns' was to go on in a fork of process" in str(error), error
    sys.exit(7)
assert report.ended_by == "source", report
"""


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("words", [{"workers": 1}, {}, {"runner": "inline"}])
def test_a_fork_that_returns_into_the_run_is_refused(words: dict[str, Any], kept: bool, tmp_path: Path) -> None:
    """It neither waits for what its parent gets nor delivers the same events again."""
    script = tmp_path / "script.py"
    words = words | ({"checkpoint": str(tmp_path / "store")} if kept else {})
    script.write_text(RETURNS.replace("{words}", repr(words)))
    command = [sys.executable, str(script), str(tmp_path / "forked"), str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "closed\n", "")
    assert (tmp_path / "out").read_text() == "".join(f"{n}\n" for n in range(3000))


# -- Ctrl-C -------------------------------------------------------------------------------------------------------

CTRL_C = """
import pathlib, sys, time
import sluiceway as sw

def work(n):
    if n == 5:
        pathlib.Path(sys.argv[1]).touch()
        time.sleep(1000)
    return n

results = sw.imap(work, range(100), **{words})
try:
    for n in results:
        print(n, flush=True)
except KeyboardInterrupt:
    del results
    print("interrupted", flush=True)
    sys.exit(130)
"""


@pytest.mark.parametrize("pauses", [(0.0, 0.0, 0.0), (0.01, 0.002, 0.03), (0.1, 0.2, 0.05)])
def test_ctrl_c_again_and_again_while_iterating(pauses: tuple[float, ...], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(CTRL_C.replace("{words}", repr({"workers": 1})))
    told = tmp_path / "hangs"
    command = [sys.executable, str(script), str(told)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as caller:
        until(told.exists, 30)
        children = descendants(caller.pid)
        caller.send_signal(signal.SIGINT)
        for pause in pauses:
            try:
                caller.wait(pause)
            except subprocess.TimeoutExpired:
                caller.send_signal(signal.SIGINT)
        caller.communicate(timeout=30)
    until(lambda: not any(os.path.exists(f"/proc/{child}") for child in children))
