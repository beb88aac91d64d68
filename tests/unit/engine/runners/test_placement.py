"""Whether processes pay: what is weighed, and what the report says of it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sluiceway.engine.runners.caller import TurnSize
from sluiceway.engine.runners.placement import Costs, Placement, sample_size


def weigh(placement: Placement, *, each_s: float, done: int = 1000, left: int | None = None, event: Any = 1) -> bool:
    placement.handled_s += each_s * done
    return placement.weigh([event] * 10, [[event] * 10], 10, done=done, left=left)


def test_cheap_events_stay_in_the_calling_thread() -> None:
    placement = Placement(4)
    assert not weigh(placement, each_s=1e-8)
    assert placement.text.startswith("no processes: an event takes 0.01 µs here, its way to a worker and back ")


def test_costly_events_bring_in_processes() -> None:
    placement = Placement(4)
    assert weigh(placement, each_s=0.01)
    assert placement.text == "over before processes were up"
    placement.record_start(1234)
    assert placement.text.startswith("4 worker processes from number 1,234 on: an event takes 10000.0 µs, they are ")


def test_one_core_never_pays() -> None:
    assert not weigh(Placement(1), each_s=0.01)


def test_a_little_work_does_not_pay_for_the_start() -> None:
    assert not weigh(Placement(4), each_s=0.01, left=5)
    assert weigh(Placement(4), each_s=0.01, left=500)


def test_events_that_cannot_be_sent_stay() -> None:
    placement = Placement(4)
    assert not weigh(placement, each_s=0.01, event=threading.Lock())
    assert placement.text == "no processes: its events cannot be sent to one"


def test_costs_are_weighed_less_and_less_often() -> None:
    placement = Placement(4)
    pauses = []
    for done in range(1, 12):
        placement.handled_s = placement.due_s
        placement.weigh([1], [[1]], 1, done=1_000_000_000 * done, left=None)
        pauses.append(placement.due_s - placement.handled_s)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (pytest.approx(0.02), pytest.approx(0.64))


def test_a_long_call_brings_in_processes_by_itself() -> None:
    placement = Placement(2)
    placement.record_long_call()
    placement.record_start(7)
    assert placement.text == "2 worker processes from number 7 on: one event took longer than 20 ms"


def test_the_gain_is_bounded_by_the_caller_and_by_the_cores() -> None:
    assert Costs(handle=8.0, send=0.0, serve=0.0).gain(4) == 4.0
    assert Costs(handle=8.0, send=4.0, serve=0.0).gain(100) == 2.0
    assert Costs().gain(4) == 0.0


@pytest.mark.parametrize(("event_bytes", "size"), [(0.0, 128), (28.0, 128), (1 << 18, 4), (1 << 30, 1)])
def test_a_sample_is_bounded_in_events_and_bytes(event_bytes: float, size: int) -> None:
    assert sample_size(event_bytes) == size


def test_a_turn_doubles_and_halves_within_its_bounds() -> None:
    turn = TurnSize(0.01, 4)
    sizes = []
    for seconds in (0.001, 0.001, 0.001, 0.01, 0.03, 0.03, 0.03):
        turn.adapt(seconds)
        sizes.append(turn.size)
    assert sizes == [2, 4, 4, 4, 2, 1, 1]
    turn.adapt(0.001, grow=False)
    assert turn.size == 1
