"""Sets of numbers as intervals, against plain sets."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from sluiceway.nodes.ordering.intervals import Intervals

_RUN = st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))
_MOVE = st.tuples(st.sampled_from(("add", "remove")), _RUN)


def _numbers(parts: list[tuple[int, int]]) -> set[int]:
    found: set[int] = set()
    for lo, hi in parts:
        assert lo < hi
        assert found.isdisjoint(range(lo, hi))
        found.update(range(lo, hi))
    return found


@given(st.lists(_MOVE, max_size=25), _RUN)
def test_they_behave_like_a_set(moves: list[tuple[str, tuple[int, int]]], probe: tuple[int, int]) -> None:
    intervals, model = Intervals(), set[int]()
    for move, (lo, hi) in moves:
        run = set(range(lo, hi))
        if move == "add":
            assert _numbers(intervals.add(lo, hi)) == run - model
            model |= run
        else:
            assert intervals.remove(lo, hi) == len(run & model)
            model -= run
    lo, hi = probe
    run = set(range(lo, hi))
    assert _numbers(list(intervals)) == model
    assert _numbers(intervals.gaps(lo, hi)) == run - model
    assert _numbers(intervals.shared(lo, hi)) == run & model
    assert len(intervals) == len(model)
    assert bool(intervals) == bool(model)
    assert all((n in intervals) == (n in model) for n in range(60))
    assert intervals.frontier() == next(n for n in range(100) if n not in model)


@given(st.lists(_RUN, max_size=25))
def test_they_are_sorted_and_never_touch(runs: list[tuple[int, int]]) -> None:
    intervals = Intervals()
    for lo, hi in runs:
        intervals.add(lo, hi)
    parts = list(intervals)
    assert all(before[1] < after[0] for before, after in pairwise(parts))


def test_what_is_given_is_in_order() -> None:
    intervals = Intervals()
    intervals.add(4, 6)
    intervals.add(8, 9)
    assert intervals.add(0, 12) == [(0, 4), (6, 8), (9, 12)]
    assert list(intervals) == [(0, 12)]
    assert intervals.add(3, 7) == []


def test_an_empty_run_changes_nothing() -> None:
    intervals = Intervals()
    assert intervals.add(5, 5) == []
    assert not intervals
    assert intervals.frontier() == 0
    assert intervals.gaps(3, 3) == []
