"""Peers that no run has started, and what they say."""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
import sluiceway as sw
import zmq
from fault_graphs import Inside, look_inside
from sluiceway.engine.local.transport.messages import VERSION, Kind, pack
from sluiceway.nodes.errors import ProtocolError


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
