"""Rates of the last seconds, and the points of the charts."""

from __future__ import annotations

from sluiceway.engine.page.history import MAX_POINTS, History
from sluiceway.engine.reporting.live import FlowView, LiveRun
from sluiceway.engine.reporting.report import RunReport


def look(released: int, at: float, stays: dict[int, int] | None = None) -> LiveRun:
    report = RunReport("g", events_in=released + 5, released=released, wall_s=at, expected=10_000)
    return LiveRun(report, open=True, flow=FlowView(stays={"p": stays or {}}))


def test_rates_are_those_of_the_last_seconds() -> None:
    history = History()
    for second in range(20):
        history.record(look(10 * second, float(second)), float(second))
    slow = history.record(look(191, 20.0), 20.0)
    assert 6 < slow.released < 10
    for second in range(21, 27):
        rates = history.record(look(191, float(second)), float(second))
    assert rates.released == 0


def test_the_time_left_follows_the_rate() -> None:
    history = History()
    for second in range(60):
        rates = history.record(look(100 * second, float(second)), float(second))
    assert rates.eta_s is not None
    assert abs(rates.eta_s - (10_000 - 5_900) / 100) < 5


def test_quantiles_are_those_of_the_last_seconds() -> None:
    history = History()
    history.record(look(0, 0.0, {40: 1000}), 0.0)
    rates = history.record(look(100, 1.0, {40: 1000, 60: 100}), 1.0)
    assert rates.p50_s["p"] == rates.p99_s["p"] > 0.03


def test_points_are_bounded_and_span_the_whole_run() -> None:
    history = History()
    for second in range(10 * MAX_POINTS):
        history.record(look(7 * second, float(second)), float(second))
    points = history.points
    assert MAX_POINTS // 2 - 1 <= len(points) <= MAX_POINTS
    assert points[0].at_s < 50
    assert points[-1].at_s > 9.9 * MAX_POINTS
    assert all(abs(point.released - 7) < 0.01 for point in points[1:])
    assert [point.at_s for point in points] == sorted(point.at_s for point in points)
