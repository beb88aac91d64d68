"""The codec against everything that can be made of the types it promises to carry."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import math
import string
import uuid
from collections import OrderedDict, defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pytest
from drawing import drawn
from hypothesis import given
from hypothesis import strategies as st
from sluiceway.engine.codec.codec import MSGPACK, PICKLE, CodecError, Encoder, Payload, copies, decode, encode

BIG = 20_000


class Words(str):
    __slots__ = ()


class Number(int):
    pass


class Items(list[Any]):
    pass


class Table(dict[Any, Any]):
    pass


class Colour(enum.Enum):
    RED = "red"
    BLUE = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Bits(enum.Flag):
    A = 1
    B = 2


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Open:
    name: str
    held: Any


@dataclass(frozen=True, slots=True)
class Closed:
    name: str
    held: Any


zones = st.one_of(
    st.none(), st.just(dt.UTC), st.integers(-1439, 1439).map(lambda m: dt.timezone(dt.timedelta(minutes=m)))
)
arrays = st.one_of(
    st.sampled_from(["i1", "<i8", ">i4", "u2", "f4", "f8", "c16", "?", "S3", "U2", "M8[s]", "V5"]).map(
        lambda kind: np.zeros(3, dtype=kind)
    ),
    st.lists(st.floats(width=32), max_size=4).map(lambda v: np.array(v, dtype=np.float32)),
    st.sampled_from(
        [
            np.zeros((0, 3)),
            np.array(7),
            np.arange(12).reshape(3, 4)[:, ::2],
            np.asfortranarray(np.arange(12).reshape(3, 4)),
            np.arange(12).reshape(3, 4).T,
            np.arange(6)[::-1],
            np.array([(1, 2.5, "a")], dtype=[("x", "i4"), ("y", "f8"), ("z", "U3")]),
            np.array([1, "a", None, (1, 2)], dtype=object),
            np.arange(BIG),
            np.asfortranarray(np.arange(BIG).reshape(100, -1)),
            np.frombuffer(bytes(BIG), dtype=np.uint8),
            np.broadcast_to(np.int16(3), (4, 5)),
        ]
    ),
)
plain_atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(),
    st.binary(max_size=40),
)
hashable_atoms = st.one_of(
    plain_atoms,
    st.integers(),
    st.text(st.characters()),
    st.text(st.characters(categories=["Cs", "Ll"]), max_size=5),
    st.complex_numbers(),
    st.datetimes(timezones=zones),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.just(decimal.Decimal("-0")),
    st.fractions(),
    st.uuids(),
    st.sampled_from([Colour.RED, Colour.BLUE, Level.LOW, Bits.A | Bits.B, Ellipsis, NotImplemented]),
    st.sampled_from([int, Open, dt.datetime, PurePosixPath("/a/b"), range(3), Words("w"), Number(2**80), Number(1)]),
    st.sampled_from([np.float64(2.5), np.int8(3), np.bool_(True), np.datetime64("2024-01-01"), np.str_("a")]),
)
atoms = st.one_of(
    hashable_atoms,
    st.binary(max_size=40).map(bytearray),
    arrays,
    st.sampled_from([b"x" * BIG, "y" * BIG, bytearray(BIG)]),
)
keys = st.one_of(hashable_atoms, st.tuples(hashable_atoms), st.frozensets(hashable_atoms, max_size=2))


def holders(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, max_size=3)
    return st.one_of(
        several,
        several.map(tuple),
        several.map(Items),
        several.map(deque),
        st.dictionaries(keys, inner, max_size=3),
        st.dictionaries(st.text(string.ascii_letters), inner, max_size=3),
        st.dictionaries(keys, inner, max_size=3).map(Table),
        st.dictionaries(keys, inner, max_size=3).map(OrderedDict),
        st.dictionaries(keys, inner, max_size=3).map(lambda d: defaultdict(list, d)),
        st.sets(hashable_atoms, max_size=3),
        st.frozensets(hashable_atoms, max_size=3),
        st.builds(Open, st.text(), inner),
        st.builds(Closed, st.text(), inner),
        st.builds(Pair, inner, inner),
    )


events = st.recursive(atoms, holders, max_leaves=6)
json_events = st.recursive(
    plain_atoms,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal in type and value, all the way down; nan equals nan, 0.0 not -0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float) and not isinstance(a, np.generic):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.flags.fnc == b.flags.fnc and same(a.tolist(), b.tolist())
    if isinstance(a, decimal.Decimal):
        return a.as_tuple() == b.as_tuple()
    if isinstance(a, (list, tuple, deque)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a), list(b)) and same(list(a.values()), list(b.values()))
    if isinstance(a, (set, frozenset)):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    if is_dataclass(a) and not isinstance(a, type):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, dt.datetime):
        return bool(a == b) and a.tzinfo == b.tzinfo and a.fold == b.fold
    return bool(a == b)


def over_the_wire(payload: Payload) -> Payload:
    return Payload(payload.codec, tuple(memoryview(bytearray(frame)) for frame in payload.frames))


def changeable(value: Any, found: dict[int, Any]) -> dict[int, Any]:
    """Collect every object in `value` that can be changed in place."""
    if id(value) in found:
        return found
    if isinstance(value, (list, dict, set, bytearray, deque, np.ndarray, Open)):
        found[id(value)] = value
    if isinstance(value, dict):
        value = list(value.values())
    elif isinstance(value, np.ndarray) and value.dtype.hasobject:
        value = value.tolist()
    if isinstance(value, (list, tuple, deque)):
        for item in value:
            changeable(item, found)
    elif isinstance(value, (Open, Closed)):
        changeable(value.held, found)
    return found


@drawn(80, 2000, st.lists(events, max_size=5))
def test_what_arrives_equals_what_was_sent(batch: list[Any]) -> None:
    assert same(decode(over_the_wire(encode(batch)), len(batch)), batch)


@drawn(60, 500, st.lists(json_events, max_size=8))
def test_plain_events_travel_as_messagepack(batch: list[Any]) -> None:
    payload = encode(batch)
    assert payload.codec == MSGPACK
    assert same(decode(over_the_wire(payload)), batch)


@drawn(30, 300, st.lists(st.lists(events, max_size=3), min_size=1, max_size=6))
def test_the_memory_of_an_encoder_changes_no_event(batches: list[list[Any]]) -> None:
    encoder = Encoder()
    for batch in batches:
        assert same(decode(over_the_wire(encoder.encode(batch))), batch)


@drawn(
    100,
    1500,
    st.lists(events, min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 6), events), min_size=1, max_size=4),
)
def test_events_that_share_parts_arrive_and_are_copied_independent_of_each_other(
    parts: list[Any], recipe: list[tuple[int, Any]]
) -> None:
    part = parts[0]
    makers = [
        lambda own: part,
        lambda own: [part, own],
        lambda own: {"a": part, "b": own},
        lambda own: (part, own),
        lambda own: Open("x", part),
        lambda own: Closed("x", [part, part]),
        lambda own: Pair(part, {"deep": (part,)}),
    ]
    batch = [makers[which](own) for which, own in recipe]
    for result in (decode(over_the_wire(encode(batch))), copies([*batch, [part]])[:-1]):
        assert same(result, batch)
        seen: dict[int, Any] = changeable(batch, {})
        for event in result:
            own = changeable(event, {})
            assert seen.keys().isdisjoint(own)
            seen |= own


@drawn(80, 1000, events, st.lists(events, max_size=2), st.lists(events, max_size=2))
def test_an_event_shares_inside_itself_whatever_it_travels_with(part: Any, before: list[Any], after: list[Any]) -> None:
    event = {"first": [part], "second": part}
    arrived = decode(over_the_wire(encode([*before, event, *after])))[len(before)]
    if changeable(part, {}).keys() == {id(part)}:
        assert arrived["first"][0] is arrived["second"]
    assert same(arrived, event)


@drawn(100, 1500, st.lists(json_events, max_size=5), st.data())
def test_changed_messagepack_gives_other_events_or_an_error_of_the_codec(batch: list[Any], data: st.DataObject) -> None:
    body = bytearray(encode(batch).frames[0])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(CodecError):
        assert type(decode(Payload(MSGPACK, (body,)))) is list


@given(st.binary(max_size=60), st.lists(st.binary(max_size=5), max_size=2), st.sampled_from([0, 2, 3, 255]))
def test_garbage_is_an_error_of_the_codec(body: bytes, buffers: list[bytes], number: int) -> None:
    with suppress(CodecError):
        assert type(decode(Payload(number, (body, *buffers)))) is list


@drawn(80, 1000, st.lists(events, min_size=1, max_size=3), st.data())
def test_a_payload_that_is_cut_anywhere_is_an_error_of_the_codec(batch: list[Any], data: st.DataObject) -> None:
    payload = encode(batch)
    which = data.draw(st.integers(0, len(payload.frames) - 1))
    frame = memoryview(payload.frames[which]).cast("B")
    cut = frame[: data.draw(st.integers(0, frame.nbytes - 1))]
    frames = (*payload.frames[:which], cut, *payload.frames[which + 1 :])
    with pytest.raises(CodecError):
        decode(Payload(payload.codec, frames))
    if len(payload.frames) > 1:
        with pytest.raises(CodecError):
            decode(Payload(payload.codec, payload.frames[:-1]))


def test_every_cut_of_a_small_pickle_is_noticed() -> None:
    shared = [1]
    for batch in ([(1, 2), (3, 4)], [shared, shared, {1: 2}]):
        payload = encode(batch)
        assert payload.codec == PICKLE
        body = bytes(payload.frames[0])
        for end in range(len(body)):
            with pytest.raises(CodecError):
                decode(Payload(PICKLE, (body[:end],)))


def test_the_measure_of_sameness_can_fail() -> None:
    assert not same([True], [1])
    assert not same([0.0], [-0.0])
    assert not same((1,), Pair(1, 2))
    assert not same({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert not same(np.zeros(3), np.zeros(3, dtype="f4"))
    assert same({"a": [math.nan, Fraction(1, 3)]}, {"a": [math.nan, Fraction(1, 3)]})
    assert same(uuid.UUID(int=1), uuid.UUID(int=1))
