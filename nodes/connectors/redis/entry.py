"""What one entry of a Redis stream is as an event; it is imported by every worker, so it needs next to nothing."""

from __future__ import annotations

from typing import NamedTuple

from ...public import public


@public
class RedisEntry(NamedTuple):
    """One entry as `sluiceway.redis` gives it: its id in the stream and its fields, in their order."""

    id: str
    fields: dict[bytes, bytes]
