"""The server behind a webhook, in a thread with its own event loop.

Decides what is answered to which request, when an idle or stuck connection is closed and how the server ends. There is
no TLS: a reverse proxy provides it.

It is not uvicorn, which was tried: uvicorn has no time limit for a connection before its first request (512 silent
ones lock everybody out), reads a refused body to its end, logs an exception for garbage behind a refused body, and
changes loggers of the whole process.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..extras import need
from .cloudevents import BadRequest, events_of
from .webhook_connection import Refused, Reply, WebhookConnection, too_large
from .webhook_queue import PendingRequest, WebhookQueue

log = logging.getLogger("sluiceway")

#: How long a connection may be silent between two requests, in seconds.
IDLE_S = 60.0
#: How long requests in progress may take at the end, in seconds.
LAST_S = 1.0
#: Connections at one time: each may hold one request that waits until it is safe.
MAX_CONNECTIONS = 512

_AGAIN = (("Retry-After", "1"),)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a request must satisfy; the fields are the arguments of `sluiceway.webhook`."""

    host: str
    port: int
    path: str
    token: str | None = field(repr=False)
    max_bytes: int
    wait_s: float
    max_depth: int
    max_events: int
    body_s: float
    binary: bool


class WebhookServer:
    """Listens from its construction until `close`."""

    def __init__(self, terms: Terms, waiting: WebhookQueue) -> None:
        self._h11 = need("h11", "http", "webhook()")
        self._terms = terms
        self._waiting = waiting
        self._connections: dict[asyncio.Task[None], WebhookConnection] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._begun = threading.Event()
        self._socket = _listening(terms)
        host, port = self._socket.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}{terms.path}"
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()
        self._begun.wait()
        log.info("webhook listens on %s", self.url)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        finally:
            self._begun.set()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, sock=self._socket)
        self._begun.set()
        await self._stop.wait()
        # connections accepted just now are registered first: closing the server would leave their sockets open
        self._loop.remove_reader(self._socket.fileno())
        for _ in range(5):
            await asyncio.sleep(0)
        server.close()
        for task, connection in list(self._connections.items()):
            if not connection.busy:
                task.cancel()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=LAST_S)
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._loop is not None
        assert self._stop is not None
        if len(self._connections) >= MAX_CONNECTIONS or self._stop.is_set():
            writer.close()
            return
        connection = WebhookConnection(self._h11, reader, writer)
        task = self._loop.create_task(self._run_connection(connection, writer))
        self._connections[task] = connection
        self._writers.add(writer)
        task.add_done_callback(self._connections.pop)

    async def _run_connection(self, connection: WebhookConnection, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(connection)
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass  # the connection has ended, or is being closed
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _serve(self, connection: WebhookConnection) -> None:
        """Answer the requests of one connection."""
        try:
            while True:
                async with asyncio.timeout(IDLE_S):
                    request = await connection.next_event()
                if type(request) is not self._h11.Request:
                    return
                connection.busy = True
                await connection.answer(await self._reply(connection, request), head=request.method == b"HEAD")
                connection.busy = False
                if connection.has_unread_body():
                    break
                if not connection.start_next() or (self._stop is not None and self._stop.is_set()):
                    return
        except self._h11.RemoteProtocolError as error:
            if connection.protocol.our_state in (self._h11.IDLE, self._h11.SEND_RESPONSE):
                await connection.answer(Reply(error.error_status_hint, "this is not HTTP/1.1 as it should be"))
        await connection.linger()

    async def _reply(self, connection: WebhookConnection, request: Any) -> Reply:
        headers: dict[str, str] = {}
        for name, value in request.headers:
            key, text = name.decode("ascii").lower(), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        try:
            self._check(request, headers)
            size = int(headers.get("content-length", self._terms.max_bytes))
            if size > self._terms.max_bytes:
                return too_large(self._terms.max_bytes)
            if not self._waiting.reserve(size):
                return Reply(429, "too many events wait; send it again later", _AGAIN)
            return await self._accept(connection, headers, size)
        except Refused as refused:
            return refused.reply
        except BadRequest as error:
            return Reply(error.status, str(error))

    def _check(self, request: Any, headers: dict[str, str]) -> None:
        terms = self._terms
        target = request.target.decode("ascii", "replace")
        if not target.startswith("/"):  # a whole url, as for a proxy
            target = "/" + target.partition("://")[2].partition("/")[2]
        if target.partition("?")[0] != terms.path:
            raise Refused(Reply(404, "there is nothing here"))
        if request.method != b"POST":
            raise Refused(Reply(405, "send events by POST", (("Allow", "POST"),)))
        scheme, _, given = headers.get("authorization", "").partition(" ")
        told = scheme.lower() == "bearer" and given.strip().encode("latin-1")
        if terms.token is not None and not (told and hmac.compare_digest(told, terms.token.encode())):
            raise Refused(Reply(401, "the token is missing or wrong", (("WWW-Authenticate", "Bearer"),)))

    async def _accept(self, connection: WebhookConnection, headers: dict[str, str], size: int) -> Reply:
        """Queue the events of a request, and wait until they are safe."""
        assert self._loop is not None
        safe: asyncio.Future[bool] = self._loop.create_future()
        try:
            async with asyncio.timeout(self._terms.body_s):
                body = await connection.body(self._terms.max_bytes)
            events = events_of(headers, body, self._terms.max_depth, binary=self._terms.binary)
            if len(events) > self._terms.max_events:
                return Reply(413, f"a request has {self._terms.max_events} events at most; send fewer in one")
            entry = PendingRequest(events, len(body), self._reporter(safe))
            if events and not self._waiting.offer(entry):
                return Reply(503, "the run has ended", _AGAIN)
        finally:
            self._waiting.free(size)
        if not events:
            return Reply(202)
        try:
            async with asyncio.timeout(self._terms.wait_s):
                if await safe:
                    return Reply(202)
        except TimeoutError:
            self._waiting.withdraw(entry)
        return Reply(503, "the events are not known to be safe; send them again", _AGAIN)

    def _reporter(self, safe: asyncio.Future[bool]) -> Callable[[bool], None]:
        """Return a function that reports, from any thread, whether the events of a request are safe."""
        loop = safe.get_loop()

        def report(is_safe: bool) -> None:
            loop.call_soon_threadsafe(_resolve, safe, is_safe)

        return report

    def close(self) -> None:
        """Stop the server: answer requests in progress, then close all connections."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


def _resolve(safe: asyncio.Future[bool], is_safe: bool) -> None:
    if not safe.done():
        safe.set_result(is_safe)


def _listening(terms: Terms) -> socket.socket:
    """Open the socket; raises `OSError` that names the address."""
    family = socket.AF_INET6 if ":" in terms.host else socket.AF_INET
    try:
        return socket.create_server((terms.host, terms.port), family=family, backlog=128)
    except OSError as error:
        raise OSError(
            f"cannot listen on {terms.host}, port {terms.port}: {error.strerror or error}; pass a free port, or port=0 "
            "to have one chosen"
        ) from error
