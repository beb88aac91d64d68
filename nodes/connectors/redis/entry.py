"""One entry of a Redis stream as an event; every worker imports it, so it imports next to nothing."""

from __future__ import annotations

from typing import NamedTuple

from ...public import public


@public
class RedisEntry(NamedTuple):
    """One entry as `sluiceway.redis` returns it: its id in the stream and its fields, in their order."""

    id: str
    fields: dict[bytes, bytes]
