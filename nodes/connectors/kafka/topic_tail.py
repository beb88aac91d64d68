"""The number in a message's header, and the numbers in the tail of a topic.

Decides the format of the header, and how a tail is read back. It joins no group and commits nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from .client import START_S, ClientErrors, ClientLog, client, fault, is_lasting

#: The name of the header; its value is `run/seq/index`.
HEADER = "sluiceway"
#: Settings of the consumer that reads back.
TAIL = {
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "isolation.level": "read_uncommitted",
}
_STEP_S = 0.1
MAX_MESSAGES = 1_000

Number = tuple[int, int]


def header_of(run: str, number: Number) -> bytes:
    """Return the header's value for a number of a run."""
    return b"%s/%d/%d" % (run.encode(), *number)


def number_in(headers: Iterable[tuple[str, bytes | None]] | None, run: str) -> Number | None:
    """Return the number in a message's headers, or `None` if it is not of this run."""
    for name, value in headers or ():
        if name == HEADER and value is not None:
            of, _, number = value.partition(b"/")
            seq, _, index = number.partition(b"/")
            if of == run.encode() and seq.isdigit() and index.isdigit():
                return int(seq), int(index)
    return None


def watermarks_of(
    settings: Mapping[str, Any], topic: str, partitions: Iterable[int], what: str
) -> dict[int, tuple[int, int]]:
    """Return the offsets of the first message and behind the last of each partition."""
    kafka = client("kafka_sink")
    consumer = kafka.Consumer(settings, logger=ClientLog())
    try:
        return {p: consumer.get_watermark_offsets(kafka.TopicPartition(topic, p), timeout=START_S) for p in partitions}
    except kafka.KafkaException as error:
        raise fault(what, error) from None
    finally:
        consumer.close()


def read_tail(
    settings: Mapping[str, Any],
    topic: str,
    ranges: Mapping[int, tuple[int, int]],
    run: str,
    above: int,
    faults: ClientErrors,
) -> dict[Number, tuple[int, int]]:
    """Return the numbers of `run` above `above` in ranges of offsets `{partition: (first, behind)}`, with partition and offset.

    Other messages in between are ignored. Raises `ConnectionError` if the brokers do not answer.
    """
    kafka = client("kafka_sink")
    left = {partition: behind for partition, (first, behind) in ranges.items() if first < behind}
    found: dict[Number, tuple[int, int]] = {}
    if not left:
        return found
    consumer = kafka.Consumer(settings, logger=ClientLog())
    try:
        consumer.assign([kafka.TopicPartition(topic, partition, ranges[partition][0]) for partition in left])
        heard_at = time.monotonic()
        while left:
            messages = consumer.consume(MAX_MESSAGES, _STEP_S)
            faults.check()
            if messages:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > START_S:
                raise ConnectionError(f"cannot read back the tail of topic {topic!r}: no broker sent for {START_S:.0f} s")
            for message in messages:
                _collect(message, left, run, above, found)
    finally:
        consumer.close()
    return found


def _collect(message: Any, left: dict[int, int], run: str, above: int, found: dict[Number, tuple[int, int]]) -> None:
    partition, offset, error = message.partition(), message.offset(), message.error()
    if partition not in left:
        return
    if error is not None:
        if is_lasting(error):
            raise fault("read back the tail of a topic", error)
        if error.name() != "_PARTITION_EOF":
            return
        offset -= 1  # the error names the offset behind the last message
    elif offset < left[partition]:
        number = number_in(message.headers(), run)
        if number is not None and number[0] > above:
            found[number] = (partition, offset)
    if offset + 1 >= left[partition]:
        del left[partition]
