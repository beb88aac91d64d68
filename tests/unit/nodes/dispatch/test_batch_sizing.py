"""Batch sizes: a few milliseconds of work, learnt from answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sluiceway.nodes.dispatch.batch_sizing import (
    MAX_BATCH,
    MAX_GROWTH,
    MAX_PREFETCH,
    PREFETCH_BELOW_S,
    TARGET_BYTES,
    TARGET_PER_WORKER_S,
    TARGET_S,
    BatchSizer,
)


def _taught(each_s: float, bytes_each: int = 1, rounds: int = 20) -> BatchSizer:
    sizer = BatchSizer()
    for _ in range(rounds):
        size = sizer.size
        sizer.learn(size, size * each_s, size * bytes_each)
    return sizer


def test_the_first_batch_is_one_number() -> None:
    assert BatchSizer().size == 1
    assert BatchSizer().depth == 1


@pytest.mark.parametrize("each_s", [1e-6, 1e-5, 1e-4, 1e-3])
def test_a_batch_takes_about_the_target(each_s: float) -> None:
    assert _taught(each_s).size * each_s == pytest.approx(min(TARGET_S, MAX_BATCH * each_s), rel=0.3)


def test_batches_grow_with_the_workers_of_a_run() -> None:
    for workers, target_s in ((1, TARGET_S), (16, TARGET_S), (64, 64 * TARGET_PER_WORKER_S), (1000, 1000 * TARGET_PER_WORKER_S)):
        sizer = BatchSizer(workers=workers)
        for _ in range(20):
            sizer.learn(sizer.size, sizer.size * 1e-3, sizer.size)
        assert sizer.size * 1e-3 == pytest.approx(target_s, rel=0.1)
        assert sizer.depth == 2  # the next batch is there when one is done


def test_batches_grow_by_a_bounded_factor() -> None:
    sizer = BatchSizer()
    sizes = []
    for _ in range(5):
        sizes.append(sizer.size)
        sizer.learn(sizes[-1], sizes[-1] * 1e-7, sizes[-1])
    assert sizes == [1, MAX_GROWTH, MAX_GROWTH**2, MAX_GROWTH**3, MAX_BATCH]


def test_slow_work_is_handed_out_one_by_one_and_not_ahead() -> None:
    sizer = _taught(0.5)
    assert sizer.size == 1
    assert sizer.depth == 1


def test_a_second_batch_is_held_only_while_it_delays_nobody() -> None:
    assert _taught(PREFETCH_BELOW_S / 2).depth == 2
    assert _taught(PREFETCH_BELOW_S * 2).depth == 1
    assert _taught(PREFETCH_BELOW_S / 2.5).depth == 3
    assert _taught(PREFETCH_BELOW_S / 1e6).depth == MAX_PREFETCH


def test_large_events_make_small_batches() -> None:
    assert _taught(1e-6, bytes_each=TARGET_BYTES // 10).size == pytest.approx(10, abs=1)


def test_it_believes_quickly_that_work_is_cheap_and_slowly_that_it_is_dear() -> None:
    cheaper, dearer = BatchSizer(), BatchSizer()
    cheaper.learn(1, 0.010, 1)
    cheaper.learn(1, 0.001, 1)
    dearer.learn(1, 0.001, 1)
    dearer.learn(1, 0.010, 1)
    assert cheaper.seconds_each < 0.006
    assert dearer.seconds_each < 0.003


def test_an_answer_for_no_number_teaches_nothing() -> None:
    sizer = BatchSizer()
    sizer.learn(0, 5.0, 100)
    assert sizer.size == 1
    assert sizer.seconds_each == 0.0


@given(st.lists(st.tuples(st.integers(0, 9000), st.floats(0, 100), st.integers(0, 1 << 30)), max_size=20))
def test_sizes_and_depths_stay_in_their_bounds(answers: list[tuple[int, float, int]]) -> None:
    sizer = BatchSizer()
    for numbers, seconds, nbytes in answers:
        sizer.learn(numbers, seconds, nbytes)
        assert 1 <= sizer.size <= MAX_BATCH
        assert 1 <= sizer.depth <= MAX_PREFETCH
        assert sizer.depth <= 2 or sizer.depth * sizer.bytes_each * sizer.size <= 2 * TARGET_BYTES
        assert (sizer.depth - 1) * sizer.seconds_each * sizer.size < PREFETCH_BELOW_S
