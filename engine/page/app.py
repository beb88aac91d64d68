"""The paths of the page, as an ASGI application.

Decides which path answers what. Every answer is made from the last sample; nothing here waits for the run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..plan.picture import Drawing
from .access import SAFE_HEADERS, Access
from .assets import read_assets
from .health import Health
from .metrics import Metrics
from .sampler import Sampler, Snapshot
from .stream import events

Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(access: Access, sampler: Sampler, drawing: Drawing) -> ASGIApp:
    """Return the application that shows the snapshots of one run."""
    metrics = Metrics(lambda: sampler.latest)

    def latest() -> Snapshot:
        return sampler.latest

    async def show_events(_: Request) -> Response:
        return StreamingResponse(events(sampler, drawing), media_type="text/event-stream")

    async def show_metrics(request: Request) -> Response:
        text, content_type = metrics.render(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    async def show_health(_: Request) -> Response:
        health = latest().health
        return _verdict(health, good=health.healthy)

    async def show_ready(_: Request) -> Response:
        health = latest().health
        return _verdict(health, good=health.ready)

    paths: dict[str, Endpoint] = {"/metrics": show_metrics, "/health": show_health, "/ready": show_ready}
    paths |= {"/events": show_events, **{path: _showing(*found) for path, found in read_assets().items()}}
    return Guard(Starlette(routes=[Route(path, endpoint) for path, endpoint in paths.items()]), access)


def _showing(content: bytes, media_type: str) -> Endpoint:
    async def show(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return show


def _verdict(health: Health, *, good: bool) -> Response:
    """Return 200 or 503, and in JSON why."""
    said = {"healthy": health.healthy, "ready": health.ready, "why": health.why, "since_s": round(health.since_s, 3)}
    return Response(orjson.dumps(said), 200 if good else 503, media_type="application/json")


class Guard:
    """Lets through what may pass, and puts the safe headers on every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=list(message.get("headers", ())))
                for name, value in SAFE_HEADERS:
                    headers[name] = value
                message = {**message, "headers": headers.raw}
            await send(message)

        raw = Headers(scope=scope).raw
        answer = self._access.judge(scope["method"], scope["path"], scope["query_string"], raw)
        app = self._app if answer is None else Response(
            answer.text, answer.status, dict(answer.headers), media_type="text/plain"
        )
        await app(scope, receive, send_safely)
