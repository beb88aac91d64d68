"""What a run serves while it goes on: metrics, health, readiness; and that nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from page_visits import Visit, until
from sluiceway.engine.page.assets import ASSETS

RUNNERS = [{"runner": "inline"}, {"workers": 2}, {}]


def held(gate: threading.Event, upto: int = 1000) -> Any:
    """Return a source that gives half of its events, and the rest when the gate is open."""

    def events() -> Any:
        yield from range(upto // 2)
        gate.wait(60)
        yield from range(upto // 2, upto)

    return events()


def in_thread(call: Any) -> tuple[threading.Thread, list[Any]]:
    ended: list[Any] = []

    def work() -> None:
        try:
            ended.append(call())
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, ended


def odd_fails(event: int) -> int:
    if event % 100 == 7:
        raise ValueError(f"no {event}")
    return event


@pytest.mark.parametrize("options", RUNNERS)
def test_metrics_are_those_of_the_report(options: Any) -> None:
    gate, visit = threading.Event(), Visit(linger_s=60.0)
    graph = sw.Graph("metrics of a run")
    graph.source(held(gate)).map(odd_fails, name="odd", on_error="dead_letter").sink(lambda event: None)
    graph.dead_letters().sink(lambda letter: None)
    last: dict[tuple[str, str], float] = {}

    def leave(report: sw.RunReport) -> None:
        if report.ended_by:
            threading.Thread(target=see_the_last, daemon=True).start()

    def see_the_last() -> None:
        until(lambda: visit.verdict()[1]["why"] == "the run has ended by source")
        last.update(visit.metrics())
        os.kill(os.getpid(), signal.SIGINT)  # ends the time that the page stays

    def look() -> None:
        assert visit.opened.wait(60)
        until(lambda: visit.metrics().get(("sluiceway_events_out_total", ""), 0) > 0)
        until(lambda: visit.verdict("ready")[0] == 200)
        seen.append(visit.metrics())
        gate.set()

    seen: list[dict[tuple[str, str], float]] = []
    watcher = threading.Thread(target=look)
    watcher.start()
    report = sw.run(graph, serve=visit.page, progress=leave, **options)
    watcher.join()
    assert 0 < seen[0]["sluiceway_events_read_total", ""] <= 500
    assert last["sluiceway_events_read_total", ""] == report.events_in == 1000
    assert last["sluiceway_events_out_total", ""] == report.events_out == 990
    assert last["sluiceway_dead_letters_total", ""] == report.dead_letters == 10
    assert last["sluiceway_node_events_in_total", "odd"] == report.nodes["odd"].events_in
    assert last["sluiceway_healthy", ""] == last["sluiceway_ready", ""] == last["sluiceway_in_flight_numbers", ""] == 0
    assert visit.is_gone()


def test_metrics_are_clean_in_both_forms() -> None:
    gate, visit = threading.Event(), Visit()
    graph = sw.Graph('a "name" with a \\ in it')
    graph.source(held(gate)).map(str, name='node "1"').sink(lambda event: None)
    thread, ended = in_thread(lambda: sw.run(graph, workers=1, serve=visit.page))
    assert visit.opened.wait(60)
    until(lambda: ("sluiceway_node_events_in_total", 'node "1"') in visit.metrics())
    for name, _ in visit.metrics():
        assert name.startswith("sluiceway_")
    _, headers, text = visit.get("metrics", accept="application/openmetrics-text; version=1.0.0")
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict

    assert len(list(strict(text))) > 20
    gate.set()
    thread.join()
    assert ended[0].events_out == 1000


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals that stop a process")
def test_a_stopped_worker_turns_the_health_to_503_and_back(tmp_path: Path) -> None:
    visit, stop = Visit(), threading.Event()

    def pids(event: int) -> int:
        time.sleep(0.002)
        return os.getpid()

    seen: set[int] = set()
    graph = sw.Graph("stopped")
    graph.source(iter(int, 1)).map(pids, name="pids").sink(seen.add)
    thread, ended = in_thread(lambda: sw.run(graph, workers=2, serve=visit.page, stall_warning_s=1.0, stop=stop))
    assert visit.opened.wait(60)
    until(lambda: len(seen) == 2 and visit.verdict()[0] == 200)
    victim = min(seen)
    os.kill(victim, signal.SIGSTOP)
    try:
        until(lambda: visit.verdict()[0] == 503)
        status, said = visit.verdict("ready")
        assert status == 503
        assert "has not moved for" in said["why"]
        assert visit.metrics()["sluiceway_head_wait_seconds", ""] >= 1
    finally:
        os.kill(victim, signal.SIGCONT)
    until(lambda: visit.verdict()[0] == 200)
    stop.set()
    thread.join()
    assert ended[0].ended_by == "stop"
    assert visit.is_gone()


def test_a_run_that_waits_for_its_workers_is_not_ready(tmp_path: Path) -> None:
    visit, ready = Visit(), tmp_path / "ready"

    class Slow(sw.Handler[int, int]):
        def __init__(self) -> None:
            while not ready.exists():
                time.sleep(0.01)

        def __call__(self, event: int) -> int:
            return event

    gate = threading.Event()
    graph = sw.Graph("slow start")
    graph.source(held(gate)).map(Slow).sink(lambda event: None)
    thread, ended = in_thread(lambda: sw.run(graph, workers=1, serve=visit.page))
    assert visit.opened.wait(60)
    until(lambda: visit.metrics()["sluiceway_workers", ""] == 1)
    assert visit.verdict("health")[0] == 200
    assert visit.verdict("ready")[0] == 503
    ready.touch()
    until(lambda: visit.verdict("ready")[0] == 200)
    gate.set()
    thread.join()
    assert ended[0].events_out == 1000


@pytest.mark.parametrize("options", RUNNERS)
def test_a_failed_run_leaves_neither_thread_nor_port(options: Any) -> None:
    visit = Visit()
    graph = sw.Graph("fails")
    graph.source(range(1000)).map(odd_fails).sink(lambda event: None)
    with pytest.raises(sw.HandlerError):
        sw.run(graph, serve=visit.page, **options)
    assert visit.is_gone()
    assert [thread.name for thread in threading.enumerate() if "page" in thread.name] == []


def test_results_that_are_left_early_end_the_page() -> None:
    visit = Visit()
    with sw.imap(str, iter(int, 1), workers=1, serve=visit.page) as results:
        assert next(results) == "0"
        assert visit.verdict()[0] == 200
    assert visit.is_gone()


def test_a_taken_port_is_refused_before_anything_starts() -> None:
    opened: list[int] = []
    graph = sw.Graph("taken")
    graph.source(range(10)).map(str).sink(opened.append)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(sw.GraphError, match=f"cannot be served at 127.0.0.1:{port}: Address already in use"):
            sw.run(graph, workers=1, serve=port)
    assert opened == []
    assert sw.run(graph, workers=1, serve=port).events_out == 10


def test_a_refused_run_gives_its_port_back(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    graph = sw.Graph("refused")
    graph.source(sw.lines(tmp_path / "missing.txt")).sink(lambda event: None)
    for _ in range(2):
        with pytest.raises(sw.SluicewayError, match=r"missing\.txt"):
            sw.run(graph, workers=1, serve=port)


def test_a_run_goes_on_where_its_watcher_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(url: str) -> None:
        raise RuntimeError("cannot watch")

    for _ in range(2):  # nor does it keep its lock
        graph = sw.Graph("watched")
        graph.source(range(10)).map(str).sink(lambda event: None)
        lock = sw.file_lock(tmp_path / "lock")
        report = sw.run(graph, workers=1, serve=sw.page(opened=fail), lock=lock, checkpoint=tmp_path / "run.db", resume="never")
        assert report.events_out == 10
    assert "opened= for the page raised" in caplog.text
    assert "cannot watch" in caplog.text


def test_a_missing_extra_is_named() -> None:
    script = (
        "import sys; sys.modules['starlette'] = None\n"
        "import sluiceway as sw; g = sw.Graph('g'); g.source([1]).sink(print)\n"
        "try: sw.run(g, serve=0)\n"
        "except sw.GraphError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install '.[page]'" in done.stdout


def raw(url: str, sent: bytes) -> bytes:
    """Send bytes and return all that comes back until the other side closes or nothing comes for a while."""
    host, port = url.split("/")[2].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        got = b""
        while more := connection.recv(65536):
            got += more
        return got


def test_hostile_requests_hurt_neither_page_nor_run() -> None:
    gate, visit = threading.Event(), Visit()
    graph = sw.Graph("hostile")
    graph.source(held(gate)).map(str).sink(lambda event: None)
    thread, ended = in_thread(lambda: sw.run(graph, workers=1, serve=visit.page))
    assert visit.opened.wait(60)
    here = b"Host: 127.0.0.1\r\n"
    for sent, status in [
        (b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"403"),
        (b"GET /health HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /../../etc/passwd HTTP/1.1\r\n" + here + b"\r\n", b"404"),
        (b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n" + here + b"\r\n", b"404"),
        (b"POST /health HTTP/1.1\r\n" + here + b"Content-Length: 1000000000\r\n\r\nxxxx", b"405"),
        (b"POST /health HTTP/1.1\r\n" + here + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"4"),
        (b"GET /health HTTP/1.1\r\n" + here + b"X: " + b"x" * (1 << 20) + b"\r\n\r\n", b"4"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b"400"),
        (b"GET /health HTTP/1.1\r\n" + here + b"Host: localhost\r\n\r\n", b"4"),
        (b"GET /nothing HTTP/1.1\r\n" + here + b"Connection: close\r\n\r\n", b"404"),
    ]:
        try:
            got = raw(visit.url, sent)
        except ConnectionError:
            continue  # closed before everything was sent
        assert got.split(b" ")[1].startswith(status), (sent[:60], got[:200])
        assert b"Traceback" not in got
    _, headers, _ = visit.get("health")
    assert headers["X-Content-Type-Options".lower()] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    silent = [socket.create_connection(("127.0.0.1", int(visit.url.rsplit(":", 1)[1].strip("/")))) for _ in range(80)]
    gate.set()
    thread.join()
    for connection in silent:
        connection.close()
    assert ended[0].events_out == 1000


def events_of(lines: Iterator[bytes]) -> Iterator[tuple[str, Any]]:
    """Return the server-sent events of an answer, as they come."""
    name = ""
    for line in lines:
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


@pytest.mark.parametrize("options", RUNNERS)
def test_events_tell_everything_first_then_figures_and_the_end(options: Any) -> None:
    gate, visit = threading.Event(), Visit()
    graph = sw.Graph("told")
    graph.source(held(gate)).map(odd_fails, name="odd", on_error="dead_letter").sink(lambda event: None, name="out")
    graph.dead_letters().sink(lambda letter: None, name="letters")
    thread, ended = in_thread(lambda: sw.run(graph, serve=visit.page, **options))
    assert visit.opened.wait(60)
    with urllib.request.urlopen(visit.url + "events", timeout=60) as answer:
        told = events_of(answer)
        name, first = next(told)
        gate.set()
        rest = list(told)
    thread.join()
    assert name == "hello"
    names = [box["name"] for box in first["drawing"]["boxes"]]
    assert names == ["sequencer", "barrier", "events", "odd", "out", "letters"]
    assert [name for name, _ in rest] == ["figures"] * (len(rest) - 1) + ["end"]
    last = rest[-2][1]["figures"]
    assert (last["ended_by"], last["totals"]["events_in"], last["totals"]["dead_letters"]) == ("source", 1000, 10)
    assert last["totals"]["events_out"] == ended[0].events_out
    assert last["letters"][0]["number"] == 907
    assert "ValueError: no 907" in last["letters"][0]["error"]
    assert {letter["event"] for letter in last["letters"]} == {""}
    assert last["workers"] == []


def test_the_files_of_the_page_come_from_the_package() -> None:
    gate, visit = threading.Event(), Visit()
    graph = sw.Graph("files")
    graph.source(held(gate)).sink(lambda event: None)
    thread, _ = in_thread(lambda: sw.run(graph, serve=visit.page))
    assert visit.opened.wait(60)
    for path in ASSETS:
        status, headers, text = visit.get(path[1:])
        assert (status, bool(text)) == (200, True)
        assert headers["cache-control"] == "no-store"
    gate.set()
    thread.join()


def test_a_token_guards_every_path() -> None:
    token = "a-token-of-some-length"
    gate, visit = threading.Event(), Visit("0.0.0.0:0", token=token)
    graph = sw.Graph("guarded")
    graph.source(held(gate)).map(str).sink(lambda event: None)
    thread, ended = in_thread(lambda: sw.run(graph, workers=1, serve=visit.page))
    assert visit.opened.wait(60)
    for path in ("", "metrics", "health", "ready", "nothing"):
        assert visit.get(path)[0] == 401
        assert visit.get(path, authorization="Bearer x" + token)[0] == 401
    until(lambda: visit.get("health", authorization=f"Bearer {token}")[0] == 200)
    gate.set()
    thread.join()
    assert ended[0].events_out == 1000


def test_the_command_line_says_where_it_serves(tmp_path: Path) -> None:
    (tmp_path / "few.py").write_text(
        "import sluiceway as sw\n\ngraph = sw.Graph('few')\ngraph.source(range(5)).map(str).sink(lambda event: None)\n"
    )
    call = [sys.executable, "-m", "sluiceway", "run", "few.py:graph", "--workers", "1", "--serve"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=100)
    assert "the run is shown at http://127.0.0.1:" in done.stderr
    wrong = subprocess.run([*call, "0.0.0.0:80"], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert wrong.returncode == 2
    assert "without a token" in wrong.stderr
