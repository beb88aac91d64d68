"""What a child is sent by a hub that is broken: refused, and never executed."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
import zmq
from hostile_peers import STRANGE, Bomb, answer
from sluiceway.engine.codec.codec import Payload, encode
from sluiceway.engine.local.transport import messages as wire
from sluiceway.engine.local.transport.launch import ChildSettings
from sluiceway.engine.local.transport.link import Link
from sluiceway.engine.local.transport.messages import TALLY_FIELDS, Kind, pack
from sluiceway.nodes.errors import ProtocolError
from sluiceway.nodes.ordering.segments import Segment, Slice
from sluiceway.nodes.program.program import Orders


@pytest.fixture
def hub_and_link(tmp_path: Path) -> Iterator[tuple[zmq.Socket[bytes], Link]]:
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.bind(f"ipc://{tmp_path}/hub")
    link = Link(ChildSettings(f"ipc://{tmp_path}/hub", "0.0.1", b"me", {}, False, None, ""))
    link.send(pack(Kind.READY, 1))
    router.recv_multipart()
    yield router, link
    router.close(linger=0)
    context.term()
    link.close()


@pytest.mark.parametrize("what", [name for name in STRANGE if name not in ("ready", "stop", "answer")])
def test_a_child_that_is_sent_garbage(what: str, hub_and_link: tuple[zmq.Socket[bytes], Link]) -> None:
    router, link = hub_and_link
    router.send_multipart([b"me", *STRANGE[what]])
    with pytest.raises(ProtocolError, match="the calling process"):
        link.receive(5000)


def task() -> list[Any]:
    payload = encode([1, 2, 3])
    return pack_task([[Slice(Segment(0, 3, payload, payload.nbytes), 0, 3)]])


def pack_task(inputs: list[list[Slice]]) -> list[Any]:
    return wire.pack_task(1, 0, 3, 0, Orders(), inputs, None)


def damage(parts: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Return a message damaged in every way that a header can be."""
    header = ormsgpack.unpackb(parts[0])
    for at, field in enumerate(header):
        for other in (None, -1, 1 << 62, "x", [], [[]], [[[1]]], [["x", -1, None]], {"a": 1}, 1.5, True):
            if type(other) is not type(field) or isinstance(other, list):
                yield f"{at} {other!r}", [ormsgpack.packb([*header[:at], other, *header[at + 1 :]]), *parts[1:]]
    yield "short", [ormsgpack.packb(header[:-1]), *parts[1:]]
    yield "long", [ormsgpack.packb([*header, 0]), *parts[1:]]
    yield "frames missing", parts[:1]
    yield "frames over", [*parts, b"more"]


def test_every_damaged_task_is_refused() -> None:
    for name, parts in damage(task()):
        try:
            message = wire.unpack(parts, "the calling process")
            read = wire.unpack_fields("the calling process", message, wire.unpack_task)
        except ProtocolError as error:
            assert "the calling process" in str(error)  # noqa: PT017 (it may go either way)
        else:
            # Fields that may be any number or list are the sender's to get right.
            assert read.id is not None, name


def test_random_messages_are_refused_or_read() -> None:
    """Flipped bits anywhere in any message: a ProtocolError or a value, never anything else."""
    made = random.Random(11)
    messages = [
        task(),
        pack(Kind.READY, 1),
        pack(Kind.PRINT, 1, "text"),
        wire.pack_chunk(3, encode([1, 2, 3]), None, 0.5),
        [answer(1, 0, 3, 0.1, [[0.0] * TALLY_FIELDS], [[0, 1, None, None]], []), *encode([1, 2, 3]).frames],
    ]
    readers: dict[Kind, Callable[[Any], Any]] = {
        Kind.TASK: lambda it: wire.unpack_task(it, None),  # type: ignore[arg-type]
        Kind.CHUNK: wire.unpack_chunk,
        Kind.ANSWER: lambda it: wire.unpack_answer(it, None, None),
    }
    read = refused = 0
    for _ in range(5000):
        parts = [bytearray(part) for part in made.choice(messages)]
        header = parts[0]
        for _ in range(made.randint(1, 3)):
            header[made.randrange(len(header))] ^= 1 << made.randrange(8)
        if made.random() < 0.2:
            del header[made.randrange(len(header)) :]
        try:
            message = wire.unpack(parts, "mallory")
            wire.unpack_fields("mallory", message, readers.get(message.kind, lambda it: it))
            read += 1
        except ProtocolError as error:
            assert "mallory" in str(error)  # noqa: PT017 (it may go either way)
            refused += 1
    assert refused > 1000
    assert read > 10


def test_a_payload_is_not_looked_into_on_its_way(tmp_path: Path) -> None:
    """What cannot be unpacked names its number all the same, and the hub never executes it."""
    payload = Payload(1, (pickle.dumps([Bomb(tmp_path / "bomb")]) + b"N.",))
    message = wire.unpack(wire.pack_chunk(1, payload, None, None), "source.0")
    assert wire.unpack_fields("source.0", message, wire.unpack_chunk)[0] == 1
    assert not (tmp_path / "bomb").exists()
