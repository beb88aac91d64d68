"""The pipe between a nursery and its zygote: complete MessagePack messages over a stream socket, without blocking.

It knows no kind of message. Both ends are private to the run, so nothing here guards against strangers.
"""

from __future__ import annotations

import selectors
import socket
import struct
from typing import Any

import ormsgpack

_HEADER = struct.Struct("!I")
_CHUNK = 1 << 18
_READS_PER_CALL = 16


class MessagePipe:
    """One end of the pipe; `ended` becomes true when the other end is closed."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._inbox = bytearray()
        self._outbox = bytearray()
        self.ended = False

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._end.fileno()

    @property
    def wanted(self) -> int:
        """The selector events to wait for."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outbox and not self.ended else 0)

    def send(self, *message: Any) -> None:
        """Queue a message and send what the socket accepts now; `flush` sends the rest."""
        body = ormsgpack.packb(message)
        self._outbox += _HEADER.pack(len(body))
        self._outbox += body
        self.flush()

    def flush(self) -> None:
        """Send what the socket accepts now."""
        try:
            while self._outbox:
                del self._outbox[: self._end.send(self._outbox)]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._outbox.clear()  # `receive` sees the end, after what was sent before it

    def receive(self) -> list[Any]:
        """Return the messages that have arrived, in order; a bounded number of reads."""
        for _ in range(_READS_PER_CALL):
            try:
                chunk = self._end.recv(_CHUNK)
            except BlockingIOError:
                break
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                self.ended = True
                break
            self._inbox += chunk
        return self._complete_messages()

    def close(self) -> None:
        """Close this end."""
        self._end.close()

    def _complete_messages(self) -> list[Any]:
        messages = []
        start = 0
        while len(self._inbox) - start >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._inbox, start)
            stop = start + _HEADER.size + length
            if len(self._inbox) < stop:
                break
            messages.append(ormsgpack.unpackb(bytes(self._inbox[start + _HEADER.size : stop])))
            start = stop
        del self._inbox[:start]
        return messages
