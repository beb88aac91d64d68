"""Fetches messages again by their offsets, for a run that is resumed.

Decides how logged extents are read without the group: partitions are fetched side by side and returned in the order
of the log; a message that is gone, or has another offset, is an error.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from .client import START_S, ClientErrors, ClientLog, client, fault, is_lasting

MAX_AHEAD = 5_000  # messages of one partition that wait while another one is read
MAX_MESSAGES = 1_000


class Refetch:
    """Reads ranges of offsets; it joins no group and commits nothing."""

    def __init__(self, topic: str, settings: Mapping[str, Any]) -> None:
        self._kafka = client("kafka")
        self._topic = topic
        self._what = f"replay kafka({topic!r})"
        self._faults = ClientErrors(self._what)
        self._waiting: dict[int, deque[Any]] = {}
        self._behind: dict[int, int] = {}
        self._paused: set[int] = set()
        settings = {**settings, "auto.offset.reset": "error", "error_cb": self._faults.record}
        self._consumer: Any = self._kafka.Consumer(settings, logger=ClientLog())

    def fetch(self, runs: Iterable[tuple[int, int, int]]) -> list[Any]:
        """Return the messages of `(partition, first offset, count)` runs, in this order.

        Raises `LookupError` for one that is gone and `ConnectionError` if the brokers do not answer.
        """
        found: list[Any] = []
        for partition, first, count in runs:
            self._seek(partition, first)
            for offset in range(first, first + count):
                found.append(self._next(partition, offset))
        return found

    def _partition_at(self, partition: int, *offset: int) -> Any:
        return self._kafka.TopicPartition(self._topic, partition, *offset)

    def _seek(self, partition: int, offset: int) -> None:
        waiting = self._waiting.get(partition)
        if waiting is not None:
            if offset == (waiting[0].offset() if waiting else self._behind[partition]):
                return
            self._consumer.incremental_unassign([self._partition_at(partition)])
        self._waiting[partition] = deque()
        self._behind[partition] = offset
        self._paused.discard(partition)
        self._consumer.incremental_assign([self._partition_at(partition, offset)])

    def _next(self, partition: int, offset: int) -> Any:
        waiting = self._waiting[partition]
        end_at = time.monotonic() + START_S
        while not waiting:
            if partition in self._paused:
                self._paused.discard(partition)
                self._consumer.resume([self._partition_at(partition)])
            if not self._fill() and time.monotonic() >= end_at:
                raise ConnectionError(
                    f"cannot {self._what}: offset {offset} of partition {partition} did not come within {START_S:.0f} s;"
                    " look at the brokers, and whether the topic was made anew"
                )
        message = waiting.popleft()
        if message.offset() != offset:
            raise self._missing(partition, offset, f"the next one there is {message.offset()}")
        return message

    def _fill(self) -> bool:
        """Store the messages that have arrived, of any partition."""
        messages = self._consumer.consume(MAX_MESSAGES, 0) or [self._consumer.poll(0.1)]
        self._faults.check()
        for message in messages:
            if message is None:
                return False
            self._store(message)
        return True

    def _store(self, message: Any) -> None:
        partition, error = message.partition(), message.error()
        if error is None:
            waiting = self._waiting[partition]
            waiting.append(message)
            self._behind[partition] = message.offset() + 1
            if len(waiting) >= MAX_AHEAD and partition not in self._paused:
                self._pause(partition)
        elif error.name() == "_AUTO_OFFSET_RESET":
            raise self._missing(partition, message.offset(), error.str())
        elif is_lasting(error):
            raise fault(self._what, error)

    def _pause(self, partition: int) -> None:
        self._paused.add(partition)
        self._consumer.pause([self._partition_at(partition)])

    def _missing(self, partition: int, offset: int, why: str) -> LookupError:
        return LookupError(
            f"cannot {self._what}: offset {offset} of partition {partition} is gone ({why}); keep messages for longer "
            "than a run may pause, or start anew with resume='never'"
        )

    def close(self) -> None:
        """End the client."""
        self._consumer.close()
