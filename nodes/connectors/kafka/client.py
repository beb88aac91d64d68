"""What the Kafka source and sink share: settings, the names of faults, and how a topic is looked up.

Decides which settings of confluent-kafka belong to sluiceway, and what an error of a client is called. Texts hold
names, numbers and the client's own texts, which never repeat a password.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import GraphError
from ..extras import need

LOG = logging.getLogger("sluiceway.kafka")
#: How long brokers may take to answer when a client starts, in seconds.
START_S = 30.0
_STEP_S = 1.0
_QUIET_S = 10.0
#: Beginnings of the names of errors that do not pass while a topic is read.
_LASTING = (
    "UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "INVALID_", "_INVALID_", "INCONSISTENT_GROUP",
    "UNSUPPORTED_", "_UNSUPPORTED", "_BAD_MSG", "_BAD_COMPRESSION", "_CRIT_SYS_RESOURCE", "_FS", "_AUTO_OFFSET_RESET",
)  # fmt: skip
_UNKNOWN = ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "LEADER_NOT_AVAILABLE")
#: Settings that sluiceway's guarantees depend on, with what to use instead.
_OURS = {
    "bootstrap.servers": "pass bootstrap_servers=",
    "group.id": "pass group=",
    "enable.auto.commit": "offsets are committed when every earlier number is released",
    "enable.auto.offset.store": "offsets are committed when every earlier number is released",
    "enable.partition.eof": "pass stop_at_end=True to end with the topic",
    "enable.idempotence": "without it the order within a partition is not kept",
    "transactional.id": "sluiceway.kafka_sink() uses no transactions",
    "on_commit": "sluiceway uses it",
    "error_cb": "sluiceway uses it",
    "logger": "clients log to the logger sluiceway.kafka",
}


def client(maker: str) -> Any:
    """Return the package confluent_kafka; raises `GraphError` if it is not installed."""
    return need("confluent_kafka", "kafka", f"{maker}()")


def checked_topic(topic: object, maker: str) -> str:
    """Return the topic's name, or raise `GraphError`."""
    if not isinstance(topic, str) or not topic or topic.startswith("^"):
        raise GraphError(f"cannot make {maker}(): the topic must be the name of one topic, not a pattern; pass its name")
    return topic


def checked_servers(servers: object, maker: str) -> str:
    """Return `host:port` of one or more brokers as one text, or raise `GraphError`."""
    names = [servers] if isinstance(servers, str) else list(servers) if isinstance(servers, Sequence) else []
    if not names or not all(isinstance(name, str) and name for name in names):
        raise GraphError(
            f"cannot make {maker}(): bootstrap_servers must name brokers; pass for example 'localhost:9092'"
        )
    return ",".join(names)


def checked_config(config: object, maker: str) -> dict[str, Any]:
    """Return a copy of the user's settings; raises `GraphError` for those that are sluiceway's own."""
    if config is not None and not isinstance(config, Mapping):
        raise GraphError(f"cannot make {maker}(): config must be a dict of confluent-kafka settings")
    settings = dict(config or {})
    for name in settings:
        if name in _OURS:
            raise GraphError(f"cannot make {maker}(): config must not set {name!r}; {_OURS[name]}")
    return settings


def is_lasting(error: Any) -> bool:
    """Whether an error among the messages read is final; the client recovers from all others by itself."""
    name = error.name()
    return error.fatal() or "AUTH" in name or name.startswith(_LASTING)


def fault(what: str, error: Any) -> Exception:
    """Return the exception for what a client could not do, from its error (`KafkaError` or `KafkaException`)."""
    error = error.args[0] if isinstance(error, Exception) and error.args else error
    name, text = (error.name(), error.str()) if hasattr(error, "str") else (type(error).__name__, str(error))
    kind: type[Exception] = OSError
    if "AUTH" in name:
        kind = PermissionError
    elif name in ("_TRANSPORT", "_TIMED_OUT", "_ALL_BROKERS_DOWN", "_RESOLVE"):
        kind = ConnectionError
    elif name in _UNKNOWN:
        kind = LookupError
    return kind(f"cannot {what}: {text} ({name})")


class ClientLog:
    """The `logger` of a client: passes on what it logs, of each kind one line every few seconds.

    A client repairs broken connections by itself and logs every attempt; what it cannot repair is raised, so nothing
    is logged above a warning.
    """

    def __init__(self) -> None:
        self._said_at: dict[str, float] = {}

    def log(self, level: int, text: str, *args: Any) -> None:
        """Log one line, as `logging.Logger.log` does; its first argument is its kind."""
        kind, now = str(args[0]) if args else text, time.monotonic()
        if now - self._said_at.get(kind, -_QUIET_S) >= _QUIET_S:
            self._said_at[kind] = now
            LOG.log(min(level, logging.WARNING), text, *args)


class ClientErrors:
    """Stores the final errors that a client reports outside its calls; errors that pass are ignored."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._first: Any = None

    def record(self, error: Any) -> None:
        """Record an error; the `error_cb` of a client."""
        if self._first is None and (error.fatal() or "AUTH" in error.name()):
            self._first = error

    def check(self) -> None:
        """Raise the first final error, if there was one."""
        if self._first is not None:
            raise fault(self._what, self._first)


def partitions_of(handle: Any, topic: str, what: str, faults: ClientErrors, *, wait_s: float) -> list[int]:
    """Return the partitions of a topic, in order.

    A topic that is not there is waited for up to `wait_s` (a broker may be making it), then a `LookupError`; brokers
    that cannot be reached are a `ConnectionError` after `START_S`.
    """
    refused = need("confluent_kafka", "kafka", "kafka()").KafkaException
    started = time.monotonic()
    while True:
        try:
            found = handle.list_topics(topic, timeout=_STEP_S).topics.get(topic)
        except refused as error:
            handle.poll(0)
            faults.check()
            if time.monotonic() - started >= START_S:
                raise fault(what, error) from None
            continue
        if found is not None and found.error is None and found.partitions:
            return sorted(found.partitions)
        if found is not None and found.error is not None and found.error.name() not in _UNKNOWN:
            raise fault(what, found.error)
        if time.monotonic() - started >= wait_s:
            raise LookupError(f"cannot {what}: the brokers have no topic {topic!r}; create it, or correct the name")
        handle.poll(0.1)
