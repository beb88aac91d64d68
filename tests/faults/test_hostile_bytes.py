"""Bytes of strangers and of workers: refused with the peer's name, never executed, never waited for."""

from __future__ import annotations

import os
import pickle
import random
import socket
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
import sluiceway as sw
import zmq
from fault_graphs import Inside, until
from fault_handlers import Saboteur, link_of_this_worker
from hostile_peers import STRANGE, Attack, Bomb, answer, inside
from marks import slow
from sluiceway.engine.local.transport.messages import TALLY_FIELDS, VERSION, Kind, pack
from sluiceway.nodes.errors import ProtocolError

__all__ = ["inside"]

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
