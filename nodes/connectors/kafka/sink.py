"""The Kafka sink: messages that carry their number, and what a resumed run finds of them.

Decides what makes a number durable (the brokers have confirmed every message up to it), and how duplicates are left
out: the tail of the topic behind the last checkpoint is read back, and what carries this run's name and a number above
the checkpoint is not sent again. That is effectively once: a request that was still in flight to a broker when the tail
was read can be in the topic twice; readers can tell by the header.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ...errors import CheckpointError, describe, kind_of
from ...sinks import BadEvent
from .client import ClientErrors, ClientLog, client, fault, partitions_of
from .topic_tail import HEADER, TAIL, Number, header_of, read_tail, watermarks_of

_MAKING_S = 10.0  # a broker may be making the topic
_STEP_S = 0.1

#: Defaults below the user's settings; the queue is outside the run's budget, so it is kept small.
DEFAULTS = {"queue.buffering.max.kbytes": 32_768, "enable.idempotence": True}

Function = Callable[[Any], "str | bytes | None"]


class NotDelivered(OSError):
    """A message that the brokers refused; `number` names it, `position` is its position in the batch being written."""

    position: int | None = None

    def __init__(self, message: str, number: Number = (-1, 0)) -> None:
        super().__init__(message)
        self.number = number


class KafkaSink:
    """A topic as a sink; made by `sluiceway.kafka_sink`."""

    delivery = "effectively-once"
    #: It commits during the run, so that little is lost and little waits.
    commits = True

    def __init__(
        self,
        topic: str,
        bootstrap_servers: str,
        key: Function | None,
        value: Function | None,
        config: Mapping[str, Any],
    ) -> None:
        self.topic = topic
        self.bootstrap_servers = bootstrap_servers
        self.key = key
        self.value = value
        self.config = config
        self._clear()

    def _clear(self) -> None:
        self._producer: Any = None
        self._faults = ClientErrors(f"write to {self!r}")
        self._failed: NotDelivered | None = None
        self._run = ""
        self._committed = -1
        #: Where this run's messages above the last commit begin, for each partition.
        self._ends: dict[int, int] = {}
        #: Numbers that an earlier run has sent above the checkpoint, with partition and offset.
        self._there: dict[Number, tuple[int, int]] = {}

    def __repr__(self) -> str:
        return f"kafka_sink({self.topic!r})"

    @property
    def name(self) -> str:
        """The topic, which names the node."""
        return self.topic

    def settings(self) -> dict[str, Any]:
        """Return what decides where messages go."""
        return {
            "brokers": self.bootstrap_servers,
            "topic": self.topic,
            "partitioner": self.config.get("partitioner"),
        }

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._clear()

    # The protocol of a sink

    def open(self) -> None:
        """Look up the topic and where it ends now, for the messages of a fresh run.

        Raises `LookupError` for a topic that is not there, `ConnectionError` for brokers that do not answer.
        """
        self._start(uuid.uuid4().hex)
        self._ends = {partition: high for partition, (_, high) in self._watermarks().items()}

    def recover(self, token: Mapping[str, Any]) -> int:
        """Find what a run that died has sent above its last checkpoint; return the number of that checkpoint.

        Raises `CheckpointError` when the tail of the topic is not what it was.
        """
        self._start(token["run"])
        self._committed = token["n"]
        marks, self._ends = self._watermarks(), dict(token["ends"])
        for partition, (low, high) in marks.items():
            begin = self._ends.setdefault(partition, low)
            if not low <= begin <= high:
                raise CheckpointError(
                    f"cannot go on with {self!r}: partition {partition} holds offsets {low} to {high - 1}, the checkpoint "
                    f"ends at {begin}, so what stands there cannot be told; start anew with resume='never'"
                )
        ranges = {p: (self._ends[p], high) for p, (_, high) in marks.items()}
        self._there = read_tail(self._settings(), self.topic, ranges, self._run, self._committed, self._faults)
        return self._committed

    def write(self, events: Sequence[Any], /) -> None:
        """Pass messages to the client, which sends them in order; `commit` waits until they have arrived.

        Raises `BadEvent` for what is neither bytes nor text nor made so by `value`, and for a message that is too
        large; `NotDelivered` for one that the brokers refused.
        """
        numbers: list[Number] = events.numbers  # type: ignore[attr-defined]
        self._check(numbers)
        there = self._there
        for position, event in enumerate(events):
            if there and numbers[position] in there:
                continue
            try:
                self._produce(event, position, numbers[position])
            except NotDelivered as error:
                raise self._with_position(error, numbers) from None
        self._producer.poll(0)
        self._check(numbers)

    def commit(self, n: int) -> dict[str, Any]:
        """Wait until the brokers have everything that was written; return where the topic ends.

        Raises `NotDelivered` for what the brokers refused.
        """
        self._flush()
        self._committed = n
        self._there = {number: place for number, place in self._there.items() if number[0] > n}
        ends = dict(self._ends)
        for partition, offset in self._there.values():
            ends[partition] = min(offset, ends[partition])
        return {"run": self._run, "n": n, "ends": ends}

    def close(self) -> None:
        """Wait until the brokers have everything, and close the client."""
        if self._producer is not None:
            self._flush()
        self._clear()

    def abort(self) -> None:
        """Close the client without sending what still waits; what was sent stays."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.poll(0)
        self._clear()

    # Sending

    def _start(self, run: str) -> None:
        self._clear()
        kafka = client("kafka_sink")
        self._run = run
        own = {
            "bootstrap.servers": self.bootstrap_servers,
            "error_cb": self._faults.record,
        }
        self._refused = kafka.KafkaException
        try:
            self._producer = kafka.Producer({**DEFAULTS, **self.config, **own}, logger=ClientLog())
        except kafka.KafkaException as error:
            raise fault(f"write to {self!r}", error) from None

    def _produce(self, event: Any, position: int, number: Number) -> None:
        value = self._converted("value", self.value, event, position)
        key = None if self.key is None else self._converted("key", self.key, event, position)
        header = [(HEADER, header_of(self._run, number))]
        delivered = partial(self._on_delivery, number)
        while True:
            try:
                self._producer.produce(self.topic, value=value, key=key, headers=header, on_delivery=delivered)
                return
            except BufferError:  # the queue is full: wait for the brokers
                self._producer.poll(_STEP_S)
                self._check([])
            except self._refused as error:
                if error.args[0].name() == "MSG_SIZE_TOO_LARGE":
                    raise BadEvent(
                        f"cannot write to {self!r}: the message takes {len(value or ''):,} characters or bytes, more "
                        "than the client may send; raise message.max.bytes in config and on the topic",
                        position,
                    ) from None
                raise self._fault(error.args[0], number) from None

    def _converted(self, what: str, function: Function | None, event: Any, position: int) -> str | bytes | None:
        made = event
        if function is not None:
            try:
                made = function(event)
            except Exception as error:
                raise BadEvent(f"cannot write to {self!r}: the function {what} raised {describe(error)}", position) from error
        if made is None and function is not None:
            return None  # no key, or a tombstone
        if isinstance(made, str | bytes):
            return made
        raise BadEvent(
            f"cannot write to {self!r}: a {what} is bytes or str, this one is {kind_of(made)}; pass "
            f"{what}= a function that gives bytes or str",
            position,
        )

    def _on_delivery(self, number: Number, error: Any, message: Any) -> None:
        if error is None:
            partition = message.partition()
            self._ends[partition] = max(message.offset() + 1, self._ends.get(partition, 0))
        elif self._failed is None or number < self._failed.number:
            self._failed = self._fault(error, number)

    def _fault(self, error: Any, number: Number) -> NotDelivered:
        return NotDelivered(
            f"cannot write number {number[0]} (index {number[1]}) to {self!r}: {error.str()} ({error.name()})", number
        )

    def _check(self, numbers: Sequence[Number]) -> None:
        if self._failed is not None:
            raise self._with_position(self._failed, numbers)
        self._faults.check()

    def _with_position(self, error: NotDelivered, numbers: Sequence[Number]) -> NotDelivered:
        if error.number in numbers:
            error.position = numbers.index(error.number)
        return error

    def _flush(self) -> None:
        while self._producer.flush(_STEP_S) and self._failed is None:
            self._faults.check()
        self._check([])

    # Reading back

    def _settings(self) -> dict[str, Any]:
        """Return the settings of the consumer that reads back; it joins no group, but must name one."""
        own = {"bootstrap.servers": self.bootstrap_servers, "group.id": f"sluiceway-tail-{self._run}"}
        return {**TAIL, **self.config, **own, "error_cb": self._faults.record}

    def _watermarks(self) -> dict[int, tuple[int, int]]:
        what = f"write to {self!r}"
        partitions = partitions_of(self._producer, self.topic, what, self._faults, wait_s=_MAKING_S)
        return watermarks_of(self._settings(), self.topic, partitions, what)
