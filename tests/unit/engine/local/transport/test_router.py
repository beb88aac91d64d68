"""The router: when everything that its peers have sent can be received."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import zmq
from sluiceway.engine.local.transport.messages import Kind, pack
from sluiceway.engine.local.transport.router import Router

LIMIT_S = 30.0
#: More than the buffers of a connection hold, so that the last of it is still on its way when its sender has closed.
COUNT, NBYTES = 200, 1 << 20


def test_what_a_peer_sent_before_it_left_is_all_received(tmp_path: Path) -> None:
    router = Router()
    context = zmq.Context()
    try:
        router.bind_in(tmp_path)
        peer = context.socket(zmq.DEALER)
        peer.set(zmq.IDENTITY, router.register("0.0.1"))
        peer.set(zmq.LINGER, -1)
        peer.set(zmq.SNDHWM, 0)
        peer.connect(router.endpoint)
        peer.send_multipart(pack(Kind.READY, 1))
        while not router.has_connections():
            router.wait_for_disconnect(LIMIT_S)
        for _ in range(COUNT):
            peer.send_multipart(pack(Kind.STATED, 1, frames=[bytes(NBYTES)]))
        peer.close()  # what it has queued is sent in the background
        received, deadline = 0, monotonic() + LIMIT_S
        while router.has_connections():
            assert monotonic() < deadline
            router.wait_for_disconnect(LIMIT_S)
            while router.receive() is not None:
                received += 1
        while router.receive() is not None:
            received += 1
        assert received == COUNT + 1
    finally:
        context.term()
        router.close()


def test_a_router_without_peers_waits_for_nobody(tmp_path: Path) -> None:
    router = Router()
    assert not router.has_connections()
    router.bind_in(tmp_path)
    try:
        assert not router.has_connections()
    finally:
        router.close()
