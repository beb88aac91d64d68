"""When a run counts as stalled, as ready, and as over."""

from __future__ import annotations

from msgspec.structs import replace
from sluiceway.engine.page.health import HealthWatch
from sluiceway.engine.reporting.live import FlowView, LiveRun
from sluiceway.engine.reporting.report import RunReport

MOVING = LiveRun(RunReport("g"), open=True, flow=FlowView(head=5, in_flight=3, holder="0.1.2"))


def at_head(n: int, *, in_flight: int = 3) -> LiveRun:
    return replace(MOVING, flow=replace(MOVING.flow, head=n, in_flight=in_flight))


def test_a_head_that_stands_still_is_a_stall_and_moving_ends_it() -> None:
    watch = HealthWatch(10.0, 0.0)
    assert watch.record(at_head(5), 1.0).healthy
    assert watch.record(at_head(5), 10.9).healthy
    stalled = watch.record(at_head(5), 11.0)
    assert not stalled.healthy
    assert not stalled.ready
    assert stalled.why == "number 5 has not moved for 10 s; it waits for 0.1.2"
    assert watch.record(at_head(6), 11.5).healthy


def test_nothing_in_flight_is_no_stall() -> None:
    watch = HealthWatch(10.0, 0.0)
    assert watch.record(at_head(5, in_flight=0), 1.0).ready
    assert watch.record(at_head(5, in_flight=0), 1000.0).ready
    assert watch.record(at_head(5), 1001.0).ready
    assert watch.record(at_head(5), 1009.9).ready
    assert not watch.record(at_head(5), 1010.1).ready


def test_results_that_wait_for_a_sink_are_a_stall_of_the_sink() -> None:
    watch = HealthWatch(1.0, 0.0)
    held = replace(MOVING, flow=replace(MOVING.flow, answered=True, holder=None))
    watch.record(held, 0.0)
    assert watch.record(held, 2.0).why == "number 5 has not moved for 2 s; it waits for a sink or the consumer"


def test_a_run_is_not_ready_before_it_is_open_and_after_its_end() -> None:
    watch = HealthWatch(10.0, 0.0)
    starting = watch.record(replace(MOVING, open=False), 1.0)
    assert starting.healthy
    assert not starting.ready
    ended = watch.record(replace(MOVING, report=RunReport("g", ended_by="limit"), open=False), 2.0)
    assert not ended.healthy
    assert ended.why == "the run has ended by limit"


def test_an_engine_that_does_not_answer_is_a_stall() -> None:
    watch = HealthWatch(10.0, 0.0)
    watch.record(at_head(5), 1.0)
    silent = replace(MOVING, answers=False, open=False, flow=FlowView())
    assert watch.record(silent, 10.0).healthy
    assert "the engine has not answered" in watch.record(silent, 12.0).why
    assert watch.record(at_head(9), 13.0).healthy
