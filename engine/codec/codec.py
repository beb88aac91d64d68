"""The codec: one batch of events to a `Payload` and back, exact in type and value.

Decides which encoding carries a batch: buffers as they are, MessagePack, pickle, pickle with definitions (cloudpickle).
All of them return the same events: independent of each other, with what one event shares inside itself still shared,
so that the division into batches never shows in the events. Who sends payloads, and where to, is not known here.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeAlias

import ormsgpack
from msgspec import Struct

from ...nodes.errors import describe
from ...nodes.program.failures import USER_ERRORS
from . import blocks, pickling
from .errors import CodecError, explain, type_name
from .partial_pickle import PartialPickle
from .shape import ATOMS, FLAT, Shape, are_distinct, are_flat, shape_of

MSGPACK = 0
PICKLE = 1
RAW = 2  # every event is a large bytes, bytearray or str: one frame each, their types and sizes in the body
SPAN = 3  # a run of a range: its start, stop and step
BLOCKS = 4  # as MSGPACK, block by block
#: Encodings of which a part can be decoded without the rest.
IN_BLOCKS = (SPAN, BLOCKS)

#: Bytes, or what offers them by the buffer protocol (PEP 688 names it from Python 3.12 on).
Buffer: TypeAlias = "bytes | bytearray | memoryview"

#: A larger frame could not be sent.
MAX_FRAME_BYTES = 1 << 31

_RETRY_AFTER = 64  # batches
_RAW_TYPES: dict[type, str] = {bytes: "b", bytearray: "a", str: "s"}
_RAW_MAKERS: dict[str, Callable[[Any], Any]] = {"b": bytes, "a": bytearray, "s": partial(str, encoding="utf-8")}
_EXACT = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)


class Payload(Struct, frozen=True):
    """An encoded batch: `frames[0]` is the body, the rest are buffers that travel beside it.

    Frames may be the memory of arrays and bytearrays of the batch: send them before those are changed. Frames in shared
    memory are read-only and valid as long as the payload; `slot` keeps their memory allocated, `places` are their
    offsets there, -1 for a frame that lies elsewhere.
    """

    codec: int
    frames: tuple[Buffer, ...]
    slot: object = None
    places: tuple[int, ...] = ()

    @property
    def nbytes(self) -> int:
        """The size of all frames in bytes."""
        return sum(memoryview(frame).nbytes for frame in self.frames)


class Encoder:
    """Encodes the batches of one stream and remembers which encodings failed.

    A failed encoding is skipped for the next batches and then tried again, so that a stream which MessagePack or pickle
    cannot carry does not pay for a failed attempt with every batch.
    """

    __slots__ = ("_block", "_without_msgpack", "_without_pickle")

    def __init__(self) -> None:
        self._block = blocks.MIN_BLOCK_EVENTS  # events
        self._without_msgpack = 0
        self._without_pickle = 0

    def encode(self, events: Sequence[Any]) -> Payload:
        """Encode one batch.

        Raises `CodecError` with the position of the first event that cannot be encoded; its text names the type and,
        where it can be found, the attribute, never a value.
        """
        if not isinstance(events, list):
            span = _encode_span(events) if type(events) is range else None
            if span is not None:
                return span
            events = list(events)
        if len(events) > self._block and (body := self._pack_blocks(events)) is not None:
            return _within_limit(Payload(BLOCKS, (body,)), events)
        types = set(map(type, events))
        if types and types <= _RAW_TYPES.keys() and min(map(len, events)) >= pickling.OUT_OF_BAND_BYTES:
            with suppress(UnicodeEncodeError):  # a lone surrogate
                return _within_limit(_encode_raw(events), events)
        shape = _shape(events, types)
        if shape.plain and (body := self._pack(events)) is not None:
            return _within_limit(Payload(MSGPACK, (body,)), events)
        if shape is FLAT and not types <= ATOMS:
            shape = shape_of(events)
        body, buffers = self._pickle(events, separate=shape.tree and (types <= ATOMS or are_distinct(events)))
        return _within_limit(Payload(PICKLE, (body, *buffers)), events)

    def _pack_blocks(self, events: list[Any]) -> bytes | None:
        """Encode a long batch block by block; return `None` if MessagePack cannot carry every block."""
        counts, bodies = [], []
        at = 0
        while at < len(events):
            block = events[at : at + self._block]
            body = self._pack(block) if _shape(block, set(map(type, block))).plain else None
            if body is None:
                return None
            counts.append(len(block))
            bodies.append(body)
            at += len(block)
            self._block = blocks.block_size(len(block), len(body))
        return blocks.write_body(counts, bodies)

    def _pack(self, events: list[Any]) -> bytes | None:
        if self._without_msgpack:
            self._without_msgpack -= 1
            return None
        try:
            return ormsgpack.packb(events, option=_EXACT)
        except TypeError:  # a large int, a key that is not a str, a lone surrogate, deep nesting
            self._without_msgpack = _RETRY_AFTER
            return None

    def _pickle(self, events: list[Any], *, separate: bool) -> tuple[bytes, list[memoryview]]:
        if self._without_pickle:
            self._without_pickle -= 1
            return _pickle_by_value(events, separate)
        try:
            return pickling.dump(events, separate=separate, by_value=False)
        except USER_ERRORS:  # whatever a __reduce__ raises; the next attempt reports it
            result = _pickle_by_value(events, separate)
            self._without_pickle = _RETRY_AFTER
            return result


def _shape(events: list[Any], types: set[type]) -> Shape:
    return FLAT if are_flat(events, types) else shape_of(events)


def _within_limit(payload: Payload, events: list[Any]) -> Payload:
    largest = max(len(frame) if type(frame) is bytes else memoryview(frame).nbytes for frame in payload.frames)
    if largest <= MAX_FRAME_BYTES:
        return payload
    if len(events) > 1:
        for position, event in enumerate(events):
            try:
                encode([event])
            except CodecError as error:
                raise CodecError(str(error), position=position) from None
    raise CodecError(
        f"event of type {type_name(events[0])} takes {largest:,} bytes, more than the {MAX_FRAME_BYTES:,} bytes"
        " that can be sent at once; send it in parts, or the path of a file",
        position=0,
    )


def encode(events: list[Any]) -> Payload:
    """Encode one batch as `Encoder.encode` does, without memory of earlier batches."""
    return Encoder().encode(events)


def decode(payload: Payload, count_hint: int | None = None) -> list[Any]:
    """Return the events of `payload`.

    Frames that are writable become the memory of the decoded arrays; others are copied, so arrays are always
    writable. `count_hint` is the number of events there must be, if it is known. Raises `CodecError` on bytes that
    `encode` did not write, on classes that are not found here, and where an event's own code raises.
    """
    with building(f"batch of {payload.nbytes} bytes"):
        events = _decode(payload, count_hint)
    if count_hint is not None and len(events) != count_hint:
        raise CodecError(f"batch holds {len(events)} events where {count_hint} were announced; it is damaged")
    return events


@contextmanager
def building(what: str) -> Iterator[None]:
    """Run the body, which decodes, without the garbage collector, and raise `CodecError` for whatever it raises."""
    collecting = gc.isenabled()
    gc.disable()  # all that is built here lives on, so there is nothing to collect
    try:
        yield
    except CodecError:
        raise
    except USER_ERRORS as error:
        raise CodecError(
            f"{what} cannot be decoded ({type(error).__name__}); it is damaged, or its "
            "classes cannot be built in this process"
        ) from error
    finally:
        if collecting:
            gc.enable()


def decode_part(
    payload: Payload,
    lo: int,
    hi: int,
    count_hint: int | None = None,
    *,
    step: int | None = None,
    mark: Callable[[int, int], None] | None = None,
    parsed: Callable[[Any], PartialPickle] = PartialPickle,
) -> tuple[list[Any], dict[int, CodecError]]:
    """Return the events `lo .. hi - 1` of `payload`, and the errors of those that cannot be decoded, by position.

    No code of any other event runs; slower than `decode`. `step` events are decoded at a time, and `mark` is called
    with their bounds before each step. An event that cannot be decoded is `None`; the cause of its error is what its
    own code raised. If the whole payload is damaged, all its events have the error. `count_hint` is as for `decode`,
    `parsed` gives the parsed pickle of a body.
    """
    events: list[Any] = [None] * (hi - lo)
    errors: dict[int, CodecError] = {}
    try:
        if payload.codec != PICKLE:
            return decode(payload, count_hint)[lo:hi], {}
        pickled = parsed(payload.frames[0])
        if count_hint is not None and pickled.count != count_hint:
            raise CodecError(f"batch holds {pickled.count} events where {count_hint} were announced; it is damaged")
    except (CodecError, ValueError, IndexError, KeyError) as error:
        whole = error if isinstance(error, CodecError) else CodecError("batch cannot be taken apart; it is damaged")
        return events, dict.fromkeys(range(lo, hi), whole)
    size = step or max(1, hi - lo)
    waiting = [(a, min(hi, a + size)) for a in range(lo, hi, size)][::-1]
    while waiting:
        a, b = waiting.pop()
        if mark is not None:
            mark(a, b)
        try:
            events[a - lo : b - lo] = pickling.load_partial(pickled.only(a, b), map(_writable, payload.frames[1:]))[a:b]
        except USER_ERRORS as error:
            if b - a > 1:
                waiting += [((a + b) // 2, b), (a, (a + b) // 2)]
                continue
            why = str(error) if isinstance(error, CodecError) else f"its own code raised {describe(error)}"
            errors[a] = CodecError(f"the event cannot be unpacked: {why}", position=a)
            errors[a].__cause__ = error
    return events, errors


def blocks_of(payload: Payload, count: int) -> blocks.Blocks | None:
    """Return the blocks of a payload of `count` events, or `None` for one that can only be decoded as a whole.

    Raises `CodecError` on bytes that `encode` did not write.
    """
    try:
        found: blocks.Blocks
        if payload.codec == MSGPACK:
            found = blocks.Single(payload.frames[0], count)
        elif payload.codec == BLOCKS:
            found = blocks.Packed(payload.frames[0])
        elif payload.codec == SPAN:
            found = _span(ormsgpack.unpackb(payload.frames[0]), count)
        else:
            return None
    except CodecError:
        raise
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise CodecError(f"batch of {payload.nbytes} bytes cannot be decoded; it is damaged") from error
    if found.ends[-1] != count:
        raise CodecError(f"batch holds {found.ends[-1]} events where {count} were announced; it is damaged")
    return found


def join_payloads(parts: list[tuple[int, Payload]]) -> Payload | None:
    """Return one payload for `parts`, which are (number of events, payload), or `None` if one of them has no blocks."""
    parts = [part for part in parts if part[0]] or parts[:1]
    if len(parts) == 1:
        return parts[0][1]
    counts: list[int] = []
    bodies: list[Buffer] = []
    for count, payload in parts:
        if payload.codec == BLOCKS:
            packed = blocks.Packed(payload.frames[0])
            counts += packed.counts
            bodies += packed.bodies
        elif payload.codec == MSGPACK:
            counts.append(count)
            bodies.append(payload.frames[0])
        else:
            return None
    return Payload(BLOCKS, (blocks.write_body(counts, bodies),))


def is_atomic(events: list[Any]) -> bool:
    """Whether all events are of immutable builtin types, so that sharing them is harmless."""
    return set(map(type, events)) <= ATOMS


def copies(events: list[Any]) -> list[Any]:
    """Return an independent copy of every event; `events` itself where they are atomic. Raises `CodecError`."""
    if is_atomic(events):
        return events
    payload = encode(events)
    # The frames beside the body may be the memory of the originals.
    return decode(Payload(payload.codec, (payload.frames[0], *map(bytearray, payload.frames[1:]))))


def _pickle_by_value(events: list[Any], separate: bool) -> tuple[bytes, list[memoryview]]:
    try:
        return pickling.dump(events, separate=separate, by_value=True)
    except USER_ERRORS as error:
        raise _encode_error(events, error) from error


def _encode_error(events: list[Any], error: BaseException) -> CodecError:
    """Return the error for the first event that cannot be pickled."""
    for position, event in enumerate(events):
        if (own := _refusal(event)) is not None:
            return CodecError(explain(event, own, lambda part: _refusal(part) is None), position=position)
    return CodecError(f"batch of {len(events)} events cannot be pickled ({type(error).__name__})")


def _refusal(value: Any) -> BaseException | None:
    try:
        pickling.dump([value], separate=True, by_value=True)
    except USER_ERRORS as error:
        return error
    return None


def _encode_span(events: range) -> Payload | None:
    """Encode a range as its three numbers; return `None` if they are too large for MessagePack."""
    try:
        return Payload(SPAN, (ormsgpack.packb([events.start, events.stop, events.step], option=_EXACT),))
    except TypeError:  # beyond 64 bits
        return None


def _encode_raw(events: list[Any]) -> Payload:
    frames = [event.encode() if type(event) is str else event for event in events]
    kinds = "".join([_RAW_TYPES[type(event)] for event in events])
    return Payload(RAW, (ormsgpack.packb([kinds, list(map(len, frames))]), *frames))


def _span(numbers: list[int], count: int | None) -> blocks.Span:
    span = range(*numbers)
    if count is not None and len(span) != count:  # checked first, for three numbers can describe a list of any size
        raise CodecError(f"batch holds {len(span)} events where {count} were announced; it is damaged")
    return blocks.Span(span)


def _decode_raw(kinds: str, sizes: list[int], frames: Sequence[Buffer]) -> list[Any]:
    if [memoryview(frame).nbytes for frame in frames] != sizes:
        raise CodecError("the buffers of a batch have not the lengths that were announced; it is damaged")
    return [_RAW_MAKERS[kind](frame) for kind, frame in zip(kinds, frames, strict=True)]


def _decode(payload: Payload, count: int | None) -> list[Any]:
    if not payload.frames:
        raise CodecError("payload without frames; it is damaged")
    body, rest = payload.frames[0], payload.frames[1:]
    if payload.codec == PICKLE:
        return pickling.load(body, map(_writable, rest))
    if payload.codec == BLOCKS:
        packed = blocks.Packed(body)
        return packed.load(0, packed.ends[-1])
    content = ormsgpack.unpackb(body)
    if payload.codec == SPAN:
        span = _span(content, count)
        return span.load(0, span.ends[-1])
    if payload.codec == RAW:
        kinds, sizes = content
        return _decode_raw(kinds, sizes, rest)
    if payload.codec != MSGPACK or rest or not isinstance(content, list):
        raise CodecError(f"payload of unknown form, codec {payload.codec}; it is damaged")
    return content


def _writable(frame: Buffer) -> Buffer:
    return bytearray(frame) if memoryview(frame).readonly else frame
