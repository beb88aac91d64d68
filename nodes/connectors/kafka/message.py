"""One Kafka message as an event; every worker imports it, so it imports next to nothing."""

from __future__ import annotations

from typing import NamedTuple

from ...public import public


@public
class KafkaMessage(NamedTuple):
    """One message as `sluiceway.kafka` returns it: what was sent, and its partition and offset.

    `key` and `value` are bytes or `None` (a tombstone), `headers` pairs of name and bytes in the order they were sent,
    `timestamp` milliseconds since 1970 UTC, or `None` if the message has none.
    """

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    topic: str
    partition: int
    offset: int
    timestamp: int | None
