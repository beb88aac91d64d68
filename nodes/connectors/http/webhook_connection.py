"""One connection of a webhook: reads requests, sends answers.

Decides how a request is read and within which bounds, and how a connection ends after a request that was not read to
its end. h11 implements the protocol; it does not touch the socket.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

#: How long a refused body is read and thrown away, in seconds.
LINGER_S = 1.0

_READ_BYTES = 1 << 16
_HEAD_BYTES = 1 << 14


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; the text is for people and repeats nothing of the request."""

    status: int
    text: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class Refused(Exception):
    """A request that is refused with this answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


def too_large(max_bytes: int) -> Reply:
    """Return the answer to a request of more than `max_bytes` bytes."""
    return Reply(413, f"a request has {max_bytes} bytes at most; send fewer events in one")


class WebhookConnection:
    """One connection; requests and answers are events of h11."""

    def __init__(self, h11: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._h11 = h11
        self._reader = reader
        self._writer = writer
        self.protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        self.busy = False

    async def next_event(self) -> Any:
        """Wait for the next event of the protocol."""
        while (event := self.protocol.next_event()) is self._h11.NEED_DATA:
            if self.protocol.they_are_waiting_for_100_continue:
                await self._write(self._h11.InformationalResponse(status_code=100, headers=[], reason="Continue"))
            self.protocol.receive_data(await self._reader.read(_READ_BYTES))
        return event

    async def _write(self, *events: Any) -> None:
        for event in events:
            self._writer.write(self.protocol.send(event) or b"")
        await self._writer.drain()

    async def body(self, max_bytes: int) -> bytes:
        """Read the body of a request; raises `Refused` for one of more than `max_bytes` bytes."""
        parts, size = [], 0
        while type(event := await self.next_event()) is self._h11.Data:
            size += len(event.data)
            if size > max_bytes:
                raise Refused(too_large(max_bytes))
            parts.append(bytes(event.data))
        if type(event) is not self._h11.EndOfMessage:
            raise ConnectionError("the connection ended within a request")
        return b"".join(parts)

    async def answer(self, reply: Reply, *, head: bool = False) -> None:
        """Send an answer, to `HEAD` without its body; the connection ends with it if the request was not read to its end."""
        text = (reply.text + "\n").encode() if reply.text else b""
        headers = [("Content-Length", str(len(text))), *reply.headers]
        if text:
            headers.append(("Content-Type", "text/plain; charset=utf-8"))
        if self.protocol.their_state is not self._h11.DONE:
            headers.append(("Connection", "close"))
        await self._write(
            self._h11.Response(status_code=reply.status, headers=headers),
            self._h11.Data(data=b"" if head else text),
            self._h11.EndOfMessage(),
        )

    def has_unread_body(self) -> bool:
        """Whether a request was answered before it was read to its end."""
        return self.protocol.their_state in (self._h11.SEND_BODY, self._h11.ERROR)

    def start_next(self) -> bool:
        """Get ready for the next request; false if this was the last."""
        states = (self.protocol.our_state, self.protocol.their_state)
        if states != (self._h11.DONE, self._h11.DONE):
            return False
        self.protocol.start_next_cycle()
        return True

    async def linger(self) -> None:
        """Read and discard for a moment, so that the answer is not lost while the other side still sends."""
        left = 1 << 24
        async with asyncio.timeout(LINGER_S):
            while left > 0 and (data := await self._reader.read(_READ_BYTES)):
                left -= len(data)
