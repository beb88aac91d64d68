"""The format of the messages between the hub and its children.

A message is one header frame of MessagePack `[version, kind, fields...]`, and payload frames that are passed on as they
are. Decides the format and refuses what does not fit it; who sends what, and when, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, Protocol

import ormsgpack
from msgspec import Struct

from ....nodes.errors import ProtocolError
from ....nodes.ordering.barrier import FailureRecord
from ....nodes.ordering.segments import ExitData, Slice
from ....nodes.program.program import Orders, Tally, Verdict
from ...codec.codec import Buffer, Payload
from ...tasks.task import AnswerMessage, Grant, Part, TaskMessage

VERSION = 1
#: How many figures an answer has for each step.
TALLY_FIELDS = len(Tally().as_list())


class Kind(IntEnum):
    """The kind of a message; the first group goes to workers and sources, the second comes from them."""

    TASK = 1
    PULL = 2
    STOP = 3
    DEFINE = 4
    STATE = 5
    RESTORE = 6
    COMMITTED = 7
    HALT = 8
    READY = 10
    ANSWER = 11
    PARKED = 12
    CHUNK = 13
    ENDED = 14
    FAILED = 15
    NEED = 16
    LOG = 17
    PRINT = 18
    LEAVING = 19
    STATED = 20
    RETURNED = 21


_FIELDS: dict[Kind, tuple[Any, ...]] = {
    Kind.TASK: (int, int, int, int, bool, list, list, (int, type(None)), list, list, list, list),
    Kind.PULL: (int, int),
    Kind.STOP: (),
    Kind.DEFINE: (str, bool),
    Kind.STATE: (int,),
    Kind.RESTORE: (),
    Kind.COMMITTED: (),
    Kind.HALT: (),
    Kind.READY: (int,),
    Kind.ANSWER: (int, int, int, float, list, list, list),
    Kind.PARKED: (int,),
    Kind.CHUNK: (int, int, int, bool, (float, type(None)), list),
    Kind.ENDED: (int, float),
    Kind.FAILED: (str, str, str, int, float),
    Kind.NEED: (str,),
    Kind.LOG: (),
    Kind.PRINT: (int, str),
    Kind.LEAVING: (str,),
    Kind.STATED: (int,),
    Kind.RETURNED: (int, int),
}


class Message(Struct, frozen=True):
    """A message whose header has the right form; its `frames` are not checked."""

    kind: Kind
    fields: list[Any]
    frames: Sequence[Buffer]


def pack(kind: Kind, *fields: Any, frames: Sequence[Buffer] = ()) -> list[Buffer]:
    """Return the frames of a message."""
    return [ormsgpack.packb([VERSION, int(kind), *fields]), *frames]


def unpack(parts: Sequence[Buffer], peer: str) -> Message:
    """Return the message that `peer` sent; raises a `ProtocolError` that names the peer and what is wrong."""
    try:
        header = ormsgpack.unpackb(parts[0])
    except (ValueError, TypeError, IndexError):
        raise _refused(peer, "its header is no MessagePack") from None
    if not isinstance(header, list) or len(header) < 2:
        raise _refused(peer, "its header is no list of version, kind and fields")
    if header[0] != VERSION:
        raise _refused(peer, f"it speaks version {header[0]!r:.20} of the wire, this is version {VERSION}")
    try:
        kind = Kind(header[1])
    except ValueError:
        raise _refused(peer, "it is of a kind that does not exist") from None
    fields = header[2:]
    expected = _FIELDS[kind]
    if len(fields) != len(expected) or not all(
        isinstance(field, type_) for field, type_ in zip(fields, expected, strict=True)
    ):
        raise _refused(peer, f"the fields of its {kind.name} are not those of the format")
    if any(isinstance(field, int) and field < 0 for field in fields):
        raise _refused(peer, f"a field of its {kind.name} is negative")
    return Message(kind, fields, parts[1:])


def _refused(peer: str, why: str) -> ProtocolError:
    return ProtocolError(
        f"cannot take a message from {peer}: {why}; only processes of this run may write to its sockets, check what"
        " else opens the run's folder"
    )


def unpack_fields(peer: str, message: Message, unpacker: Callable[[Message], Any]) -> Any:
    """Return `unpacker(message)`; raises `ProtocolError` for inner fields that do not fit."""
    try:
        return unpacker(message)
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError):
        raise _refused(peer, f"the inner fields of its {message.kind.name} are not those of the format") from None


class SharedMemory(Protocol):
    """The shared memory that a message may refer to."""

    def frame(self, offset: int, nbytes: int) -> memoryview:
        """Return a frame to read; raises `ValueError` if the message may not refer to it."""


def _frame_list(payload: Payload, frames: list[Buffer]) -> int | list[list[int]]:
    """Add the frames that the socket carries to `frames`; return how many there are, or where each frame of the payload is."""
    if not payload.places:
        frames += payload.frames
        return len(payload.frames)
    listed: list[list[int]] = []
    for frame, place in zip(payload.frames, payload.places, strict=True):
        if place < 0:
            frames.append(frame)
            listed.append([])
        else:
            listed.append([place, memoryview(frame).nbytes])
    return listed


class _Frames:
    """Returns frames in order and checks that none is missing; `slot` keeps those in shared memory from being freed."""

    def __init__(self, frames: Sequence[Buffer], shared: SharedMemory | None = None, slot: object = None) -> None:
        self._frames = frames
        self._at = 0
        self._shared = shared
        self._slot = slot

    def payload(self, codec: int, listed: int | list[list[int]]) -> Payload:
        if isinstance(listed, int):
            return Payload(codec, tuple(self.next(listed)))
        frames = [self._shared_frame(*place) if place else self.next(1)[0] for place in listed]
        return Payload(codec, tuple(frames), self._slot, tuple([place[0] if place else -1 for place in listed]))

    def _shared_frame(self, offset: int, nbytes: int) -> Buffer:
        if self._shared is None:
            raise ValueError("a frame in shared memory that was not granted")
        return self._shared.frame(offset, nbytes)

    def next(self, count: int) -> Sequence[Buffer]:
        if count < 0 or self._at + count > len(self._frames):
            raise ValueError("frames are missing")
        self._at += count
        return self._frames[self._at - count : self._at]

    def end(self) -> None:
        if self._at != len(self._frames):
            raise ValueError("there are frames too many")


def pack_task(
    id_: int,
    start: int,
    stop: int,
    answer_batch: int,
    orders: Orders,
    inputs: list[list[Slice]],
    room: tuple[int, int] | None = None,
) -> list[Buffer]:
    """Return the frames of a task. `room` is the range of shared memory (start, stop) that its answer may use."""
    frames: list[Buffer] = []
    ports = []
    for slices in inputs:
        parts = []
        for part in slices:
            segment = part.segment
            payload: Payload = segment.payload
            parts.append(
                [
                    part.lo,
                    part.hi,
                    segment.start,
                    segment.stop,
                    payload.codec,
                    _frame_list(payload, frames),
                    segment.counts,
                    segment.indices,
                ]
            )
        ports.append(parts)
    verdicts = [[*call, v.kind, v.error, v.attempts] for call, v in orders.verdicts.items()]
    used = [[*call, n] for call, n in orders.used.items()]
    died = [[*call, n] for call, n in orders.died.items()]
    told = (orders.careful, verdicts, used, orders.end, died, orders.suspected)
    return pack(Kind.TASK, id_, start, stop, answer_batch, *told, ports, room or (), frames=frames)


def unpack_task(message: Message, shared: SharedMemory | None = None) -> TaskMessage:
    """Return the task of a message."""
    id_, start, stop, answer_batch, careful, verdicts, used, end, died, suspected, ports, room = message.fields
    frames = _Frames(message.frames, shared)
    parts = [
        [
            Part(lo, hi, first, last, frames.payload(codec, count), counts, indices)
            for lo, hi, first, last, codec, count, counts, indices in port
        ]
        for port in ports
    ]
    frames.end()
    orders = Orders(
        careful,
        {(node, seq, index): Verdict(kind, error, attempts) for node, seq, index, kind, error, attempts in verdicts},
        {(node, seq, index): count for node, seq, index, count in used},
        end,
        {(node, seq, index): count for node, seq, index, count in died},
        tuple((lo, hi) for lo, hi in suspected),
    )
    return TaskMessage(id_, start, stop, answer_batch, orders, parts, Grant(*room) if room else None)


def pack_answer(answer: AnswerMessage) -> list[Buffer]:
    """Return the frames of an answer."""
    frames: list[Buffer] = []
    exits = []
    for data in answer.exits:
        exits.append([data.payload.codec, _frame_list(data.payload, frames), data.counts, data.indices])
    failures = []
    for failure in answer.failures:
        event, cause = failure.payload
        failures.append(
            [
                *failure.facts,
                None if event is None else event.codec,
                0 if event is None else len(event.frames),
            ]
        )
        frames += () if event is None else event.frames
        frames.append(cause)
    return pack(
        Kind.ANSWER,
        answer.task,
        answer.start,
        answer.size,
        float(answer.seconds),
        answer.tallies,
        exits,
        failures,
        frames=frames,
    )


def unpack_answer(message: Message, shared: SharedMemory | None = None, slot: object = None) -> AnswerMessage:
    """Return the answer of a message; failures carry `(event payload or None, pickled cause or b"")`.

    `shared` is the shared memory granted to its task; it is not freed as long as `slot` is referenced.
    """
    task, start, size, seconds, tallies, exits, failures = message.fields
    frames = _Frames(message.frames, shared, slot)
    data = []
    for codec, count, counts, indices in exits:
        if (counts is not None and (len(counts) != size or min(counts, default=0) < 0)) or size < 1:
            raise ValueError("counts do not fit")
        payload = frames.payload(codec, count)
        nbytes = payload.nbytes
        if counts is not None and sum(counts) > nbytes:
            raise ValueError("it holds fewer events than its counts say")
        data.append(ExitData(payload, nbytes, counts, indices))
    for tally in tallies:
        if len(tally) != TALLY_FIELDS or not all([type(value) in (int, float) for value in tally]):  # noqa: C419
            raise ValueError("tallies do not fit")
    records = []
    for *facts, codec, count in failures:
        event = None if codec is None else frames.payload(codec, count)
        cause = bytes(frames.next(1)[0])
        nbytes = len(cause) + (0 if event is None else event.nbytes)
        record = FailureRecord.of(facts, (event, cause), nbytes)
        if not start <= record.seq < start + size:
            raise ValueError("a failure of another run")
        records.append(record)
    frames.end()
    return AnswerMessage(task, start, size, seconds, tallies, data, records)


def pack_chunk(
    size: int,
    payload: Payload,
    keys: Payload | None,
    fraction: float | None,
    marks: Sequence[tuple[int, bytes, bytes | None]] = (),
) -> list[Buffer]:
    """Return the frames of events that a source has read.

    `fraction` is how much of the source has been read, if it knows; `marks` are (size, packed position, packed extent).
    """
    frames = list(payload.frames)
    if keys is not None:
        frames += [bytes([keys.codec]), *keys.frames]
    return pack(Kind.CHUNK, size, payload.codec, len(payload.frames), keys is not None, fraction, list(marks), frames=frames)


def unpack_chunk(
    message: Message,
) -> tuple[int, Payload, Payload | None, float | None, list[tuple[int, bytes, bytes | None]]]:
    """Return the size, payload, keys, fraction read and marks of a chunk."""
    size, codec, count, keyed, fraction, packed_marks = message.fields
    marks = []
    for length, position, extent in packed_marks:
        if type(length) is not int or type(position) is not bytes or type(extent) not in (bytes, type(None)):
            raise ValueError("a mark does not fit")
        marks.append((length, position, extent))
    if marks and sum(length for length, _, _ in marks) != size:
        raise ValueError("the marks are those of other events")
    frames = _Frames(message.frames)
    payload = frames.payload(codec, count)
    keys = None
    if keyed:
        key_codec = bytes(frames.next(1)[0])[0]
        keys = frames.payload(key_codec, len(message.frames) - count - 1)
    frames.end()
    return size, payload, keys, fraction, marks


def unpack_state(message: Message) -> bytes:
    """Return a worker's packed state."""
    frames = _Frames(message.frames)
    packed = bytes(frames.next(1)[0])
    frames.end()
    return packed
