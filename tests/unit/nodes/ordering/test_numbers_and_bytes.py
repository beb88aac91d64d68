"""The budget: when a number may be admitted, and what may be worked on above the limit."""

from __future__ import annotations

import pytest
from sluiceway.nodes.ordering.budget import Budget, Pace


def test_numbers_are_admitted_up_to_the_limit() -> None:
    budget = Budget(1000, 10)
    assert budget.room(0) == 10
    assert budget.room(9) == 1
    assert budget.room(10) == 0
    assert budget.room(12) == 0


def test_nothing_is_admitted_while_the_bytes_are_at_the_limit() -> None:
    budget = Budget(1000, 10)
    budget.charge(999)
    assert budget.room(3) == 7
    budget.charge(1)
    assert budget.room(3) == 0
    budget.free(1)
    assert budget.room(3) == 7


def test_above_the_limit_the_head_alone_goes_on_or_the_consumer() -> None:
    budget = Budget(1000, 10)
    assert budget.pace(True) is Pace.FREE
    assert budget.pace(False) is Pace.FREE
    budget.charge(1000)
    assert budget.pace(False) is Pace.HEAD
    assert budget.pace(True) is Pace.HOLD


def test_the_peak_stays() -> None:
    budget = Budget(1000, 10)
    budget.charge(700)
    budget.free(600)
    budget.charge(50)
    assert (budget.bytes, budget.peak_bytes) == (150, 700)


def test_freeing_what_was_not_charged_is_noticed() -> None:
    budget = Budget(1000, 10)
    budget.charge(5)
    with pytest.raises(AssertionError, match="more bytes were freed"):
        budget.free(6)
