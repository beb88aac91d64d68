"""Kafka as a source and a sink: the public functions and the type of a message.

Decides the public arguments. The source is in `source` (its part in a group in `group_member`, what it may commit in
`offsets`, reading again in `replay`), the sink in `sink` (reading back in `topic_tail`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from ...errors import GraphError
from .client import checked_config, checked_servers, checked_topic, client
from .message import KafkaMessage
from .sink import KafkaSink
from .source import KafkaSource

__all__ = ["KafkaMessage", "KafkaSink", "KafkaSource", "kafka", "kafka_sink"]


def kafka(
    topic: str,
    *,
    group: str,
    bootstrap_servers: str | Sequence[str],
    stop_at_end: bool = False,
    start: Literal["earliest", "latest"] = "earliest",
    config: Mapping[str, Any] | None = None,
) -> KafkaSource:
    """Read a Kafka topic as a member of a consumer group: every event is a `KafkaMessage`.

    Offsets are committed when every number up to them is released, never by the client itself: without `checkpoint=`
    a message is handled at least once. With `stop_at_end` the source ends behind the messages that are there when it
    is opened. `start` is where a partition begins of which the group has no offset. `config` takes further settings
    of confluent-kafka, such as `security.protocol`.

    Raises `GraphError` for arguments of another shape, settings that are sluiceway's own, and a missing
    confluent-kafka; brokers and topic are looked up when a run starts.
    """
    client("kafka")
    if not isinstance(group, str) or not group:
        raise GraphError("cannot make kafka(): group must be the name of a consumer group; pass group='...'")
    if start not in ("earliest", "latest"):
        raise GraphError("cannot make kafka(): start is 'earliest' or 'latest'; pass one of them")
    return KafkaSource(
        checked_topic(topic, "kafka"),
        group,
        checked_servers(bootstrap_servers, "kafka"),
        bool(stop_at_end),
        start,
        checked_config(config, "kafka"),
    )


def kafka_sink(
    topic: str,
    *,
    bootstrap_servers: str | Sequence[str],
    key: Callable[[Any], str | bytes | None] | None = None,
    value: Callable[[Any], str | bytes | None] | None = None,
    config: Mapping[str, Any] | None = None,
) -> KafkaSink:
    """Write events to a Kafka topic, in order within each partition.

    An event is bytes or `str`, or `value` makes that of it (`None`: a tombstone); `key` gives the key, by which
    confluent-kafka chooses the partition. Each message carries the header `sluiceway` with `run/seq/index`, by which a
    resumed run finds what is there already. `config` takes further settings of confluent-kafka.

    Raises `GraphError` for arguments of another shape, settings that are sluiceway's own, and a missing
    confluent-kafka; brokers and topic are looked up when a run starts.
    """
    client("kafka_sink")
    for name, function in (("key", key), ("value", value)):
        if function is not None and not callable(function):
            raise GraphError(f"cannot make kafka_sink(): {name} must be a function of the event; pass one, or leave it out")
    return KafkaSink(
        checked_topic(topic, "kafka_sink"),
        checked_servers(bootstrap_servers, "kafka_sink"),
        key,
        value,
        checked_config(config, "kafka_sink"),
    )
