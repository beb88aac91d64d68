"""Keys: equal keys have one partition in every process, and what is no key is refused with a remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from sluiceway.nodes.state.keys import KeyCheck, Partitioner, partition_of, stable_hash


class Colour(Enum):
    RED = 1


class Level(IntEnum):
    LOW = 1


class Word(str, Enum):  # noqa: UP042 (the older form is what is tried)
    HELLO = "hello"


class Pair(NamedTuple):
    a: int
    b: str


class Loose(str):
    def __eq__(self, other: object) -> bool:
        return str(self).lower() == str(other).lower()

    def __hash__(self) -> int:
        return hash(self.lower())


NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "keys",
    [
        (1, 1.0, True, Decimal(1), Fraction(1), Level.LOW, 1 + 0j),
        (0, -0.0, False),
        (2**70, float(2**70)),
        ("hello", Word.HELLO),
        ((1, "a"), (1.0, "a"), Pair(1, "a")),
        (frozenset({1, "a", 2}), frozenset({2.0, "a", True})),
        (NOON, NOON.astimezone(timezone(timedelta(hours=5)))),
        (datetime(2024, 5, 1, fold=0), datetime(2024, 5, 1, fold=1)),
    ],
    ids=lambda keys: type(keys[0]).__name__,
)
def test_equal_keys_have_one_place(keys: tuple[Any, ...]) -> None:
    assert all(key == keys[0] for key in keys)
    assert len({stable_hash(key) for key in keys}) == 1


SCRIPT = """
from datetime import datetime, timedelta, UTC
from decimal import Decimal
from uuid import UUID
from sluiceway.nodes.state.keys import stable_hash
keys = ["text", b"bytes", 7, 2.5, None, ("a", 1), frozenset({"a", "b", "c"}), datetime(2024, 5, 1, tzinfo=UTC),
        timedelta(1), UUID(int=5), Decimal("1.5")]
print([stable_hash(key) for key in keys])
"""


def test_places_are_the_same_in_every_process() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "random")
    }
    assert len(said) == 1
    assert len(set(said.pop().split(","))) == 11


@pytest.mark.parametrize("key", [None, "a", b"a", 3, 2.5, (1, ("a", None)), date(2024, 5, 1), Colour.RED, UUID(int=1)])
def test_these_are_keys(key: Any) -> None:
    assert KeyCheck()([key]) is None
    assert 0 <= partition_of(stable_hash(key), 3) < 3


@pytest.mark.parametrize(
    ("key", "named"),
    [([1], "a list"), ({"a": 1}, "a dict"), (("a", [1]), "a list"), (object(), "an object"), (Loose("a"), "a Loose")],
    ids=["list", "dict", "tuple", "object", "own"],
)
def test_what_is_no_key_is_named(key: Any, named: str) -> None:
    found = KeyCheck()(["fine", key, key])
    assert found is not None
    assert found[0] == 1
    assert named in str(found[1])
    assert "give such a part of the event" in str(found[1])


def test_nan_is_no_key() -> None:
    found = KeyCheck()([1.5, float("nan")])
    assert found is not None
    assert (found[0], "nan" in str(found[1])) == (1, True)


@pytest.mark.parametrize("parts", [2, 3, 8, 255])
def test_whole_columns_go_where_single_keys_go(parts: int) -> None:
    numbers: list[Any] = list(range(-1000, 1000))
    mixed = [*numbers, *map(float, numbers), *map(str, numbers), None, True]
    partitioner = Partitioner(parts)
    assert list(partitioner.codes(numbers)) == [partition_of(stable_hash(key), parts) for key in numbers]
    assert list(partitioner.codes(mixed)) == [partition_of(stable_hash(key), parts) for key in mixed]


@pytest.mark.parametrize("step", [1, 2, 8, 1000, 1 << 20])
def test_keys_are_spread_over_the_parts(step: int) -> None:
    for parts in (2, 3, 8):
        codes = Partitioner(parts).codes(list(range(0, 1000 * step, step)))
        assert min(map(codes.count, range(parts))) > 1000 / parts / 3
