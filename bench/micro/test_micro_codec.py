"""The codec: one batch into a payload and back."""

from __future__ import annotations

from typing import Any

import pytest
from sluiceway.engine.codec.codec import Encoder, decode

from bench.micro.cases import blobs, by_size, dicts, ints, timed

events_of = pytest.mark.parametrize("make", [ints, dicts, blobs])


@by_size
@events_of
def test_encode(benchmark: Any, make: Any, size: int) -> None:
    events, encoder = make(size), Encoder()
    payload = timed(benchmark, size, lambda: encoder.encode(events))
    assert decode(payload) == events


@by_size
@events_of
def test_decode(benchmark: Any, make: Any, size: int) -> None:
    events = make(size)
    payload = Encoder().encode(events)
    assert timed(benchmark, size, lambda: decode(payload, size)) == events
