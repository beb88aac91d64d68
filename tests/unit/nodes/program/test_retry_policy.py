"""Which failed calls are made again."""

from __future__ import annotations

from typing import Any

import pytest
import sluiceway as sw
from hypothesis import given
from hypothesis import strategies as st
from sluiceway.nodes.program.options import Options, check_options
from sluiceway.nodes.program.retries import TIMED_OUT, may_retry

ERRORS = [Exception, ValueError, OSError, ConnectionError, ConnectionResetError, TimeoutError, SystemExit, sw.GiveUp]


class Gone(sw.GiveUp):
    pass


@given(
    st.sampled_from(ERRORS), st.lists(st.sampled_from(ERRORS), min_size=1, max_size=3), st.integers(1, 5), st.integers(1, 5)
)
def test_an_error_is_retried_as_isinstance_says(raised: type, on: list[type], attempts: int, retries: int) -> None:
    options = check_options("map 'f'", {"retries": retries, "retry_on": tuple(on)})
    expected = issubclass(raised, tuple(on)) and not issubclass(raised, sw.GiveUp) and attempts <= retries
    assert may_retry(options, attempts, raised) == expected


@given(st.sampled_from(ERRORS), st.integers(1, 5), st.integers(0, 5))
def test_without_types_everything_is_retried_but_giving_up(raised: type, attempts: int, retries: int) -> None:
    assert may_retry(Options(retries=retries), attempts, raised) == (attempts <= retries and raised is not sw.GiveUp)


def test_a_subclass_gives_up_too() -> None:
    assert not may_retry(Options(retries=3), 1, Gone)


@pytest.mark.parametrize(
    ("on", "again"),
    [(sw.HandlerTimeout, True), (TimeoutError, True), (sw.HandlerError, True), (OSError, True), (ValueError, False)],
)
def test_a_call_past_its_limit_is_a_timeout(on: type, again: bool) -> None:
    assert may_retry(check_options("map 'f'", {"retries": 1, "retry_on": on}), 1, *TIMED_OUT) == again


@pytest.mark.parametrize("value", [(), "OSError", 3, OSError(), (OSError, 3), [OSError], int, (int, OSError)])
def test_what_is_no_type_of_errors_is_refused(value: Any) -> None:
    with pytest.raises(sw.GraphError, match=r"^map 'f': retry_on=.*; give it a type of exceptions or a tuple of them"):
        check_options("map 'f'", {"retries": 1, "retry_on": value})


def test_types_without_retries_are_refused() -> None:
    with pytest.raises(sw.GraphError, match=r"retry_on= without retries=, so nothing is tried again"):
        check_options("map 'f'", {"retry_on": OSError})
