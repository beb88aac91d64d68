"""One member of a consumer group: the client that reads, and its part in rebalances and commits.

Decides how the tracked offsets become calls of the client: a partition begins where `offsets` says, with automatic
resetting off, so that an offset that is gone is an error and never a silent gap; commits go out one at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from .client import LOG, START_S, ClientErrors, ClientLog, client, fault
from .offsets import GroupOffsets

#: Errors of a commit that pass by themselves, or with the next assignment.
_PASSING = frozenset(
    {
        "REBALANCE_IN_PROGRESS", "ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "STALE_MEMBER_EPOCH", "NOT_COORDINATOR",
        "COORDINATOR_NOT_AVAILABLE", "COORDINATOR_LOAD_IN_PROGRESS", "REQUEST_TIMED_OUT", "NETWORK_EXCEPTION",
        "NOT_COORDINATOR_FOR_GROUP", "GROUP_COORDINATOR_NOT_AVAILABLE", "GROUP_LOAD_IN_PROGRESS",
        "_TRANSPORT", "_TIMED_OUT", "_WAIT_COORD", "_NO_OFFSET", "_ASSIGNMENT_LOST", "_STATE", "_DESTROY",
    }
)  # fmt: skip
_RETRY_S = 0.5
_END_S = 5.0
_LEAVE_S = 5.0
_SILENT_S = 1.0
_STEP_S = 0.05


class GroupMember:
    """Reads a topic as a member of a group; every method belongs to the reading thread."""

    def __init__(self, topic: str, settings: Mapping[str, Any], offsets: GroupOffsets, *, latest: bool) -> None:
        self._kafka = client("kafka")
        self._topic = topic
        self._what = f"read from kafka({topic!r})"
        self._offsets = offsets
        self._latest = latest
        self.faults = ClientErrors(self._what)
        self._resets = settings.get("auto.offset.reset", "error") != "error"
        self._cooperative = "cooperative" in str(settings.get("partition.assignment.strategy", ""))
        self._paused = False
        self._subscribed = False
        self._retry_at = 0.0
        self._refused: Any = None
        self._accepted = False
        self.joined = False
        self._polled_at = time.monotonic()
        own = {"error_cb": self.faults.record, "on_commit": self._on_commit}
        try:
            self.consumer: Any = self._kafka.Consumer({**settings, **own}, logger=ClientLog())
        except self._kafka.KafkaException as error:
            raise fault(self._what, error) from None

    def high(self, partition: int) -> int:
        """Return the offset behind the last message of a partition."""
        return self._watermarks(partition)[1]

    def _watermarks(self, partition: int) -> tuple[int, int]:
        try:
            low, high = self.consumer.get_watermark_offsets(self._partition_at(partition), timeout=START_S)
        except self._kafka.KafkaException as error:
            raise fault(self._what, error) from None
        return low, high

    def _partition_at(self, partition: int, *offset: int) -> Any:
        return self._kafka.TopicPartition(self._topic, partition, *offset)

    @property
    def silent(self) -> bool:
        """Whether the client was not polled for a while."""
        return time.monotonic() - self._polled_at > _SILENT_S

    # Reading

    def read(self, limit: int, wait_s: float) -> list[Any]:
        """Return what is there, up to `limit` messages; waiting up to `wait_s` for the first."""
        self._polled_at = time.monotonic()
        self._join()
        if self._paused:
            self._paused = False
            self.consumer.resume([self._partition_at(partition) for partition in self._offsets.owned])
        try:
            found: list[Any] = self.consumer.consume(limit, 0)
            if not found and (first := self.consumer.poll(wait_s)) is not None:
                found = [first, *(self.consumer.consume(limit - 1, 0) if limit > 1 else ())]
        except self._kafka.KafkaException as error:
            raise fault(self._what, error) from None
        self.faults.check()
        return found

    def idle(self) -> list[Any]:
        """Keep the membership without reading; return messages that slipped through a rebalance, usually none."""
        self._polled_at = time.monotonic()
        self._join()
        self._pause()
        try:
            slipped = self.consumer.poll(0)
        except self._kafka.KafkaException as error:
            raise fault(self._what, error) from None
        self.faults.check()
        return [] if slipped is None else [slipped]

    def _pause(self) -> None:
        if not self._paused and self._offsets.owned:
            self._paused = True
            self.consumer.pause([self._partition_at(partition) for partition in self._offsets.owned])

    def _join(self) -> None:
        if not self._subscribed:
            self._subscribed = True
            self.consumer.subscribe(
                [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )

    # Rebalances: called by the client inside `read`, `idle` and `close`

    def _on_assign(self, consumer: Any, assigned: list[Any]) -> None:
        committed = consumer.committed(assigned, timeout=START_S) if assigned else []
        for place in committed:
            if place.error is not None:
                raise fault(self._what, place.error)
        starts = self._offsets.assign({p.partition: p.offset if p.offset >= 0 else None for p in committed})
        places = [self._partition_at(partition, self._start(partition, offset)) for partition, offset in starts.items()]
        if self._cooperative:
            consumer.incremental_assign(places)
        else:
            consumer.assign(places)
        self._paused = False  # newly assigned partitions are not paused
        self.joined = True

    def _start(self, partition: int, offset: int | None) -> int:
        if offset is not None and not self._resets:
            low, high = self._watermarks(partition)
            if not low <= offset <= high:
                raise LookupError(
                    f"cannot {self._what}: offset {offset} of partition {partition} is gone, its messages are now "
                    f"{low} to {high - 1}; keep messages for longer than a run may pause, or set the offsets of the "
                    "group anew to go on without them"
                )
        if offset is None and self._latest:
            offset = self.high(partition)
            self._offsets.start(partition, offset)
        beginning: int = self._kafka.OFFSET_BEGINNING
        return beginning if offset is None else offset

    def _on_revoke(self, consumer: Any, revoked: list[Any]) -> None:
        partitions = [place.partition for place in revoked]
        offsets = {p: o for p, o in self._offsets.due().items() if p in partitions}
        if offsets and time.monotonic() >= self._retry_at:
            # still a member: committing now spares the next owner from repeating work
            self._send(offsets)
        self._give_up(partitions)

    def _on_lost(self, consumer: Any, lost: list[Any]) -> None:
        self._give_up([place.partition for place in lost])

    def _give_up(self, partitions: Iterable[int]) -> None:
        self._offsets.revoke(partitions)
        self._paused = False
        self.joined = self._cooperative and bool(self._offsets.owned)

    # Commits

    def commit(self) -> None:
        """Send the commit that is due; raises if the group coordinator has refused one for good."""
        if self._refused is not None:
            raise fault(f"commit offsets of kafka({self._topic!r})", self._refused)
        if time.monotonic() >= self._retry_at and (offsets := self._offsets.due()):
            self._send(offsets)

    def _send(self, offsets: Mapping[int, int]) -> None:
        self._offsets.record_sent(offsets)
        try:
            self.consumer.commit(offsets=[self._partition_at(p, offset) for p, offset in offsets.items()], asynchronous=True)
        except self._kafka.KafkaException as error:
            self._on_commit(error.args[0], [])

    def _on_commit(self, error: Any, places: list[Any]) -> None:
        errors = [error, *(place.error for place in places)]
        failed = next((one for one in errors if one is not None), None)
        self._accepted = failed is None
        self._offsets.record_answer(accepted=self._accepted)
        if failed is None:
            return
        self._retry_at = time.monotonic() + _RETRY_S
        if failed.name() not in _PASSING:
            self._refused = failed

    def close(self) -> None:
        """Commit what is acknowledged, within a few seconds, and leave the group."""
        end_at, open_ = time.monotonic() + _END_S, self._offsets.uncommitted
        while self._offsets.uncommitted and time.monotonic() < end_at and self._refused is None:
            self.commit()
            self._pause()
            self.consumer.poll(_STEP_S)
        if open_ and (self._offsets.uncommitted or not self._accepted):
            LOG.warning(
                "kafka(%r): not all offsets could be committed at the end; what stands behind those that the group has "
                "is read again by its next run",
                self._topic,
            )
        leave(self.consumer)


def leave(consumer: Any) -> None:
    """Close a consumer, waiting for it no longer than a few seconds.

    Without its coordinator a client may wait for ever inside `close`, and nothing can end that; the group then notices
    by itself that the member is gone.
    """
    closing = threading.Thread(target=consumer.close, name="kafka-close", daemon=True)
    closing.start()
    closing.join(_LEAVE_S)
    if closing.is_alive():
        LOG.warning("a Kafka client does not end, for it waits for its brokers; it is left behind")
