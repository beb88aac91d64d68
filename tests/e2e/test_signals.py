"""How a run ends by a signal: Ctrl-C once and twice, SIGTERM, a caller that is killed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import sluiceway as sw
from each_runner import runner

__all__ = ["runner"]

SLOW = """
import os, signal, sys, time
import sluiceway as sw

def endless():
    n = 0
    while True:
        yield n
        n += 1

def work(n):
    time.sleep(0.001)
    return n

told_by_sink = True
{extra}

def sink(n):
    if n == 20 and told_by_sink:
        print("under way", flush=True)

graph = sw.Graph()
graph.source(endless).map(work, workers=2).sink(sink)
try:
    sw.run(graph{options})
except KeyboardInterrupt:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a test may send one more while the interpreter ends
    print("interrupted", flush=True)
    sys.exit(130)
"""


STUCK = """
told_by_sink = False
def work(n):
    if n == 30:
        print("under way", flush=True)
        time.sleep(600)
    return n
"""


def start(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )


def wait_for_line(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 60)
    assert ready, "the script said nothing"
    assert process.stdout.readline().strip() == text


@pytest.mark.parametrize("options", ["", ", runner='inline'"])
def test_ctrl_c_once_releases_what_is_in_flight(options: str) -> None:
    process = start(SLOW.format(extra="", options=options))
    wait_for_line(process, "under way")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.strip(), err) == (130, "interrupted", "")


def test_ctrl_c_twice_stops_now() -> None:
    process = start(SLOW.format(extra=STUCK, options=", drain_s=600"))
    wait_for_line(process, "under way")
    process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        # The first two are told apart by the run, not by the clock: one more does no harm.
        select.select([], [], [], 0.3)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in out
    assert err.count("Traceback") <= 1


def test_ctrl_c_waits_no_longer_than_the_deadline() -> None:
    process = start(SLOW.format(extra=STUCK, options=", drain_s=0.5"))
    wait_for_line(process, "under way")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out.strip()) == (130, "interrupted")


def test_sigterm_ends_the_run_in_order_and_then_the_process() -> None:
    process = start(SLOW.format(extra="", options=""))
    wait_for_line(process, "under way")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (-signal.SIGTERM, "", "")


def test_a_group_that_gets_the_signal_of_the_terminal_ends_quietly() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW.format(extra="", options="")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for_line(process, "under way")
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.strip(), err) == (130, "interrupted", "")


def test_signal_handlers_are_put_back(runner: Any) -> None:
    seen: list[Any] = []
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    graph = sw.Graph()
    graph.source([1]).sink(lambda n: seen.append(signal.getsignal(signal.SIGTERM)))
    sw.run(graph, runner=runner)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert seen[0] is not signal.SIG_DFL


def test_a_handler_of_the_users_own_is_left_alone(runner: Any) -> None:
    def mine(number: int, frame: Any) -> None:
        pass

    old = signal.signal(signal.SIGTERM, mine)
    try:
        seen: list[Any] = []
        graph = sw.Graph()
        graph.source([1]).sink(lambda n: seen.append(signal.getsignal(signal.SIGTERM)))
        sw.run(graph, runner=runner)
        assert seen == [mine]
    finally:
        signal.signal(signal.SIGTERM, old)


def test_nobody_outlives_a_caller_that_is_killed(short_path: Path) -> None:
    script = SLOW.format(extra="", options="").replace(
        "import sluiceway as sw", f"import tempfile; tempfile.tempdir = {str(short_path)!r}\nimport sluiceway as sw"
    )
    process = start(script)
    wait_for_line(process, "under way")
    assert len(list(short_path.glob("sluiceway-*"))) == 1
    process.kill()
    process.communicate(timeout=60)
    # The check behind every test sees that no child of it is left; its folder goes with the next run.
    again = [sys.executable, "-c", f"import tempfile; tempfile.tempdir = {str(short_path)!r}\nimport sluiceway as sw\n"]
    again[-1] += "print(list(sw.imap(abs, [-1], workers=1)))"
    assert subprocess.run(again, capture_output=True, text=True, timeout=60, check=True).stdout == "[1]\n"
    assert list(short_path.glob("sluiceway-*")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a PID namespace")
def test_sigterm_of_process_1_of_a_container_ends_with_143_and_no_traceback(tmp_path: Path) -> None:
    """The kernel does not end process 1 by a signal that it sends itself."""
    script = tmp_path / "service.py"
    script.write_text(SLOW.format(extra="", options=""))
    namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, str(script)]
    process = subprocess.Popen(namespace, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_line(process, "under way")
    (inner,) = psutil.Process(process.pid).children()
    inner.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (128 + signal.SIGTERM, "", "")
