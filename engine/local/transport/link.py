"""The link: a child's socket to the calling process.

Decides that one thread owns the socket; messages of other threads wait in a queue until that thread sends them.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import zmq

from ...codec import pickling
from ...codec.codec import MAX_FRAME_BYTES
from .launch import ChildSettings
from .messages import Kind, Message, pack, unpack

_HUB = "the calling process"
#: How often either end of a connection over a network asks whether the other is there, and how long that may be silent.
HEARTBEAT_MS, SILENT_MS = 5_000, 30_000


class Link:
    """A child's socket. Only the thread that made it sends and receives; any thread may call `post`.

    `watch` is called with the socket before it connects, and what it returns before the socket is closed.
    """

    def __init__(
        self, settings: ChildSettings, watch: Callable[[zmq.Socket[bytes]], Callable[[], None]] | None = None
    ) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.set(zmq.IDENTITY, settings.identity)
        self.socket.set(zmq.LINGER, -1)
        self.socket.set(zmq.SNDHWM, 0)
        self.socket.set(zmq.RCVHWM, 0)
        self.socket.set(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        if settings.curve is not None:
            server, public, secret = settings.curve
            self.socket.set(zmq.CURVE_SERVERKEY, server)
            self.socket.set(zmq.CURVE_PUBLICKEY, public)
            self.socket.set(zmq.CURVE_SECRETKEY, secret)
            # Nobody would send again what is lost with a connection.
            self.socket.set(zmq.RECONNECT_IVL, -1)
            self.socket.set(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
            self.socket.set(zmq.HEARTBEAT_TIMEOUT, SILENT_MS)
        self._end_watch = watch(self.socket) if watch is not None else lambda: None
        self.socket.connect(settings.endpoint)
        self._owner = threading.get_ident()
        self._posted: deque[list[Any]] = deque()
        self._put_back: deque[Message] = deque()
        self._wanted: dict[str, SimpleQueue[Message]] = {}

    def send(self, parts: Sequence[Any]) -> None:
        """Send a message; never blocks, because the hub's credit bounds the number of messages."""
        self.flush()
        self.socket.send_multipart(parts, copy=False)

    def post(self, parts: list[Any]) -> None:
        """Send from any thread: at once in the owner's thread, otherwise when the owner next sends or receives."""
        self._posted.append(parts)
        if threading.get_ident() == self._owner:
            self.flush()

    def flush(self) -> None:
        """Send what other threads have posted."""
        while self._posted:
            self.socket.send_multipart(self._posted.popleft(), copy=False)

    def receive(self, timeout_ms: int) -> Message | None:
        """Return the next message of the hub, or `None` if none arrives in time."""
        self.flush()
        if not self._put_back and not self.socket.poll(timeout_ms):
            return None
        message = self._put_back.popleft() if self._put_back else self._next()
        if message.kind is Kind.DEFINE and message.fields[0] in self._wanted:
            self._wanted[message.fields[0]].put(message)
            return None
        return message

    def _next(self) -> Message:
        frames = self.socket.recv_multipart(copy=False)
        return unpack([frame.buffer for frame in frames], _HUB)

    def ask_definition(self, name: str) -> object:
        """Return what `name` is in the caller's `__main__`; raises `AttributeError` if it has no such name.

        Called from another thread than the owner's, it waits until the owner next sends or receives.
        """
        ask = pack(Kind.NEED, name)
        message = self._ask(name, ask) if threading.get_ident() == self._owner else self._ask_from_other_thread(name, ask)
        if not message.fields[1]:
            raise AttributeError(f"__main__ of the calling process has no {name!r}")
        value: object = pickling.loads(message.frames[0])
        if name.isidentifier():
            setattr(sys.modules["__main__"], name, value)  # so that it is requested only once
        return value

    def _ask(self, name: str, ask: list[Any]) -> Message:
        self.send(ask)
        while True:
            message = self._next()
            if message.kind is Kind.DEFINE and message.fields[0] == name:
                return message
            self._put_back.append(message)

    def _ask_from_other_thread(self, name: str, ask: list[Any]) -> Message:
        """Ask from a thread that does not own the socket; there is at most one such thread."""
        answer: SimpleQueue[Message] = SimpleQueue()
        self._wanted[name] = answer
        self.post(ask)
        try:
            return answer.get()
        finally:
            del self._wanted[name]

    def close(self) -> None:
        """Send what is waiting and close."""
        self.flush()
        self._end_watch()
        self.socket.close()
        self._context.term()
