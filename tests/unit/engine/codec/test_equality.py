"""Same and not the same: by type and value, all the way down."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sluiceway.engine.codec.codec import copies
from sluiceway.engine.codec.equality import are_same
from sluiceway.engine.codec.pickling import dumps, loads


@dataclass
class Row:
    number: int
    words: set[str]


class Colour(Enum):
    RED = 1


class Wilful:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("nothing is like me")

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        raise RuntimeError("nor packs me")


def made(step: int) -> Any:
    return lambda n: n + step


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    "value",
    [
        1,
        float("nan"),
        {"a": [1, (2.5, None)]},
        {"x", "y", frozenset({"z"})},
        Decimal("1.0"),
        Fraction(1, 3),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        Row(1, {"a", "b", "c", "d"}),
        Colour.RED,
        Row,
        re.compile("a+", re.IGNORECASE),
        np.arange(6.0).reshape(2, 3),
        np.array([None, "a"], dtype=object),
        made(1),
        {"deep": [[[[1]]]], "also": made(2)},
        LOOP,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_was_sent_is_the_same(value: Any) -> None:
    assert are_same(value, loads(dumps(value)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        (Decimal("1.0"), Decimal("1.00")),
        ([1], (1,)),
        ([1], [1, 1]),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1}, {"b": 1}),
        ({1}, {1.0}),
        (Row(1, {"a"}), Row(1, {"b"})),
        (np.zeros(2), np.zeros(3)),
        (np.zeros(2), np.zeros(2, dtype="float32")),
        (made(1), made(2)),
        (made(1), lambda n: n - 1),
        (Wilful(), Wilful()),
        (datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)),
    ],
)
def test_what_differs(one: Any, other: Any) -> None:
    assert not are_same(one, other)
    assert not are_same([one], [other])


ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.decimals()
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # on a busy machine
@given(VALUES, VALUES)
def test_the_same_as_what_is_shown(one: Any, other: Any) -> None:
    assert are_same(one, copies([one])[0])
    if are_same(one, other):
        assert type(one) is type(other)
        assert "nan" in repr(one).lower() or one == other  # a signalling NaN cannot be compared
