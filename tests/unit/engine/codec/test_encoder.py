"""What an encoder remembers of the encodings that it has tried."""

from __future__ import annotations

from typing import Any

import ormsgpack
import pytest
from sluiceway.engine.codec import codec, pickling
from sluiceway.engine.codec.codec import (
    MSGPACK,
    PICKLE,
    Encoder,
    decode,
)


def test_an_encoder_tries_a_refused_encoding_again_only_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[int] = []

    class Watched:
        @staticmethod
        def packb(events: list[Any], option: int) -> bytes:
            packed.append(len(events))
            return ormsgpack.packb(events, option=option)

    monkeypatch.setattr(codec, "ormsgpack", Watched)
    encoder = Encoder()
    for _ in range(65):
        assert encoder.encode([{1: 1}]).codec == PICKLE
    assert len(packed) == 1
    assert encoder.encode([{"1": 1}]).codec == MSGPACK
    assert len(packed) == 2


def test_an_encoder_remembers_that_only_definitions_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    dump = pickling.dump

    def watched(events: list[Any], *, separate: bool, by_value: bool) -> Any:
        asked.append(by_value)
        return dump(events, separate=separate, by_value=by_value)

    monkeypatch.setattr(pickling, "dump", watched)
    encoder = Encoder()
    for _ in range(3):
        (function,) = decode(encoder.encode([lambda: 42]))
        assert function() == 42
    assert asked == [False, True, True, True]
