"""Ready-made graph: the logins out of a Kafka topic of user events, in order.

    sluiceway run sluiceway.graphs.kafka_logins:logins --set bootstrap_servers=localhost:9092

Every message of the topic `event_topic` is one JSON object with a "type", as UTF-8 text. Logins are printed, one JSON
object a line, in the order in which their messages were read; what is not a user event goes to the dead letters. The
offsets of the group `event_group` follow what has been printed, so the next run goes on there.

To make it your own, copy it and write `from sluiceway import Graph, jsonl, kafka` in the place of its relative imports.
"""

from __future__ import annotations

import json
from typing import Any

from ..nodes.connectors.kafka.api import KafkaMessage, kafka
from ..nodes.files.api import jsonl
from .builder.graph import Graph


def logins(
    *,
    bootstrap_servers: str = "localhost:9092",
    event_topic: str = "event_topic",
    event_group: str = "event_group",
    output: str = "-",
    rejected: str = "rejected.jsonl",
    stop_at_end: bool = False,
) -> Graph:
    """Wire the graph: user events come from `event_topic`, logins go to `output` (`-` prints them), others nowhere.

    With `stop_at_end` it ends behind the messages that were there when it began; otherwise it waits for more.
    """
    graph = Graph("logins")
    source = kafka(event_topic, group=event_group, bootstrap_servers=bootstrap_servers, stop_at_end=stop_at_end)
    events = graph.source(source, name="events").map(parse, on_error="dead_letter")
    events.filter(is_login).sink(jsonl(output))
    graph.dead_letters().sink(jsonl(rejected))
    return graph


def parse(message: KafkaMessage) -> dict[str, Any]:
    """Read the value of one message; raises `ValueError` for what is not a JSON object with a type."""
    event = json.loads(message.value or b"")
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise ValueError("a user event is a JSON object with a type")
    return event


def is_login(event: dict[str, Any]) -> bool:
    """Whether an event is a login."""
    return bool(event["type"] == "user_login")
