"""The codec by example: exactness, independence, frames and errors."""

from __future__ import annotations

import collections
import datetime as dt
import gc
import io
import threading
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar, NamedTuple

import numpy as np
import ormsgpack
import pytest
from sluiceway.engine.codec.codec import (
    MSGPACK,
    PICKLE,
    RAW,
    CodecError,
    Payload,
    copies,
    decode,
    encode,
    is_atomic,
)

BIG = 20_000


@dataclass
class Job:
    number: int
    tags: list[str] = field(default_factory=list)
    lock: Any = None


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    held: Any = None


class Colour(Enum):
    RED = 1


class Pair(NamedTuple):
    left: Any
    right: Any


class Raising:
    def __init__(self, secret: str) -> None:
        self.secret = secret

    def __reduce__(self) -> Any:
        raise LookupError(self.secret)


class FailsToLoad:
    def __setstate__(self, state: Any) -> None:
        raise LookupError("not today")

    def __getstate__(self) -> Any:
        return {"a": 1}


class Hides:
    """Gives the same list for every instance, which no walk over attributes can see."""

    shared: ClassVar[list[int]] = []

    def __reduce__(self) -> Any:
        return Hides._rebuilt, (Hides.shared,)

    @staticmethod
    def _rebuilt(held: list[int]) -> Hides:
        self = Hides()
        self.held = held
        return self

    held: list[int]


#: Makers of things that can be changed.
MAKERS = [list, dict, lambda: Job(0), lambda: bytearray(b"x"), lambda: np.zeros(3)]


def over_the_wire(payload: Payload, *, writable: bool = True) -> Payload:
    """Return the payload as a socket would: other memory, as views."""
    make = (lambda frame: memoryview(bytearray(frame))) if writable else (lambda frame: memoryview(bytes(frame)))
    return Payload(payload.codec, tuple(make(frame) for frame in payload.frames))


def trip(events: list[Any]) -> list[Any]:
    return decode(over_the_wire(encode(events)), len(events))


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], MSGPACK),
        ([1, "a", None, 2.5, True, b"x"], MSGPACK),
        ([{"a": [1, {"b": None}]}] * 3, MSGPACK),
        ([2**64 - 1, -(2**63)], MSGPACK),
        ([2**64], PICKLE),
        (["\ud800"], PICKLE),
        ([{1: 2}], PICKLE),
        ([(1, 2)], PICKLE),
        ([bytearray(b"x")], PICKLE),
        ([{"a": [bytearray(b"x")]}], PICKLE),
        ([{"a": 1, "b": "two"}, {"a": 1, "b": b"two"}], MSGPACK),
        ([{"a": 1}, {"a": bytearray(b"x")}, {"a": 2}], PICKLE),
        ([{"a": "x" * 1000}, {"a": bytearray(b"x")}, {"a": 2}], PICKLE),
        ([{"a": 1}, {"a": Decimal(1)}, {"a": 2}], PICKLE),
        ([{"a": 1}, {"a": 2**70}, {"a": (1, 2)}], PICKLE),
        ([{"a": 1}, {2: 1}], PICKLE),
        ([b"x" * BIG, bytearray(BIG), "é" * BIG], RAW),
        ([b"x" * BIG, b"x"], MSGPACK),
        (["x" * BIG + "\ud800"], PICKLE),
        ([dt.datetime(2024, 1, 1), Colour.RED, Job(1), Point(2), Pair(1, [2])], PICKLE),
    ],
)
def test_each_batch_takes_the_cheapest_exact_encoding(events: list[Any], expected: int) -> None:
    assert encode(events).codec == expected
    result = trip(events)
    assert result == events
    assert list(map(type, result)) == list(map(type, events))


def test_types_that_msgpack_silently_changes_stay_what_they_are() -> None:
    (event,) = trip([{"a": bytearray(b"1"), "b": {"c": [bytearray(b"2")]}}])
    assert type(event["a"]) is bytearray
    assert type(event["b"]["c"][0]) is bytearray
    for foreign in (ormsgpack.Ext(1, b"x"), ormsgpack.Fragment(b"\x01")):
        with pytest.raises(CodecError):
            encode([{"a": foreign}])


def test_what_can_be_changed_is_not_shared_between_flat_events_though_it_has_a_hash() -> None:
    numbers = iter(range(3))
    assert hash(numbers)
    events = [{"a": numbers}, {"a": numbers}]
    assert not any(map(gc.is_tracked, events))
    first, second = trip(events)
    assert [next(first["a"]), next(second["a"])] == [0, 0]


def test_nesting_beyond_what_msgpack_takes_is_carried_all_the_same() -> None:
    for depth in (10, 127, 128, 253, 254, 255, 256, 300):
        event: Any = 1
        for _ in range(depth):
            event = [event]
        assert trip([event]) == [event]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("companion", [None, 1, (1,), threading.Lock, Hides])
def test_what_one_event_shares_inside_stays_shared_whatever_is_beside_it(make: Any, companion: Any) -> None:
    part = make()
    events = [{"a": part, "b": [part]}] + ([] if companion is None else [companion])
    first = trip(events)[0]
    assert first["a"] is first["b"][0]
    assert type(first["a"]) is type(part)


def test_a_cycle_inside_an_event_is_kept() -> None:
    event: dict[str, Any] = {"children": []}
    event["children"].append(event)
    ring: list[Any] = []
    ring.append(ring)
    first, second = trip([event, ring])
    assert first["children"][0] is first
    assert second[0] is second


def _shared_through(part: Any) -> list[list[Any]]:
    """Return batches of two events that share `part` in different ways."""
    holder = (part,)
    return [
        [part, part],
        [[part], [part]],
        [[part], {"deeper": {"x": [part]}}],
        [part, [part]],
        [holder, holder],
        [[holder], [holder]],
        [Job(1, part), Job(2, part)],
        [Point(1, part), Point(2, part)],
        [Pair(1, part), Pair(2, part)],
        [frozenset({holder} if isinstance(part, Point) else ()), part, part],
        [collections.OrderedDict(a=part), collections.deque([part])],
    ]


def _identities(event: Any, found: set[int]) -> set[int]:
    """Collect the ids of everything in `event` that can be changed."""
    if id(event) in found:
        return found
    if isinstance(event, (list, dict, Job, bytearray, np.ndarray, collections.deque)):
        found.add(id(event))
    if isinstance(event, dict):
        event = list(event.values())
    if isinstance(event, (list, tuple, frozenset, collections.deque)):
        for item in event:
            _identities(item, found)
    if isinstance(event, Job):
        _identities(event.tags, found)
    if isinstance(event, Point):
        _identities(event.held, found)
    return found


@pytest.mark.parametrize("batch", range(11))
@pytest.mark.parametrize("make", [*MAKERS, lambda: [[1]]])
def test_no_two_events_share_anything_after_decoding(batch: int, make: Any) -> None:
    first, *others = trip(_shared_through(make())[batch])
    seen = _identities(first, set())
    for other in others:
        own = _identities(other, set())
        assert seen.isdisjoint(own)
        seen |= own


def test_sharing_that_only_pickle_sees_does_not_couple_events() -> None:
    first, second = trip([Hides(), Hides()])
    first.held.append(1)
    assert second.held == []


def test_arrays_of_objects_are_independent() -> None:
    part = [1]
    first, second = trip([np.array([part, None], dtype=object), np.array([part, None], dtype=object)])
    first[0].append(2)
    assert second[0] == [1]


def test_events_of_one_batch_may_be_many_and_of_any_kind() -> None:
    shared = [0]
    events = [shared] * 500 + [(i, {"x": i}) for i in range(500)] + [Job(i, shared) for i in range(500)]
    assert trip(events) == events


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("size", [10, BIG])
def test_arrays_and_bytearrays_arrive_writable(size: int, writable: bool) -> None:
    sent = np.arange(size, dtype=np.int64)
    locked = np.frombuffer(bytes(size * 8), dtype=np.int64)
    for events in ([sent, locked, np.broadcast_to(np.int64(1), (size,))], [{"a": sent}, {"a": locked}]):
        for event in decode(over_the_wire(encode(events), writable=writable)):
            array = event["a"] if isinstance(event, dict) else event
            array += 1
    result = decode(over_the_wire(encode([bytearray(size)]), writable=writable))
    result[0][0] = 7
    assert type(result[0]) is bytearray
    assert sent[0] == 0


def test_a_large_array_travels_uncopied_from_end_to_end() -> None:
    sent = np.zeros(BIG)
    payload = encode([sent])
    assert len(payload.frames) == 2
    assert np.shares_memory(np.frombuffer(payload.frames[1]), sent)
    arrived = over_the_wire(payload)
    (result,) = decode(arrived)
    assert np.shares_memory(np.frombuffer(arrived.frames[1]), result)
    assert payload.nbytes >= sent.nbytes


def test_copies_are_independent_also_of_large_buffers() -> None:
    array, block, job = np.zeros(BIG), bytearray(BIG), Job(1)
    result = copies([array, block, job])
    result[0][0], result[1][0] = 1.0, 1
    result[2].tags.append("x")
    assert (array[0], block[0], job.tags) == (0.0, 0, [])
    only_block = copies([block])
    only_block[0][0] = 1
    assert block[0] == 0


def test_atomic_events_are_their_own_copies() -> None:
    events = [1, "a", b"b", 2.0, None, True]
    assert is_atomic(events)
    assert copies(events) is events
    assert not is_atomic([*events, ()])
    assert not is_atomic([Colour.RED])


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Job(1, lock=threading.Lock()), ["type test_codec.Job", "attribute 'lock' is a _thread.lock"]),
        (Point(1, Job(1, lock=threading.Lock())), ["attribute 'held', attribute 'lock' is a _thread.lock"]),
        ({"secret": [1, threading.Lock()]}, ["type dict", "value 0, item 1 is a _thread.lock"]),
        (memoryview(b"secret"), ["memoryview", "bytes(view)"]),
        ((1, memoryview(b"secret")), ["item 1 is a memoryview", "bytes(view)"]),
        ((n for n in "secret"), ["type generator"]),
        (io.TextIOWrapper(io.BytesIO()), ["TextIOWrapper"]),
        (Raising("secret"), ["type test_codec.Raising", "LookupError"]),
        ([Raising("secret")], ["item 0 is a test_codec.Raising", "LookupError"]),
    ],
)
@pytest.mark.parametrize("companion", [1, {"a": (1,)}])
def test_an_event_that_cannot_be_encoded_is_named_without_its_value(event: Any, words: Any, companion: Any) -> None:
    with pytest.raises(CodecError) as caught:
        encode([companion, companion, event, event])
    assert caught.value.position == 2
    for word in words:
        assert word in str(caught.value)
    assert "secret" not in str(caught.value)


def test_nesting_beyond_all_encodings_is_an_error_of_the_codec() -> None:
    event: Any = 1
    for _ in range(100_000):
        event = [event]
    with pytest.raises(CodecError, match="nested too deep") as caught:
        encode([0, event])
    assert caught.value.position == 1
    while isinstance(event, list):  # taken apart by hand: dropping it at once would recurse
        event = event.pop()


def test_an_event_that_cannot_be_built_is_an_error_of_the_codec() -> None:
    payload = encode([FailsToLoad()])
    with pytest.raises(CodecError, match="LookupError") as caught:
        decode(payload)
    assert isinstance(caught.value.__cause__, LookupError)


@pytest.mark.parametrize(
    "payload",
    [
        Payload(PICKLE, ()),
        Payload(9, (b"\x90",)),
        Payload(MSGPACK, (b"\x01",)),
        Payload(MSGPACK, (b"\x90", b"")),
        Payload(MSGPACK, (b"\x91\xd4\x01x",)),
        Payload(RAW, (b"\x90",)),
        Payload(RAW, (ormsgpack.packb(["b", [3]]), b"12")),
        Payload(RAW, (ormsgpack.packb(["b", [3]]),)),
        Payload(RAW, (ormsgpack.packb(["bb", [3]]), b"123")),
        Payload(RAW, (ormsgpack.packb(["?", [3]]), b"123")),
        Payload(RAW, (ormsgpack.packb(["s", [1]]), b"\xff")),
        Payload(PICKLE, (b"",)),
        Payload(PICKLE, (b"N.N.",)),
        Payload(PICKLE, (b"N.", b"left over")),
        Payload(PICKLE, (b"cno_such_module\nthing\n.",)),
    ],
)
def test_bytes_that_encode_did_not_write_are_refused(payload: Payload) -> None:
    with pytest.raises(CodecError):
        decode(payload)


def test_another_number_of_events_than_announced_is_refused() -> None:
    with pytest.raises(CodecError, match="2 events where 3"):
        decode(encode([1, 2]), 3)


@pytest.mark.parametrize("span", [range(5), range(10, 0, -3), range(0), range(7, 8), range(2**70, 2**70 + 3)])
def test_a_range_arrives_as_its_numbers(span: range) -> None:
    payload = encode(span)
    assert decode(payload, len(span)) == list(span)
    if span.stop < 2**63:
        assert payload.nbytes < 32


def test_a_range_that_names_more_than_was_announced_is_never_written_down() -> None:
    with pytest.raises(CodecError, match="where 3 were announced"):
        decode(encode(range(2**62)), 3)
