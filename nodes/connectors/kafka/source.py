"""The Kafka source and its reader.

Decides what one read returns, what its extent and the position are, when a source that stops at the end has ended, and
which thread closes the client: the reading one, also when another thread calls `close`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import GraphError, kind_of
from .client import fault, is_lasting, partitions_of
from .group_member import GroupMember, leave
from .message import KafkaMessage
from .offsets import Extent, GroupOffsets
from .replay import Refetch

_WAIT_S = 0.1
MAX_MESSAGES = 10_000  # messages in one read
_TOPIC_S = 3.0
_END = "end"

#: Defaults below the user's settings.
DEFAULTS = {
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    # what the client reads ahead is outside the run's budget: kept small
    "queued.max.messages.kbytes": 16_384,
}


@dataclass(frozen=True, slots=True)
class KafkaSource:
    """A topic as a source, read as a member of a group; made by `sluiceway.kafka`."""

    topic: str
    group: str
    bootstrap_servers: str
    stop_at_end: bool = False
    start: str = "earliest"
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)

    #: Partitions may come in another order when they are read again.
    replay = "logged"
    #: Its readers commit the offsets that are acknowledged.
    acknowledges = True

    def __repr__(self) -> str:
        return f"kafka({self.topic!r}, group={self.group!r})"

    @property
    def name(self) -> str:
        """The topic, which names the node."""
        return self.topic

    def settings(self) -> dict[str, Any]:
        """Return what decides which messages are read."""
        return {
            "brokers": self.bootstrap_servers,
            "topic": self.topic,
            "group": self.group,
            "start": self.start,
            "isolation.level": self.config.get("isolation.level"),
        }

    def client_settings(self) -> dict[str, Any]:
        """Return the settings of the consumer."""
        own = {"bootstrap.servers": self.bootstrap_servers, "group.id": self.group}
        return {**DEFAULTS, **self.config, **own}

    def reader(self, position: object | None, /) -> KafkaReader:
        """Open the topic at the group's offsets, or at a position that one of its readers returned.

        Raises `LookupError` for a topic that is not there and `ConnectionError` for brokers that do not answer.
        """
        if position is not None and not isinstance(position, Mapping):
            raise GraphError(f"cannot go on from {kind_of(position)}: the position in a topic is a dict")
        return KafkaReader(self, dict(position or {}))


class KafkaReader:
    """Reads one topic as a member of its group."""

    def __init__(self, source: KafkaSource, position: dict[Any, Any]) -> None:
        self._source = source
        self._what = f"read from {source!r}"
        ends: dict[int, int] | None = position.pop(_END, None)
        self._offsets = GroupOffsets(position)
        self._begun = dict(position)
        self._extent = Extent()
        self._kept: list[Any] = []
        self._refetch: Refetch | None = None
        self._message_bytes = 0.0
        self._closing = False
        self._closed = False
        self._thread = 0  # the reading thread, which alone uses the client
        self._member = GroupMember(source.topic, source.client_settings(), self._offsets, latest=source.start == "latest")
        try:
            self._ends = self._find_ends(ends)
        except BaseException:
            leave(self._member.consumer)
            raise

    def _find_ends(self, ends: dict[int, int] | None) -> dict[int, int] | None:
        member, topic = self._member, self._source.topic
        partitions = partitions_of(member.consumer, topic, self._what, member.faults, wait_s=_TOPIC_S)
        if not self._source.stop_at_end:
            return None
        return ends if ends is not None else {partition: member.high(partition) for partition in partitions}

    def read(self, limit: int, max_bytes: int, /) -> Sequence[KafkaMessage] | None:
        """Return the messages that are there, waiting a moment if there are none; `None` at the end.

        Raises `LookupError` for an offset that is gone, `ConnectionError`, `PermissionError` or `OSError` for what
        the client cannot recover from by itself.
        """
        self._thread = threading.get_ident()
        return None if self._closing else self._read(limit, max_bytes)

    def _read(self, limit: int, max_bytes: int) -> list[KafkaMessage] | None:
        self._end_replay()
        kept, self._kept = self._kept, []
        events = self._accept(kept) if kept else []
        if not events:
            count = min(limit, MAX_MESSAGES, max(1, int(max_bytes / self._message_bytes)) if self._message_bytes else limit)
            events = self._accept(self._member.read(max(count, 1), _WAIT_S))
        self._member.commit()
        return None if not events and self._at_end() else events

    def _accept(self, messages: Iterable[Any]) -> list[KafkaMessage]:
        accept, ends, extent = self._offsets.accept, self._ends, Extent()
        events: list[KafkaMessage] = []
        nbytes = 0
        for message in messages:
            error = message.error()
            if error is not None:
                self._handle_error(message, error)
                continue
            partition, offset = message.partition(), message.offset()
            if (ends is not None and offset >= ends.get(partition, 0)) or not accept(partition, offset):
                continue
            extent.add(partition, offset)
            events.append(as_event(message))
            nbytes += len(message)
        if events:
            self._extent = extent
            self._message_bytes = nbytes / len(events)
        return events

    def _handle_error(self, message: Any, error: Any) -> None:
        name = error.name()
        if name == "_PARTITION_EOF":
            partition, offset = message.partition(), message.offset()
            # messages behind the end are not returned, so there is nothing to skip
            self._offsets.skip_to(partition, offset if self._ends is None else min(offset, self._ends.get(partition, 0)))
        elif name == "_AUTO_OFFSET_RESET":
            raise LookupError(
                f"cannot {self._what}: offset {message.offset()} of partition {message.partition()} is gone "
                f"({error.str()}); keep messages for longer than they wait to be read, or set the offsets of the group "
                "anew to go on without them"
            )
        elif is_lasting(error):
            raise fault(self._what, error)

    def _at_end(self) -> bool:
        if self._ends is None or not self._member.joined or self._kept:
            return False
        behind = self._offsets.next
        for partition in self._offsets.owned:
            if behind.get(partition, 0) > self._ends.get(partition, 0):
                self._check_there(partition, behind[partition])
        return all(behind.get(p, 0) >= self._ends.get(p, 0) for p in self._offsets.owned)

    def _check_there(self, partition: int, offset: int) -> None:
        """Raise `LookupError` for a place behind the end of a partition: it is of a topic that was there before."""
        high = self._member.high(partition)
        if offset > high:
            raise LookupError(
                f"cannot {self._what}: it is to be read from offset {offset} of partition {partition}, which ends at {high}: "
                "the topic was deleted and made anew; set the offsets of the group anew, or read with another group"
            )

    def position(self) -> dict[Any, Any]:
        """Return `{partition: next offset}`; with `stop_at_end`, also the ends to stop at, as `"end"`."""
        place: dict[Any, Any] = dict(self._offsets.next)
        if self._ends is not None:
            place[_END] = dict(self._ends)
        return place

    def extent(self) -> list[tuple[int, int, int]]:
        """Return what the last read returned, as runs `(partition, first offset, count)` in order."""
        return self._extent.runs

    def replay(self, extent: Sequence[Sequence[int]]) -> list[KafkaMessage]:
        """Return exactly the messages of an extent again, to be called before the first `read`.

        Raises `LookupError` if one of them is gone.
        """
        self._thread = threading.get_ident()
        runs = [(partition, first, count) for partition, first, count in extent]
        if self._refetch is None:
            self._refetch = Refetch(self._source.topic, self._source.client_settings())
        messages = self._refetch.fetch(runs)
        for partition, first, count in runs:
            self._offsets.replayed(partition, first + count)
        return [as_event(message) for message in messages]

    def _end_replay(self) -> None:
        if self._refetch is not None:
            self._refetch.close()
            self._refetch = None

    def acknowledge(self, position: Mapping[Any, Any]) -> None:
        """Commit the offsets of a position to the group: of the partitions owned now, and never backwards.

        The commit is sent at once; the next `read`, `idle` or `close` handles the answer and repeats one that failed.
        """
        if not self._closed:
            self._offsets.acknowledge({p: offset for p, offset in position.items() if p != _END})
            self._member.commit()
            if self._member.silent:  # acknowledged but not read: poll, so that the group hears from this member
                self.idle()

    def idle(self) -> None:
        """Stay a member of the group while nothing is to be read, also behind the end."""
        self._thread = threading.get_ident()
        if not self._closed:
            self._end_replay()
            self._kept += self._member.idle()
            self._member.commit()

    def progress(self) -> float | None:
        """Return the fraction read, or `None` if the end is unknown."""
        if not self._ends or not self._offsets.owned:
            return None
        behind = self._offsets.next
        for partition in self._offsets.owned:
            self._begun.setdefault(partition, behind.get(partition, 0))
        whole = sum(max(0, self._ends.get(p, 0) - self._begun[p]) for p in self._offsets.owned)
        done = sum(max(0, behind.get(p, 0) - self._begun[p]) for p in self._offsets.owned)
        return min(1.0, done / whole) if whole else 1.0

    def close(self) -> None:
        """Leave the group. Called by another thread than the reading one, it only makes that one stop."""
        self._closing = True
        if self._closed or self._thread not in (0, threading.get_ident()):
            return
        self._closed = True
        self._end_replay()
        self._member.close()


def as_event(message: Any) -> KafkaMessage:
    """Return the event of a message of confluent-kafka."""
    kind, timestamp = message.timestamp()
    return KafkaMessage(
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
        message.topic(),
        message.partition(),
        message.offset(),
        timestamp if kind else None,
    )
