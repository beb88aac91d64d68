"""The router: the one socket of a run in the calling process, and the names of the children that may use it.

Decides who is a peer: a child is registered before it starts, under an identity that nobody else can guess. A message of
a stranger is a `ProtocolError`; a message to a child that has exited is dropped.
"""

from __future__ import annotations

import secrets
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq
from msgspec import Struct

from ....nodes.errors import ProtocolError
from ...codec.codec import MAX_FRAME_BYTES
from . import messages
from .link import HEARTBEAT_MS, SILENT_MS

if TYPE_CHECKING:
    from zmq.auth.thread import ThreadAuthenticator

#: The first frame of what a monitor tells: the event and its value (zmq_socket_monitor(3)).
_EVENT = struct.Struct("=Hi")


class Received(Struct, frozen=True):
    """A message as received: its sender, whether the sender is still registered, and the frames."""

    peer: str
    registered: bool
    parts: list[Any]

    def open(self) -> messages.Message:
        """Read the message; raises `ProtocolError` that names the peer."""
        return messages.unpack(self.parts, self.peer)


class Router:
    """A ROUTER socket. The hub's thread makes, uses and closes it."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._auth: Any = None
        self._identities: dict[str, bytes] = {}
        self._names: dict[bytes, str] = {}
        #: Messages for children that have not sent anything yet: the socket would drop them.
        self._pending: dict[str, list[list[Any]]] = {}
        #: Tells when a connection begins and ends; after its end, all that came over it waits in the socket.
        self._monitor: zmq.Socket[bytes] | None = None
        self._connections = 0
        self.endpoint = ""
        self.curve: tuple[bytes, bytes, bytes] | None = None

    def bind_in(self, folder: Path) -> None:
        """Bind in the run's private folder."""
        socket = self._prepared()
        self.endpoint = f"ipc://{folder}/hub"
        socket.bind(self.endpoint)

    def bind_at(self, host: str) -> None:
        """Bind at a free port of an address of this machine, with keys of this run's own."""
        socket = self._prepared()
        public, secret = zmq.curve_keypair()
        child_public, child_secret = zmq.curve_keypair()
        self._auth = _allow_only(socket, secret, child_public)
        socket.set(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.set(zmq.HEARTBEAT_TIMEOUT, SILENT_MS)
        number = socket.bind_to_random_port(f"tcp://{host}")
        self.endpoint = f"tcp://{host}:{number}"
        self.curve = (public, child_public, child_secret)

    def _prepared(self) -> zmq.Socket[bytes]:
        socket = self._socket
        socket.set(zmq.ROUTER_MANDATORY, 1)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVHWM, 0)
        socket.set(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        self._monitor = socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        return socket

    @property
    def descriptor(self) -> int:
        """The descriptor to wait on; it is readable after changes only, so check `waiting` first."""
        return int(self._socket.FD)

    @property
    def waiting(self) -> bool:
        """Whether a message has arrived."""
        return bool(int(self._socket.EVENTS) & int(zmq.POLLIN))

    def has_connections(self) -> bool:
        """Whether a child is still connected; if none is, everything that the exited ones sent can be received."""
        if self._monitor is None:
            return False
        while self._monitor.poll(0):
            (event, _), _endpoint = _EVENT.unpack(self._monitor.recv()), self._monitor.recv()
            self._connections += 1 if event == zmq.EVENT_ACCEPTED else -1
        return self._connections > 0

    def wait_for_disconnect(self, timeout_s: float) -> None:
        """Wait until a message arrives or a connection begins or ends, at most `timeout_s` seconds."""
        assert self._monitor is not None
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        poller.poll(max(0, int(timeout_s * 1000)))

    def register(self, child: str) -> bytes:
        """Register a child and return the identity that it must use; messages to it wait until its first message arrives."""
        identity = self._identities[child] = f"{child} {secrets.token_hex(8)}".encode()
        self._names[identity] = child
        self._pending[child] = []
        return identity

    def flush_pending(self, child: str) -> None:
        """Record that a child's first message has arrived: send what was waiting for it."""
        for parts in self._pending.pop(child, ()):
            self.send(child, parts)

    def deregister(self, child: str) -> None:
        """Record that a child has exited: nothing is sent to it, and later messages from it are ignored."""
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
            # The report of the peer's exit follows; what it was to get is then given to others.
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise

    def receive(self) -> Received | None:
        """Return the next message, or `None` if there is none now; raises `ProtocolError` for a stranger's."""
        receive = self._socket.recv
        try:
            frames = [receive(zmq.NOBLOCK, False)]
            while frames[-1].more:  # a message arrives as a whole or not at all
                frames.append(receive(zmq.NOBLOCK, False))
        except zmq.Again:
            return None
        identity = frames[0].bytes
        peer = self._names.get(identity)
        if peer is None:
            raise ProtocolError(
                f"cannot take a message from {_shown(identity)}: it is not a process of this run; check what else opens"
                " the run's folder"
            )
        return Received(peer, peer in self._identities, [frame.buffer for frame in frames[1:]])

    def close(self) -> None:
        """Close the socket and drop what is unsent."""
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
            self._monitor = None
        self._socket.close(linger=0)
        if self._auth is not None:
            self._auth.stop()
        self._context.term()


def _shown(identity: bytes) -> str:
    """Return a stranger's identity as readable text."""
    return repr(identity.decode("utf-8", "backslashreplace"))[:60]


def _allow_only(socket: zmq.Socket[bytes], secret: bytes, key: bytes) -> ThreadAuthenticator:
    """Make a TCP socket accept only peers that have the run's own key (CURVE, https://rfc.zeromq.org/spec/26/)."""
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
