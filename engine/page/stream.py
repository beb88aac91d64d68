"""What the page is told, as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Decides the order: `hello` with everything that a browser which comes now needs, then `figures` after each look, at last `end`.
A browser that reads slowly misses figures in between, never the last ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson

from ..plan.picture import Drawing
from .figures import figures_of, point_of
from .sampler import Sampler, Snapshot


async def events(sampler: Sampler, drawing: Drawing) -> AsyncIterator[bytes]:
    """Yield the events for one browser, until the run is over."""
    changed, loop = asyncio.Event(), asyncio.get_running_loop()
    with sampler.listening(lambda: loop.call_soon_threadsafe(changed.set)):
        shown = sampler.latest
        yield _event("hello", {"drawing": drawing, "points": [*map(point_of, shown.points)], **_told(shown)})
        while not shown.last:
            await changed.wait()
            changed.clear()
            shown = sampler.latest
            yield _event("figures", _told(shown))
        yield _event("end", {})


def _told(shown: Snapshot) -> dict[str, Any]:
    return {"figures": figures_of(shown), "point": point_of(shown.points[-1]) if shown.points else None}


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data))
