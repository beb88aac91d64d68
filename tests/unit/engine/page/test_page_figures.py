"""What the page says of a snapshot: the bottleneck, the head of the line, dead letters with and without events."""

from __future__ import annotations

from typing import Any

import pytest
from sluiceway.engine.page.figures import bottleneck_of, figures_of
from sluiceway.engine.page.health import Health
from sluiceway.engine.page.history import Rates
from sluiceway.engine.page.sampler import Snapshot
from sluiceway.engine.reporting.live import MAX_LETTERS, MAX_TEXT, FlowView, LetterLog, LiveRun, WorkerView
from sluiceway.engine.reporting.report import NodeReport, RunReport
from sluiceway.nodes.events import DeadLetter


def node(busy: float) -> NodeReport:
    return NodeReport("p", 2, 10, 10, 1.0, 1.0, 1.0, busy, 1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.2)


def snapshot(*, ended_by: str = "", busy: dict[str, float] | None = None, **flow: Any) -> Snapshot:
    report = RunReport("g", ended_by=ended_by, nodes={"a": node(0.9), "b": node(0.2)}, wall_s=2.0)
    worker = WorkerView("0.1.2", "p", 77, "event", "b", 41, 3.0, 5, 2)
    live = LiveRun(report, open=True, flow=FlowView(**flow), workers=(worker,))
    return Snapshot(live, Health(True, True, "", 3.0), Rates(busy=busy or {}), (), {77: 1 << 20})


@pytest.mark.parametrize(
    ("busy", "ended_by", "named"),
    [({"a": 0.2, "b": 0.8}, "", "b"), ({"a": 0.2, "b": 0.4}, "", None), ({}, "", None), ({"b": 1.0}, "source", "a")],
)
def test_the_busiest_node_bounds_the_run(busy: dict[str, float], ended_by: str, named: str | None) -> None:
    assert bottleneck_of(snapshot(busy=busy, ended_by=ended_by)) == named


def test_the_head_is_with_its_holder() -> None:
    head = figures_of(snapshot(head=41, holder="0.1.2", in_flight=3))["head"]
    assert head == {"number": 41, "since_s": 3.0, "answered": False, "worker": "0.1.2", "node": "b", "pid": 77}
    assert figures_of(snapshot(head=41, in_flight=0))["head"] is None
    assert figures_of(snapshot(head=41, in_flight=3, ended_by="error"))["head"] is None


def test_a_worker_is_shown_with_its_memory() -> None:
    (worker,) = figures_of(snapshot(holder="0.1.2", in_flight=1))["workers"]
    assert (worker["pid"], worker["memory"], worker["head"]) == (77, 1 << 20, True)


def test_events_of_dead_letters_are_shown_only_where_that_is_wanted() -> None:
    letter = DeadLetter(3, 0, "n", "secret", "ValueError: no", "", 1)
    for wanted in (False, True):
        log = LetterLog(show_events=wanted)
        log.record([letter])
        assert ("secret" in log.last[0].event) == wanted


def test_dead_letters_are_bounded_in_number_and_length() -> None:
    log = LetterLog(show_events=True)
    log.record([DeadLetter(n, 0, "n", ["x" * 10_000] * 10_000, "e" * 10_000, "", 1) for n in range(3 * MAX_LETTERS)])
    assert len(log.last) == MAX_LETTERS
    assert log.last[-1].number == 3 * MAX_LETTERS - 1
    assert all(len(one.event) <= MAX_TEXT and len(one.error) <= MAX_TEXT for one in log.last)


def test_an_event_that_cannot_be_shown_does_no_harm() -> None:
    class Silent:
        def __repr__(self) -> str:
            raise ValueError("no words")

    log = LetterLog(show_events=True)
    log.record([DeadLetter(1, 0, "n", Silent(), "e", "", 1)])
    assert "Silent" in log.last[0].event
