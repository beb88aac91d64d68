"""What one Kafka message is as an event; it is imported by every worker, so it needs next to nothing."""

from __future__ import annotations

from typing import NamedTuple

from ...public import public


@public
class KafkaMessage(NamedTuple):
    """One message as `sluiceway.kafka` gives it: what was sent, and where it stands.

    `key` and `value` are bytes or `None` (a tombstone), `headers` pairs of name and bytes in the order they were sent,
    `timestamp` milliseconds since 1970 UTC, or `None` where the message has none.
    """

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    topic: str
    partition: int
    offset: int
    timestamp: int | None
