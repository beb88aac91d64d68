"""Checks of single arguments: what is accepted, what it becomes, and the text of a refusal."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from sluiceway import GraphError
from sluiceway.nodes.checks import check_flag, check_seconds, check_whole


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "1", None, math.nan])
def test_what_is_no_whole_number_in_the_bounds_is_refused(value: Any) -> None:
    with pytest.raises(GraphError, match=r"^sql\(\): rows=.*, but it must be a whole number, 1 or more; pass 1000$"):
        check_whole("sql()", "rows", value, "pass 1000")


def test_whole_numbers_have_both_bounds() -> None:
    assert [check_whole("f", "port", value, "", least=0, most=9) for value in (0, 9)] == [0, 9]
    with pytest.raises(GraphError, match=r"^f: port=10, but it must be a whole number, from 0 to 9; pass one$"):
        check_whole("f", "port", 10, "pass one", least=0, most=9)


@pytest.mark.parametrize("value", [-1, True, "1", None, math.nan, math.inf, -math.inf, 1j, Decimal(1)])
def test_what_is_no_finite_number_of_seconds_is_refused(value: Any) -> None:
    with pytest.raises(GraphError, match=r"^f: wait_s=.*, but it must be a number of seconds, 0 or more; pass 1$"):
        check_seconds("f", "wait_s", value, "pass 1")


def test_seconds_have_bounds() -> None:
    assert check_seconds("f", "wait_s", 0, "") == 0
    with pytest.raises(GraphError, match=r"wait_s=0, but it must be a number of seconds, more than 0; pass 1$"):
        check_seconds("f", "wait_s", 0, "pass 1", positive=True)
    for value in (0, 0.05, 1000001):
        with pytest.raises(GraphError, match=r"but it must be a number of seconds, from 0\.1 to 1000000; pass 1$"):
            check_seconds("f", "ttl_s", value, "pass 1", least=0.1, most=1e6)


def test_numbers_of_other_types_become_plain_ones() -> None:
    numpy = pytest.importorskip("numpy")
    found = check_whole("f", "n", numpy.int64(2), ""), check_seconds("f", "s", Fraction(1, 2), "")
    assert found == (2, 0.5)
    assert [type(value) for value in found] == [int, float]


@pytest.mark.parametrize("value", [0, 1, None, "yes"])
def test_flags_are_booleans(value: Any) -> None:
    assert check_flag("f", "ordered", value=True) is True
    with pytest.raises(GraphError, match=r"^f: ordered=.*; use True or False$"):
        check_flag("f", "ordered", value)
