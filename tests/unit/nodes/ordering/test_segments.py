"""Retained segments: slices of them, and when their bytes are free."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sluiceway.nodes.ordering.segments import SEGMENT_OVERHEAD, Segment, SegmentStore


def _store(readers: int, *runs: tuple[int, int]) -> SegmentStore:
    store = SegmentStore(readers)
    for start, stop in runs:
        store.put(Segment(start, stop, f"{start}..{stop}", 10 * (stop - start)))
    return store


def test_a_run_is_given_as_slices_of_the_segments_that_hold_it() -> None:
    store = _store(1, (0, 4), (7, 9), (4, 7))
    parts = store.slices(2, 8)
    assert [(part.segment.start, part.lo, part.hi) for part in parts] == [(0, 2, 4), (4, 4, 7), (7, 7, 8)]
    assert [(part.lo, part.hi) for part in store.slices(5, 6)] == [(5, 6)]


def test_a_segment_is_charged_with_its_overhead_and_freed_once() -> None:
    store = SegmentStore(1)
    assert store.put(Segment(0, 5, "x", 100)) == 100 + SEGMENT_OVERHEAD
    assert store.consume(0, 3) == 0
    assert store.consume(3, 5) == 100 + SEGMENT_OVERHEAD
    assert len(store) == 0
    assert store.consume(0, 5) == 0


def test_every_reader_must_have_taken_every_number() -> None:
    store = _store(2, (0, 4), (4, 6))
    assert store.consume(0, 6) == 0
    assert store.consume(0, 4) == 40 + SEGMENT_OVERHEAD
    assert store.consume(4, 5) == 0
    assert store.consume(5, 6) == 20 + SEGMENT_OVERHEAD


def test_a_stream_that_nobody_reads_costs_nothing() -> None:
    store = _store(0, (0, 4))
    assert store.put(Segment(4, 8, "x", 100)) == 0
    assert len(store) == 0


def test_a_number_that_is_not_retained_cannot_be_had() -> None:
    store = _store(1, (0, 2), (4, 6))
    with pytest.raises(AssertionError, match="not retained"):
        store.slices(1, 5)


def test_taking_a_number_twice_is_noticed() -> None:
    store = _store(1, (0, 4))
    store.consume(0, 3)
    with pytest.raises(AssertionError, match="twice"):
        store.consume(0, 3)


@given(st.integers(1, 3), st.lists(st.integers(1, 6), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_all_bytes_come_back_however_the_readers_cut(readers: int, sizes: list[int], rng: object) -> None:
    store, charged, stop = SegmentStore(readers), 0, 0
    for size in sizes:
        charged += store.put(Segment(stop, stop + size, None, size))
        stop += size
    cuts = []
    for _ in range(readers):
        places = sorted({0, stop, *(rng.randrange(stop + 1) for _ in range(3))})  # type: ignore[attr-defined]
        cuts += pairwise(places)
    rng.shuffle(cuts)  # type: ignore[attr-defined]
    assert sum(store.consume(lo, hi) for lo, hi in cuts) == charged
    assert len(store) == 0
