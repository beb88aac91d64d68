"""Long batches in blocks: any part of them alone, joined without being unpacked, and nothing but errors from damage."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sluiceway.engine.codec import blocks
from sluiceway.engine.codec.block_reader import BlockReader
from sluiceway.engine.codec.blocks import MAX_BLOCK_EVENTS, MIN_BLOCK_EVENTS
from sluiceway.engine.codec.codec import (
    BLOCKS,
    MSGPACK,
    PICKLE,
    SPAN,
    CodecError,
    Encoder,
    Payload,
    blocks_of,
    decode,
    decode_part,
    encode,
    join_payloads,
)

FLAT = [{"id": n, "user": "ada", "score": n / 2} for n in range(3 * MIN_BLOCK_EVENTS)]


def test_a_long_batch_is_packed_in_blocks() -> None:
    payload = encode(FLAT)
    assert payload.codec == BLOCKS
    assert len(payload.frames) == 1
    assert decode(payload, len(FLAT)) == FLAT
    assert encode(FLAT[: MIN_BLOCK_EVENTS]).codec == MSGPACK


def test_blocks_follow_the_size_of_events() -> None:
    encoder = Encoder()
    large = [{"text": "x" * 1000, "n": n} for n in range(4 * MIN_BLOCK_EVENTS)]
    ends = blocks_of(encoder.encode(large), len(large)).ends  # type: ignore[union-attr]
    assert list(ends) == [MIN_BLOCK_EVENTS * n for n in (1, 2, 3, 4)]
    encoder = Encoder()
    ends = blocks_of(encoder.encode(list(range(20_000))), 20_000).ends  # type: ignore[union-attr]
    assert list(ends) == [MIN_BLOCK_EVENTS, MIN_BLOCK_EVENTS + MAX_BLOCK_EVENTS, MIN_BLOCK_EVENTS + 2 * MAX_BLOCK_EVENTS, 20_000]


@pytest.mark.parametrize("odd", [(1, 2), bytearray(b"x"), {1: 2}, 1 << 80, [1, (2,)]], ids=lambda value: type(value).__name__)
def test_one_event_that_is_not_for_blocks_has_the_batch_packed_as_a_whole(odd: Any) -> None:
    events = [*FLAT, odd]
    payload = encode(events)
    assert payload.codec == PICKLE
    assert decode(payload) == events
    assert type(decode(payload)[-1]) is type(odd)


def test_an_event_that_cannot_be_packed_is_found_in_a_long_batch() -> None:
    with pytest.raises(CodecError) as caught:
        encode([*FLAT, (n for n in ()), *FLAT])
    assert caught.value.position == len(FLAT)


def test_events_of_several_blocks_are_independent() -> None:
    one = {"n": [1]}
    given = decode(encode([one] * (2 * MIN_BLOCK_EVENTS + 5)))
    given[0]["n"].append(2)
    assert given[1:] == [{"n": [1]}] * (len(given) - 1)
    assert one == {"n": [1]}


@pytest.mark.parametrize(
    "events", [FLAT, FLAT[:10], list(range(30_000)), range(7, 60_000, 3)], ids=["dicts", "few", "ints", "span"]
)
@given(data=st.data())
def test_any_part_is_what_a_slice_gives(events: Any, data: st.DataObject) -> None:
    found = blocks_of(Encoder().encode(events), len(events))
    assert found is not None
    assert found.ends[-1] == len(events)
    lo = data.draw(st.integers(0, len(events)))
    hi = data.draw(st.integers(lo, len(events)))
    assert found.load(lo, hi) == list(events[lo:hi])


def test_what_has_no_blocks() -> None:
    assert blocks_of(encode([(1, 2)]), 1) is None
    assert blocks_of(encode([b"x" * 20_000]), 1) is None


# -- joining ----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=6))
def test_payloads_are_joined_without_being_unpacked(sizes: list[int]) -> None:
    parts, events = [], []
    for size in sizes:
        part = FLAT[:size]
        parts.append((size, encode(part)))
        events += part
    joined = join_payloads(parts)
    assert joined is not None
    assert decode(joined, len(events)) == events
    found = blocks_of(joined, len(events))
    assert found is not None
    assert found.load(len(events) // 3, len(events)) == events[len(events) // 3 :]


def test_payloads_of_another_form_are_not_joined() -> None:
    assert join_payloads([(1, encode([1])), (1, encode([(2,)]))]) is None
    assert join_payloads([(0, encode([])), (1, encode([(2,)]))]) == encode([(2,)])


# -- damage -----------------------------------------------------------------------------------------------------

BODY = bytes(encode(FLAT).frames[0])


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_a_changed_byte_gives_events_or_an_error(at: int, by: int) -> None:
    body = bytearray(BODY)
    body[at] ^= by
    try:
        assert len(decode(Payload(BLOCKS, (bytes(body),)), len(FLAT))) == len(FLAT)
        found = blocks_of(Payload(BLOCKS, (bytes(body),)), len(FLAT))
        assert found is not None
    except CodecError:
        pass


@given(
    st.binary(max_size=40)
    | st.builds(lambda cut: BODY[cut:], st.integers(1, len(BODY)))
    | st.builds(lambda cut: BODY[:cut], st.integers(0, len(BODY) - 1))
)
def test_bytes_that_are_no_blocks_are_an_error(body: bytes) -> None:
    for codec in (BLOCKS, SPAN):
        with pytest.raises(CodecError):
            decode(Payload(codec, (body,)), len(FLAT))
    with pytest.raises(CodecError):
        blocks_of(Payload(BLOCKS, (body,)), len(FLAT))
    events, errors = decode_part(Payload(BLOCKS, (body,)), 3, 5, len(FLAT))
    assert (events, sorted(errors)) == ([None, None], [3, 4])


def test_a_table_that_names_more_than_there_is_is_refused_before_anything_is_unpacked() -> None:
    body = blocks.write_body([1 << 40], [b"\x90"])
    with pytest.raises(CodecError, match="1099511627776 events where 3"):
        blocks_of(Payload(BLOCKS, (body,)), 3)
    for span in (range(1 << 60), range(-(1 << 63), 1 << 63)):
        with pytest.raises(CodecError):
            blocks_of(encode(span), 3)


# -- in terms of numbers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "counts", [None, [1, 0, 2] * MIN_BLOCK_EVENTS, [0] * 5 + [3 * MIN_BLOCK_EVENTS] + [0] * 4], ids=["one", "some", "all"]
)
def test_pieces_cover_the_numbers_and_cut_between_blocks(counts: list[int] | None) -> None:
    start, size = 100, len(FLAT) if counts is None else len(counts)
    indices = None if counts is None else [7 + i for count in counts for i in range(count)]
    pieces = BlockReader(start, start + size, encode(FLAT), counts, indices)
    bounds = pieces.bounds(start, start + size)
    assert (bounds[0], bounds[-1]) == (start, start + size)
    assert bounds == sorted(set(bounds))
    columns = [pieces.column(lo, hi) for lo, hi in pairwise(bounds)]
    assert [event for column in columns for event in column.events] == FLAT
    if counts is None:
        assert len(columns) > 1
    else:
        assert [count for column in columns for count in column.counts or ()] == counts
        assert [index for column in columns for index in column.indices or ()] == indices
    middle = pieces.column(start + 3, start + size - 2)
    whole = [n for column in columns for n in column.numbers()]
    assert middle.numbers() == [name for name in whole if start + 3 <= name[0] < start + size - 2]


def test_no_block_is_unpacked_twice_along_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = encode(FLAT)
    unpacked = []
    real = blocks.ormsgpack.unpackb
    pieces = BlockReader(0, len(FLAT), payload, None, None)
    monkeypatch.setattr(blocks.ormsgpack, "unpackb", lambda body: unpacked.append(len(body)) or real(body))
    bounds = pieces.bounds(10, len(FLAT) - 10)
    for lo, hi in pairwise(bounds):
        pieces.column(lo, hi)
    assert len(unpacked) == len(bounds) - 1


@pytest.mark.parametrize("events", [FLAT, FLAT[:900]], ids=["blocks", "one"])
def test_a_block_that_is_asked_for_in_parts_is_unpacked_once(events: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = BlockReader(0, len(events), encode(events), None, None)
    unpacked = []
    real = blocks.ormsgpack.unpackb
    monkeypatch.setattr(blocks.ormsgpack, "unpackb", lambda body: unpacked.append(len(body)) or real(body))
    bounds = sorted({*range(0, len(events), 100), *pieces.bounds(0, len(events))})
    given = []
    for lo, hi in pairwise(bounds):
        for event in pieces.column(lo, hi).events:
            given.append(dict(event))
            event.clear()  # who has got it may change it
    assert given == events
    assert len(unpacked) == len(pieces.bounds(0, len(events))) - 1
    assert pieces.column(50, 60).events == events[50:60]  # again, as it came


def test_pieces_of_what_has_none_are_refused() -> None:
    with pytest.raises(CodecError):
        BlockReader(0, 2, encode([(1,), (2,)]), None, None)
    with pytest.raises(CodecError):
        BlockReader(0, len(FLAT) + 1, encode(FLAT), None, None)
