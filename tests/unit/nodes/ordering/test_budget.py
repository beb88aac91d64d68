"""The budget: when a number may be admitted, and what may be worked on above the limit."""

from __future__ import annotations

import pytest
from sluiceway.nodes.ordering.budget import Pace, Window


def test_numbers_are_admitted_up_to_the_limit() -> None:
    window = Window(1000, 10)
    assert window.room(0) == 10
    assert window.room(9) == 1
    assert window.room(10) == 0
    assert window.room(12) == 0


def test_nothing_is_admitted_while_the_bytes_are_at_the_limit() -> None:
    window = Window(1000, 10)
    window.charge(999)
    assert window.room(3) == 7
    window.charge(1)
    assert window.room(3) == 0
    window.free(1)
    assert window.room(3) == 7


def test_above_the_limit_the_head_alone_goes_on_or_the_consumer() -> None:
    window = Window(1000, 10)
    assert window.pace(True) is Pace.FREE
    assert window.pace(False) is Pace.FREE
    window.charge(1000)
    assert window.pace(False) is Pace.HEAD
    assert window.pace(True) is Pace.HOLD


def test_the_peak_stays() -> None:
    window = Window(1000, 10)
    window.charge(700)
    window.free(600)
    window.charge(50)
    assert (window.bytes, window.peak_bytes) == (150, 700)


def test_freeing_what_was_not_charged_is_noticed() -> None:
    window = Window(1000, 10)
    window.charge(5)
    with pytest.raises(AssertionError, match="more bytes were freed"):
        window.free(6)
