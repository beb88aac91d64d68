"""The page as a browser shows it: while a run goes on, when it has ended, when it fails, wide and on a phone."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from browser import PHONE, WIDE, browser_page, needs_chromium
from page_visits import Visit

pytestmark = [needs_chromium, pytest.mark.slow]


def first(event: int) -> int:
    return event


def slow(event: int) -> int:
    time.sleep(0.01)
    return event


def third(event: int) -> int:
    if event % 50 == 7:
        raise ValueError(f"<b>no</b> {event}")
    return event


def three_stages(source: Any) -> sw.Graph:
    graph = sw.Graph("three <stages>")
    staged = graph.source(source).map(first, name="first", workers=1).map(slow, name="slow", workers=2)
    staged.map(third, name="third", workers=1, on_error="dead_letter").sink(lambda event: None, name="out")
    graph.dead_letters().sink(lambda letter: None, name="rejected")
    return graph


class Running:
    """A run in a thread, with the page that it serves."""

    def __init__(self, graph: sw.Graph, **options: Any) -> None:
        self.visit = Visit(**{key: options.pop(key) for key in ("linger_s", "show_events") if key in options})
        self.stop = threading.Event()
        self.report: sw.RunReport | None = None
        self.error: sw.SluicewayError | None = None
        self._call = {"workers": 1, "window_numbers": 400, "stop": self.stop, "serve": self.visit.page, **options}
        self._graph = graph
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.report = sw.run(self._graph, **self._call)
        except sw.SluicewayError as error:
            self.error = error

    def __enter__(self) -> Running:
        self._thread.start()
        assert self.visit.opened.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join()

    def end(self) -> None:
        """End the run, and wait until it has."""
        self.stop.set()
        self._thread.join()


@pytest.mark.parametrize(("size", "dark"), [(WIDE, False), (PHONE, True)], ids=["wide", "phone"])
def test_a_slow_node_is_seen_and_the_end_is_that_of_the_report(tmp_path: Path, size: tuple[int, int], dark: bool) -> None:
    with Running(three_stages(range(100_000)), show_events=True) as run, browser_page(tmp_path, size, dark=dark) as (page, seen):
        page.goto(run.visit.url)
        page.wait_for_selector(".box.bottleneck")
        page.wait_for_function("document.querySelectorAll('#letters tbody tr').length > 2")
        assert page.text_content(".box.bottleneck .name") == "slow"
        page.wait_for_function("/is with worker .* in node slow, process \\d+/.test(document.getElementById('head').textContent)")
        assert page.text_content("#graph-name") == "three <stages>"
        assert page.text_content("#state") == "running"
        assert page.locator(".box").count() == 8
        assert page.locator("#workers tbody tr").count() == 4
        assert page.locator("#workers tr.is-head").count() == 1
        assert "MiB" in (page.text_content("#workers tbody tr") or "")
        assert "ValueError: <b>no</b>" in (page.text_content("#letters tbody") or "")
        assert page.locator(".uplot canvas").count() == 3
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(16, 21, 27)") == dark
        run.end()
        page.wait_for_selector("body[data-over]")
        report = run.report
        assert report is not None
        assert page.text_content("#state") == "ended by stop"
        told = {
            name: int((page.text_content(f"[data-total={name}] dd") or "").replace(",", ""))
            for name in ("events_in", "events_out", "released", "dead_letters")
        }
        assert told == {name: getattr(report, name) for name in told}
        rows = page.locator("#report tbody tr").all_inner_texts()
        nodes = {cells[0]: int(cells[2].replace(",", "")) for cells in (row.split("\t") for row in rows)}
        assert nodes == {name: node.events_in for name, node in report.nodes.items()}
        assert [text for text in seen if not text.startswith(run.visit.url)] == []


def test_a_browser_that_comes_late_sees_the_ended_run(tmp_path: Path) -> None:
    over = threading.Event()

    def ended(report: sw.RunReport) -> None:
        if report.ended_by:
            over.set()

    visit = Visit(linger_s=60.0)

    def look() -> None:
        assert over.wait(60)
        with browser_page(tmp_path) as (page, _):
            page.goto(visit.url)
            page.wait_for_selector("body[data-over]")
            shown.append(page.text_content("#state"))
            shown.append(page.text_content("[data-total=events_in] dd"))
        os.kill(os.getpid(), signal.SIGINT)  # ends the time that the page stays

    shown: list[str | None] = []
    looking = threading.Thread(target=look)
    looking.start()
    report = sw.run(three_stages(range(100)), workers=1, serve=visit.page, progress=ended)
    looking.join()
    assert shown == ["ended by source", "100"]
    assert report.events_in == 100


def test_a_failure_is_shown_with_its_traceback(tmp_path: Path) -> None:
    gate = threading.Event()

    def events() -> Any:
        yield 1
        gate.wait(60)
        yield 57

    graph = sw.Graph("fails")
    graph.source(events()).map(third, name="third").sink(lambda event: None)
    with Running(graph) as run, browser_page(tmp_path) as (page, _):
        page.goto(run.visit.url)
        page.wait_for_selector(".state.running")
        gate.set()
        page.wait_for_selector("body[data-over]")
        assert page.text_content("#state") == "failed"
        assert "HandlerError: node 'third' failed on number 1" in (page.text_content("#notice") or "")
        assert "in third" in (page.text_content("#traceback") or "")
    assert run.error is not None


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals that stop a process")
def test_a_stall_is_shown_and_its_end_too(tmp_path: Path) -> None:
    pids: set[int] = set()

    def pid(event: int) -> int:
        time.sleep(0.002)
        return os.getpid()

    graph = sw.Graph("stalls")
    graph.source(iter(int, 1)).map(pid, name="pid").sink(pids.add)
    with Running(graph, workers=2, stall_warning_s=1.0) as run, browser_page(tmp_path) as (page, _):
        page.goto(run.visit.url)
        page.wait_for_selector("tr.is-head")
        page.wait_for_selector(".state.running")
        victim = min(pids)
        os.kill(victim, signal.SIGSTOP)
        try:
            page.wait_for_selector(".state.stalled")
            assert f"process {victim}" in (page.text_content("#head") or "")
            assert "has not moved for" in (page.text_content("#notice") or "")
        finally:
            os.kill(victim, signal.SIGCONT)
        page.wait_for_selector(".state.running")
