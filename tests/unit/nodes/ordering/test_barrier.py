"""The last barrier: what is released, with which dead letters, and where the run ends."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sluiceway.nodes.ordering.barrier import Barrier, FailureRecord, Release


def _failure(seq: int, on_error: str = "fail", *, node_id: int = 1, index: int = 0) -> FailureRecord:
    return FailureRecord(seq, index, f"node{node_id}", node_id, on_error, "ValueError: x", "", 1, "error")


def test_runs_are_released_as_the_frontier_moves() -> None:
    barrier = Barrier()
    assert barrier.release(0) is None
    assert barrier.release(3) == Release(0, 3)
    assert barrier.release(3) is None
    assert barrier.release(5) == Release(3, 5)


def test_a_failure_waits_for_its_place() -> None:
    barrier = Barrier()
    barrier.record_failures([_failure(7)])
    assert barrier.verdict(4) is None
    assert barrier.release(4) == Release(0, 4)
    failure = _failure(5)
    barrier.record_failures([failure])
    assert barrier.release(6) == Release(4, 5)
    assert barrier.verdict(5) is None, "another branch may still fail on the same number"
    assert barrier.verdict(6) is failure
    assert barrier.release(9) is None


def test_of_several_failures_of_a_number_the_first_node_counts() -> None:
    barrier = Barrier()
    first = _failure(2, node_id=3, index=1)
    barrier.record_failures([_failure(2, node_id=5), _failure(2, node_id=3, index=4), first])
    assert barrier.verdict(3) is first


def test_a_skipped_event_ends_nothing_and_is_no_letter() -> None:
    barrier = Barrier()
    barrier.record_failures([_failure(0, "skip")])
    assert barrier.end_at is None
    assert barrier.release(1) == Release(0, 1)


def test_letters_above_the_end_are_never_released() -> None:
    barrier = Barrier()
    barrier.record_failures([_failure(3, "dead_letter"), _failure(1, "dead_letter"), _failure(2)])
    release = barrier.release(9)
    assert release is not None
    assert [letter.seq for letter in release.letters] == [1]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 3)), max_size=20), st.data())
def test_letters_come_sorted_at_their_place(places: list[tuple[int, int, int]], data: Any) -> None:
    barrier = Barrier()
    barrier.record_failures(_failure(seq, "dead_letter", node_id=node, index=index) for seq, node, index in places)
    out: list[FailureRecord] = []
    for frontier in [*sorted(data.draw(st.lists(st.integers(0, 10), max_size=4))), 10]:
        release = barrier.release(frontier)
        if release is not None:
            assert all(release.lo <= letter.seq < release.hi for letter in release.letters)
            out += release.letters
    assert [letter.order_key for letter in out] == sorted(places)
