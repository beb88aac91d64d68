"""The port: the one socket of a run in the calling process, and the names of those who may speak on it.

Decides who is a peer: a child is enrolled under an identity that nobody else can guess, before it is born. What a
stranger sends is a `ProtocolError`; what is sent to somebody who is not there any more is dropped.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from ....nodes.errors import ProtocolError
from ...codec.codec import MAX_FRAME_BYTES
from . import messages

if TYPE_CHECKING:
    from zmq.auth.thread import ThreadAuthenticator


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it came: from whom, whether its sender still counts as registered, and the frames."""

    peer: str
    registered: bool
    parts: list[Any]

    def open(self) -> messages.Message:
        """Read the message; raises `ProtocolError` that names the peer."""
        return messages.unpack(self.parts, self.peer)


class Router:
    """A ROUTER socket. Made, used and closed by the hub's thread."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._auth: Any = None
        self._identities: dict[str, bytes] = {}
        self._names: dict[bytes, str] = {}
        #: What is to be sent to children that have not said that they are there: the socket would drop it.
        self._pending: dict[str, list[list[Any]]] = {}
        self.endpoint = ""
        self.curve: tuple[bytes, bytes, bytes] | None = None

    def open(self, folder: Path, transport: str) -> None:
        """Bind: in the run's private folder (`"ipc"`), or on loopback with keys of this run's own (`"tcp"`)."""
        socket = self._socket
        socket.set(zmq.ROUTER_MANDATORY, 1)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVHWM, 0)
        socket.set(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        if transport == "ipc":
            self.endpoint = f"ipc://{folder}/hub"
            socket.bind(self.endpoint)
            return
        public, secret = zmq.curve_keypair()
        child_public, child_secret = zmq.curve_keypair()
        self._auth = _allow_only(socket, secret, child_public)
        number = socket.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"tcp://127.0.0.1:{number}"
        self.curve = (public, child_public, child_secret)

    @property
    def descriptor(self) -> int:
        """The descriptor to wait on; it tells of changes only, so `waiting` is to be asked before."""
        return int(self._socket.FD)

    @property
    def waiting(self) -> bool:
        """Whether a message is there."""
        return bool(int(self._socket.EVENTS) & int(zmq.POLLIN))

    def register(self, child: str) -> bytes:
        """Give the identity under which a child may speak; what is sent to it waits until it has spoken."""
        identity = self._identities[child] = f"{child} {secrets.token_hex(8)}".encode()
        self._names[identity] = child
        self._pending[child] = []
        return identity

    def flush_pending(self, child: str) -> None:
        """Take in that a child has spoken: send what has waited for it."""
        for parts in self._pending.pop(child, ()):
            self.send(child, parts)

    def deregister(self, child: str) -> None:
        """Take in that a child is gone: nothing is sent to it, and what still comes from it is late."""
        self._identities.pop(child, None)
        self._pending.pop(child, None)

    def send(self, peer: str, parts: list[Any]) -> None:
        """Send a message to a child; never blocks."""
        if peer in self._pending:
            self._pending[peer].append(parts)
            return
        if peer not in self._identities:
            return
        try:
            self._socket.send_multipart([self._identities[peer], *parts], zmq.NOBLOCK, copy=False)
        except zmq.ZMQError as error:
            # A dead peer's exit follows and hands out again what it was to get.
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise

    def receive(self) -> Received | None:
        """Give the next message, or `None` when there is none now; raises `ProtocolError` for a stranger's."""
        receive = self._socket.recv
        try:
            frames = [receive(zmq.NOBLOCK, False)]
            while frames[-1].more:  # a message is there as a whole, or not at all
                frames.append(receive(zmq.NOBLOCK, False))
        except zmq.Again:
            return None
        identity = frames[0].bytes
        peer = self._names.get(identity)
        if peer is None:
            raise ProtocolError(
                f"cannot take a message from {_shown(identity)}: it is no process of this run; check what else opens"
                " the run's folder"
            )
        return Received(peer, peer in self._identities, [frame.buffer for frame in frames[1:]])

    def close(self) -> None:
        """Close the socket; what is unsent is dropped."""
        self._socket.close(linger=0)
        if self._auth is not None:
            self._auth.stop()
        self._context.term()


def _shown(identity: bytes) -> str:
    """Give what a stranger calls itself, fit to be read."""
    return repr(identity.decode("utf-8", "backslashreplace"))[:60]


def _allow_only(socket: zmq.Socket[bytes], secret: bytes, key: bytes) -> ThreadAuthenticator:
    """Make a TCP socket take only peers that hold the run's own key (CURVE, https://rfc.zeromq.org/spec/26/)."""
    from zmq.auth.thread import ThreadAuthenticator  # brings asyncio along; only TCP needs it

    class OneKey:
        def callback(self, domain: str, given: bytes) -> bool:
            return given == key

    authenticator = ThreadAuthenticator(socket.context)
    authenticator.start()
    authenticator.configure_curve_callback(domain="sluiceway", credentials_provider=OneKey())
    socket.set(zmq.CURVE_SECRETKEY, secret)
    socket.set(zmq.CURVE_PUBLICKEY, zmq.curve_public(secret))
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.ZAP_DOMAIN, b"sluiceway")
    return authenticator
