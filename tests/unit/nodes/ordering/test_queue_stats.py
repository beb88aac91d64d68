"""The measures of a station: how many are inside, for how long, and Little's law between them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sluiceway.nodes.ordering.queue_stats import QueueStats


def test_an_empty_gauge_measures_nothing() -> None:
    stats = QueueStats()
    assert (stats.departed, stats.mean_stay_s, stats.mean_inside(1.0), stats.quantile_s(0.5)) == (0, 0.0, 0.0, 0.0)


def test_the_mean_number_inside_is_an_area() -> None:
    stats = QueueStats()
    stats.enter(2, 0.0)
    stats.enter(1, 1.0)
    stats.leave(3, 1.0, 3.0)
    assert stats.mean_inside(4.0) == pytest.approx((2 * 1 + 3 * 2) / 4)
    assert stats.departed == 3


def test_quantiles_are_right_to_a_fifth() -> None:
    stats = QueueStats()
    for milliseconds in range(1, 101):
        stats.enter(1, 0.0)
        stats.leave(1, milliseconds / 1000, 0.0)
    assert stats.quantile_s(0.5) == pytest.approx(0.050, rel=0.2)
    assert stats.quantile_s(0.99) == pytest.approx(0.099, rel=0.2)


def test_times_below_the_unit_are_counted_in_the_lowest_bucket() -> None:
    stats = QueueStats()
    stats.enter(1, 0.0)
    stats.leave(1, 0.0, 0.0)
    assert 0 < stats.quantile_s(1.0) < 2e-6


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0.001, 5), st.integers(1, 50)), min_size=1, max_size=20))
def test_littles_law_holds(visits: list[tuple[float, float, int]]) -> None:
    stats = QueueStats()
    moves = [(at, 0, count, 0.0) for at, _, count in visits] + [(at + stay, 1, count, stay) for at, stay, count in visits]
    for at, leaves, count, stay in sorted(moves):
        if leaves:
            stats.leave(count, stay, at)
        else:
            stats.enter(count, at)
    wall = max(at for at, *_ in moves)
    arrivals_each_s = stats.departed / wall
    assert stats.mean_inside(wall) == pytest.approx(arrivals_each_s * stats.mean_stay_s)
