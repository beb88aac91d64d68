"""Bytes that no process of the run has sent: refused with the peer's name, never executed, never waited for."""

from __future__ import annotations

import logging
import os
import pickle
import random
import socket
import stat
import subprocess
import sys
import threading
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
import sluiceway as sw
import zmq
from fault_graphs import Inside, look_inside, until
from fault_handlers import Saboteur, link_of_this_worker
from marks import slow
from sluiceway.engine.codec.codec import Payload, encode
from sluiceway.engine.local.transport import messages as wire
from sluiceway.engine.local.transport.launch import ChildSettings
from sluiceway.engine.local.transport.link import Link
from sluiceway.engine.local.transport.messages import TALLY_FIELDS, VERSION, Kind, pack
from sluiceway.nodes.errors import ProtocolError
from sluiceway.nodes.ordering.segments import Segment, Slice
from sluiceway.nodes.program.program import Orders


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Return what can be known of the runs that the test makes."""
    return look_inside(monkeypatch)


class Attack:
    """A run that is under way, and a socket that writes to it under a name of its choice."""

    def __init__(self, inside: Inside, **words: Any) -> None:
        self._results = sw.imap(abs, iter(range(10**9)), workers=1, **words)
        assert next(self._results) == 0
        self.inside = inside
        self._context = zmq.Context()
        self._sockets: list[zmq.Socket[bytes]] = []

    def __enter__(self) -> Attack:
        return self

    def __exit__(self, *_: object) -> None:
        for open_ in self._sockets:
            open_.close(linger=0)
        self._context.term()
        self._results.close()

    def socket(self, identity: bytes) -> zmq.Socket[bytes]:
        dealer = self._context.socket(zmq.DEALER)
        self._sockets.append(dealer)
        dealer.set(zmq.IDENTITY, identity)
        return dealer

    def send(self, identity: bytes, *parts: Any) -> None:
        dealer = self.socket(identity)
        dealer.connect(self.inside.address())
        dealer.send_multipart(list(parts))

    def consume(self, count: int) -> None:
        """Take so many more events: the run is alive and right."""
        first = next(self._results)
        for n in range(first + 1, first + count):
            assert next(self._results) == n

    def is_refused(self, *words: str) -> None:
        """Assert that the run ends with an error that holds these words."""
        with pytest.raises(ProtocolError) as caught:
            deque(self._results, 0)
        for word in words:
            assert word in str(caught.value)
        assert caught.value.report.ended_by == "error"


def answer(*fields: Any) -> bytes:
    return ormsgpack.packb([VERSION, int(Kind.ANSWER), *fields])


STRANGE = {
    "nothing": [b""],
    "random": [random.Random(1).randbytes(200), random.Random(2).randbytes(2000)],
    "version": [ormsgpack.packb([VERSION + 1, int(Kind.READY), 1])],
    "kind": [ormsgpack.packb([VERSION, 99, 1])],
    "truncated": [pack(Kind.READY, 1)[0][:2]],
    "nested": [b"\x91" * 5000 + b"\x00"],
    "announces": [b"\xdd\xff\xff\xff\xff"],
    "fields": [answer(1, 2)],
    "ready": pack(Kind.READY, 1),
    "stop": pack(Kind.STOP),
    "answer": [answer(1, 0, 1, 0.1, [], [], [])],
}


#: Nobody reads what a stranger says: most of it is for the slow tests.
_SAYS = ("random", "announces", "answer")


@pytest.mark.parametrize("what", [what if what in _SAYS else slow(what) for what in STRANGE])
def test_a_stranger(what: str, inside: Inside) -> None:
    with Attack(inside) as attack:
        attack.send(b"mallory", *STRANGE[what])
        attack.is_refused("'mallory'", "not a process of this run")


def test_a_stranger_whose_name_is_long_and_no_text(inside: Inside) -> None:
    with Attack(inside) as attack:
        attack.send(b"\x01\xff\n\x1b" * 60, b"x")
        attack.is_refused("'\\x01\\\\xff\\n\\x1b", "not a process of this run")


@pytest.mark.parametrize("name", [b"0.0.1", slow(b"0.0.2"), slow(b"source.0")])
def test_a_stolen_name(name: bytes, inside: Inside, tmp_path: Path) -> None:
    """The name of a worker is not what it calls itself on the socket, so nobody can be it."""
    bomb = pickle.dumps(Bomb(tmp_path / "bomb"))
    with Attack(inside) as attack:
        attack.send(name, *pack(Kind.FAILED, "text", "", "", 0, 0.0, frames=[bomb]))
        attack.is_refused(repr(name.decode()))
    assert not (tmp_path / "bomb").exists()


def test_the_very_identity_of_a_living_worker(inside: Inside, tmp_path: Path) -> None:
    """Whoever has it all the same is not let in beside its owner, and the run goes on."""
    bomb = pickle.dumps(Bomb(tmp_path / "bomb"))
    with Attack(inside) as attack:
        identity = next(iter(attack.inside.identities().values()))
        attack.send(identity, *pack(Kind.FAILED, "text", "", "", 0, 0.0, frames=[bomb]))
        attack.send(identity, b"garbage")
        attack.consume(50_000)
    assert not (tmp_path / "bomb").exists()


def test_the_identity_of_a_dead_worker(inside: Inside, tmp_path: Path) -> None:
    """Late words of the dead are dropped unread."""
    bomb = pickle.dumps(Bomb(tmp_path / "bomb"))
    with Attack(inside) as attack:
        name, identity = next(iter(attack.inside.identities().items()))
        os.kill(attack.inside.workers()[name], 9)
        until(lambda: name not in attack.inside.identities())
        attack.send(identity, *pack(Kind.FAILED, "text", "", "", 0, 0.0, frames=[bomb]))
        attack.send(identity, *pack(Kind.READY, 1))
        attack.send(identity, answer(1, 0, 1, 0.1, [], [], []))
        attack.consume(50_000)
    assert not (tmp_path / "bomb").exists()


def test_bytes_that_are_no_zeromq(inside: Inside) -> None:
    with Attack(inside) as attack:
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\xff" * 10 + b"\x7f" * 10, b"\x00", b""):
            with socket.socket(socket.AF_UNIX) as raw:
                raw.connect(attack.inside.address().removeprefix("ipc://"))
                raw.sendall(garbage)
        attack.consume(20_000)


@pytest.mark.parametrize("seed", [0, *map(slow, range(1, 20))])
def test_random_bytes_on_a_connection(seed: int, inside: Inside) -> None:
    """Nearly all of them are no greeting; what happens to be one makes a stranger of its sender."""
    with Attack(inside) as attack:
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(attack.inside.address().removeprefix("ipc://"))
            raw.sendall(random.Random(seed).randbytes(10_000))
        try:
            attack.consume(20_000)
        except ProtocolError as error:
            assert "not a process of this run" in str(error)  # noqa: PT017 (it may go either way)


def test_a_message_that_announces_more_than_the_limit(inside: Inside) -> None:
    """A greeting of ZMTP 3.0 as it should be, then a frame of 2^62 bytes: its connection is cut."""
    greeting = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
    ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x05giant"
    with Attack(inside) as attack:
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(attack.inside.address().removeprefix("ipc://"))
            raw.settimeout(10)
            raw.sendall(greeting + b"\x04" + bytes([len(ready)]) + ready + b"\x02" + (1 << 62).to_bytes(8, "big"))
            while raw.recv(4096):
                continue
        attack.consume(20_000)


def test_many_messages_do_not_pile_up(inside: Inside) -> None:
    """The first one ends the run; nobody keeps the others."""
    with Attack(inside) as attack:
        dealer = attack.socket(b"mallory")
        dealer.set(zmq.SNDHWM, 0)
        tracemalloc.start()
        try:
            dealer.connect(attack.inside.address())
            for _ in range(200):
                dealer.send(bytes(100_000))
            attack.is_refused("'mallory'")
            assert tracemalloc.get_traced_memory()[0] < 5_000_000
        finally:
            tracemalloc.stop()


# -- what a worker of the run may not say -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([b"\xc1"], "its header is no MessagePack"),
        ([ormsgpack.packb({"a": 1})], "its header is no list"),
        ([ormsgpack.packb([VERSION + 1, 10, 1])], "it speaks version 2 of the wire, this is version 1"),
        ([ormsgpack.packb([VERSION, 77])], "of a kind that does not exist"),
        ([ormsgpack.packb([VERSION, int(Kind.PARKED), -1])], "negative"),
        ([ormsgpack.packb([VERSION, int(Kind.READY), "x"])], "fields of its READY"),
        (pack(Kind.TASK, 1, 0, 1, 0, False, [], [], []), "TASK"),
        (pack(Kind.STOP), "STOP"),
        (pack(Kind.CHUNK, 1, 0, 1, False, None, [], frames=[b"\x91\x00"]), "worker"),
        (pack(Kind.ENDED, 1, 0.1), "worker"),
        (pack(Kind.LOG), "LOG record"),
        ([answer(1, 10**12, 1, 0.1, [[0.0] * TALLY_FIELDS], [[0, 1, None, None]], []), b"\x91\x00"], "numbers"),
        ([answer(1, 0, 1, 0.1, [], [], [])], "ANSWER"),
        ([answer(1, 0, 1, 0.1, [["x"] * TALLY_FIELDS], [[0, 1, None, None]], []), b"\x91\x00"], "ANSWER"),
        ([answer(1, 0, 1, 0.1, [[0.0] * TALLY_FIELDS], [[0, 9, None, None]], [])], "ANSWER"),
        ([answer(1, 0, 1, 0.1, [[0.0] * TALLY_FIELDS], [[0, 1, [1 << 60], None]], []), b"\x91\x00"], "ANSWER"),
    ],
)
def test_a_worker_that_says_what_it_may_not(parts: list[bytes], why: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        list(sw.imap(sw.per_worker(Saboteur, [bytes(part) for part in parts]), range(100), workers=1))
    assert "0.0.1" in str(caught.value)
    assert why.lower() in str(caught.value).lower()


def test_a_replayed_answer_counts_once() -> None:
    """A worker that says everything twice is heard once."""

    def twice(n: int) -> int:
        if n == 0:
            link = link_of_this_worker()
            send = link.socket.send_multipart

            def again(parts: Sequence[Any], **words: Any) -> None:
                send(parts, **words)
                send(parts, **words)

            type(link).send = lambda self, parts: again([bytes(part) for part in parts])  # type: ignore[method-assign]
        return n

    results = sw.imap(twice, range(5000), workers=1)
    assert list(results) == list(range(5000))
    assert results.report.events_in == 5000


# -- what a child is sent -----------------------------------------------------------------------------------------


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


# -- who may connect ----------------------------------------------------------------------------------------------


def test_the_folder_is_private(inside: Inside) -> None:
    with Attack(inside) as attack:
        folder = attack.inside.folder()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for path in [*folder.iterdir(), Path("/dev/shm") / folder.name]:
            if path.is_file():
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


STRANGER = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
for path in sys.argv[1:]:
    try:
        socket.socket(socket.AF_UNIX).connect(path) if path.endswith("hub") else open(path, "rb")
    except PermissionError:
        continue
    sys.exit(f"let in at {path}")
"""


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can be somebody else")
def test_a_process_of_another_user_cannot_connect(inside: Inside) -> None:
    with Attack(inside) as attack:
        folder = attack.inside.folder()
        paths = [folder / "hub", folder / "pool0"]
        if (Path("/dev/shm") / folder.name).exists():
            paths.append(Path("/dev/shm") / folder.name)
        done = subprocess.run(
            [sys.executable, "-c", STRANGER, *map(str, paths)], capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        attack.consume(1000)


# -- tcp ----------------------------------------------------------------------------------------------------------


def test_tcp_works() -> None:
    results = sw.imap(abs, range(5000), workers=2, transport="tcp")
    assert list(results) == list(range(5000))
    assert set(results.report.children.values()) == {"stopped"}


@pytest.mark.parametrize("key", ["none", "other", "server"])
def test_tcp_needs_the_key(key: str, inside: Inside) -> None:
    with Attack(inside, transport="tcp") as attack:
        dealer = attack.socket(b"mallory")
        keys = attack.inside.keys()
        assert keys is not None
        if key != "none":
            public, secret = zmq.curve_keypair()
            dealer.set(zmq.CURVE_SERVERKEY, keys[0] if key == "server" else zmq.curve_keypair()[0])
            dealer.set(zmq.CURVE_PUBLICKEY, public)
            dealer.set(zmq.CURVE_SECRETKEY, secret)
        monitor = dealer.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_DISCONNECTED
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        )  # fmt: skip
        dealer.connect(attack.inside.address())
        dealer.send(b"hello")
        assert monitor.poll(10_000)  # it was turned away
        dealer.disable_monitor()
        monitor.close()
        attack.consume(5000)


def test_tcp_listens_on_loopback_only(inside: Inside) -> None:
    with Attack(inside, transport="tcp") as attack:
        assert attack.inside.address().startswith("tcp://127.0.0.1:")


def test_refusals_are_not_logged_with_payloads(inside: Inside, caplog: pytest.LogCaptureFixture) -> None:
    with Attack(inside) as attack, caplog.at_level(logging.DEBUG):
        attack.send(b"mallory", b"secret words")
        attack.is_refused("'mallory'")
    assert "secret" not in caplog.text
    assert not [thread for thread in threading.enumerate() if thread.name == "sluiceway-hub"]
