"""The server of the page: uvicorn in a thread with its own event loop, on a socket that was opened before the run.

Decides the limits: how many connections, how long one may take to send a request, how long the end may take. It changes no
logger and no signal of the process.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from asyncio import TimerHandle, Transport

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ...nodes.errors import GraphError
from ..page_settings import Page

#: Connections at once; further ones are answered 503.
MAX_CONNECTIONS = 64
#: How long a connection may take until its first request is there, in seconds.
REQUEST_S = 10.0
#: How many bytes the head of a request may have.
MAX_HEAD = 16 << 10
#: How long answers may take at the end, in whole seconds.
LAST_S = 1


class Listener:
    """A socket that listens; nobody answers on it before a server is given it."""

    def __init__(self, page: Page) -> None:
        try:
            family, _, _, _, address = socket.getaddrinfo(page.host, page.port, type=socket.SOCK_STREAM)[0]
            self.socket = socket.socket(family)
            try:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self.socket.bind(address)
                self.socket.listen(MAX_CONNECTIONS)
            except OSError:
                self.socket.close()
                raise
        except OSError as error:
            raise GraphError(
                f"the page cannot be served at {page.host}:{page.port}: {error.strerror}; choose another address, or port 0"
                " for a free one"
            ) from error
        host, port = self.socket.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def __del__(self) -> None:
        if hasattr(self, "socket"):
            self.socket.close()


class _Config(uvicorn.Config):
    """The settings of uvicorn, without its loggers: they belong to the program around the run."""

    def configure_logging(self) -> None:
        return


class _Protocol(H11Protocol):
    """A connection that is closed when its first request does not come in time."""

    _late: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._late = self.loop.call_later(REQUEST_S, transport.abort)

    def handle_events(self) -> None:
        super().handle_events()
        if self._late is not None and self.cycle is not None:
            self._late.cancel()
            self._late = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)


class PageServer:
    """Answers on a listener from its construction until `close`."""

    def __init__(self, app: ASGIApp, listener: Listener) -> None:
        self._listener = listener
        self._server = uvicorn.Server(
            _Config(
                app,
                http=_Protocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=LAST_S,
                h11_max_incomplete_event_size=MAX_HEAD,
            )
        )
        self._begun = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="sluiceway-page", daemon=True)
        self._thread.start()
        self._begun.wait()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the server: requests in progress are answered, for a second at most."""
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._error = error
        finally:
            self._begun.set()

    async def _main(self) -> None:
        asyncio.get_running_loop().call_soon(self._begun.set)
        await self._server.serve(sockets=[self._listener.socket])
