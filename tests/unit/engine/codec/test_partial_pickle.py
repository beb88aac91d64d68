"""One event out of a pickled batch: it equals what the whole batch gives, and no code of the others runs."""

from __future__ import annotations

import datetime
import decimal
import enum
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sluiceway.engine.codec.codec import PICKLE, Encoder, Payload, decode, decode_part
from sluiceway.engine.codec.errors import CodecError


class Colour(enum.Enum):
    RED = 1


@dataclass
class Pair:
    left: int
    right: object


LOADED: list[int] = []


class Noisy:
    """An event that notes its unpacking, and raises where it is told to."""

    def __init__(self, n: int, sour: bool = False) -> None:
        self.n = n
        self.sour = sour

    def __setstate__(self, state: dict[str, Any]) -> None:
        LOADED.append(state["n"])
        if state["sour"]:
            raise ValueError("sour")
        self.__dict__.update(state)

    def __repr__(self) -> str:
        return f"Noisy({self.n})"


class Reduced:
    """An event with a reduction of its own, so that each stands in a pickle of its own."""

    def __init__(self, n: int) -> None:
        LOADED.append(n)
        self.n = n

    def __reduce__(self) -> Any:
        return Reduced, (self.n,)

    def __repr__(self) -> str:
        return f"Reduced({self.n})"


#: Objects that events may share, for they cannot be changed.
SHARED: list[Any] = [
    decimal.Decimal("1.5"), datetime.datetime(2020, 1, 1), frozenset({1, "a"}), (1, 2, 3, 4, 5), Colour.RED, "text",
]  # fmt: skip


def draw(made: random.Random, depth: int = 0) -> Any:
    """Return a random event."""
    makers: list[Callable[[], Any]] = [
        made.random,
        lambda: made.choice(SHARED),
        lambda: (1,) * made.randrange(7),
        lambda: Noisy(made.randrange(100)),
        lambda: Pair(1, draw(made, depth + 1)),
        lambda: np.arange(5),
        lambda: np.zeros(5000),
        lambda: Reduced(made.randrange(100)) if made.random() < 0.1 else None,
    ]
    if depth < 3:
        makers += [
            lambda: [draw(made, depth + 1) for _ in range(made.randrange(4))],
            lambda: {at: draw(made, depth + 1) for at in range(made.randrange(4))},
        ]
    return made.choice(makers)()


@pytest.mark.parametrize("seed", range(20))
def test_parts_equal_the_whole(seed: int) -> None:
    made = random.Random(seed)
    for _ in range(40):
        events = [draw(made) for _ in range(made.choice([1, 1, 2, 3, 8]))]
        payload = Encoder().encode(events)
        lo = made.randrange(len(events))
        hi = made.randrange(lo, len(events)) + 1
        found, errors = decode_part(payload, lo, hi)
        assert errors == {}
        assert list(map(repr, found)) == list(map(repr, decode(payload)[lo:hi]))


def test_more_events_than_pickle_appends_at_once() -> None:
    made = random.Random(1)
    events = [draw(made) for _ in range(2100)]
    payload = Encoder().encode(events)
    for lo, hi in ((0, 1), (999, 1001), (2099, 2100), (500, 1800)):
        assert list(map(repr, decode_part(payload, lo, hi)[0])) == list(map(repr, events[lo:hi]))


@pytest.mark.parametrize("kind", [Noisy, Reduced])
def test_no_code_of_other_events_runs(kind: Any) -> None:
    payload = Encoder().encode([kind(n) for n in range(100)])
    assert payload.codec == PICKLE
    LOADED.clear()
    assert list(map(repr, decode_part(payload, 40, 42)[0])) == [f"{kind.__name__}(40)", f"{kind.__name__}(41)"]
    assert LOADED == [40, 41]


def test_only_events_that_raise_are_lost() -> None:
    events = [Noisy(n, sour=n in (3, 77)) for n in range(100)]
    payload = Encoder().encode(events)
    found, errors = decode_part(payload, 0, 100)
    assert [at for at, event in enumerate(found) if event is None] == [3, 77]
    assert {at: (error.position, str(error)) for at, error in errors.items()} == {
        at: (at, "the event cannot be unpacked: its own code raised ValueError: sour") for at in (3, 77)
    }
    assert all(isinstance(error.__cause__, ValueError) for error in errors.values())


def test_an_unknown_class_concerns_its_own_event_only() -> None:
    payload = Encoder().encode([Pair(1, None), Noisy(2), Pair(3, None)])
    body = bytes(payload.frames[0]).replace(b"\x05Noisy", b"\x05Nasty")
    found, errors = decode_part(Payload(PICKLE, (body, *payload.frames[1:])), 0, 3)
    assert (found[0], found[2]) == (Pair(1, None), Pair(3, None))
    assert "Nasty is not known in this process" in str(errors[1])


def test_marks_come_before_each_step() -> None:
    payload = Encoder().encode([Noisy(n) for n in range(10)])
    marks: list[tuple[int, int, int]] = []
    LOADED.clear()
    decode_part(payload, 2, 9, step=3, mark=lambda a, b: marks.append((a, b, len(LOADED))))
    assert marks == [(2, 5, 0), (5, 8, 3), (8, 9, 6)]


@pytest.mark.parametrize("body", [b"", b"N", b"garbage", b"\x80\x05]\x94(", b"\x80\x05K\x01."])
def test_damage(body: bytes) -> None:
    found, errors = decode_part(Payload(PICKLE, (body,)), 0, 2, 2)
    assert found == [None, None]
    assert sorted(errors) == [0, 1]
    assert all(isinstance(error, CodecError) and "damaged" in str(error) for error in errors.values())


def test_a_count_that_is_not_the_announced_one() -> None:
    for events in ([1, 2, 3], [Noisy(1), Noisy(2), Noisy(3)]):
        found, errors = decode_part(Encoder().encode(events), 0, 2, 4)
        assert found == [None, None]
        assert "batch holds 3 events where 4 were announced" in str(errors[0])
