"""How much a `flat_map` may return for one event, whether its outputs are awaited or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sluiceway.nodes.ownership.ownership import Ownership
from sluiceway.nodes.program import steps

OWNER = Ownership(list, "the handler gave")


async def awaited(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(20)


def test_what_is_awaited_is_collected_as_the_rest() -> None:
    assert asyncio.run(steps.collect_async(awaited(3), OWNER)) == steps.collect((bytes(20) for _ in range(3)), OWNER, alone=True)


@pytest.mark.parametrize(("limit", "size"), [("MAX_OUTPUTS", 5), ("MAX_OUTPUT_BYTES", 200)])
def test_both_have_the_same_limits(limit: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, limit, size)
    monkeypatch.setattr(steps, "_PIECE_EVENTS", 1)
    with pytest.raises(ValueError, match="flat_map gave more than") as plain:
        steps.collect((bytes(20) for _ in range(10)), OWNER, alone=True)
    with pytest.raises(ValueError, match="flat_map gave more than") as asynchronous:
        asyncio.run(steps.collect_async(awaited(10), OWNER))
    assert str(plain.value) == str(asynchronous.value)
