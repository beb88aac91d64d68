"""Which devices and cores the worker with a number gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sluiceway.nodes.program.hardware import Hardware, Seat, gpus_of, seat_of, seats_in


def test_devices_and_cores_are_dealt_out_in_turn() -> None:
    needs = Hardware(devices=("cuda:0", "MIG-5"), cpus=((0, 1), (2,), (3,)))
    assert [seat_of(needs, at, ()) for at in range(4)] == [
        Seat((("CUDA_VISIBLE_DEVICES", "0"),), (0, 1)),
        Seat((("CUDA_VISIBLE_DEVICES", "MIG-5"),), (2,)),
        Seat((("CUDA_VISIBLE_DEVICES", "0"),), (3,)),
        Seat((("CUDA_VISIBLE_DEVICES", "MIG-5"),), (0, 1)),
    ]


@pytest.mark.parametrize(("each", "gpus", "seats"), [(1, 3, 3), (2, 5, 2), (0.5, 2, 4), (0.3, 1, 3), (1 / 3, 1, 3), (0.1, 1, 10)])
def test_as_many_workers_find_room_as_fit(each: float, gpus: int, seats: int) -> None:
    assert seats_in(each, gpus) == seats


@given(st.sampled_from([0.1, 0.2, 0.25, 1 / 3, 0.5, 0.7, 1, 2, 3]), st.integers(1, 8))
def test_no_gpu_has_more_workers_than_fit(each: float, count: int) -> None:
    gpus = [str(at) for at in range(count)]
    given_out = [gpus_of(each, index, gpus) for index in range(seats_in(each, count))]
    assert all(len(one) == max(1, each) for one in given_out)
    for gpu in gpus:
        assert sum(gpu in one for one in given_out) * min(each, 1) <= 1 + 1e-9
