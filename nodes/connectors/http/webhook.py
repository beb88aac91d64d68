"""A webhook as a source: an HTTP endpoint whose senders hear "accepted" when their events are safe.

Decides what makes them safe: the engine's journal holds them, or every ordered sink has committed them. Until then a
request is not answered, so that the sender keeps the event.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .webhook_queue import WebhookQueue
from .webhook_server import Terms, WebhookServer

#: How long a read waits for a request, in seconds.
WAIT_S = 0.1
#: Bytes of requests that may wait to be read.
MAX_WAITING_BYTES = 1 << 24


class Webhook:
    """An HTTP endpoint as a source; made by `sluiceway.webhook`."""

    #: Accepted events are never sent again: with `checkpoint=`, the engine's journal keeps it.
    replay = "none"
    #: A sender hears "accepted" when its events are released and committed.
    acknowledges = True

    def __init__(self, terms: Terms, queue: int) -> None:
        self._terms = terms
        self._queue = queue

    def __repr__(self) -> str:
        return f"webhook(host={self._terms.host!r}, port={self._terms.port}, path={self._terms.path!r})"

    @property
    def name(self) -> str:
        """The end of the path, which names the node."""
        return self._terms.path.rstrip("/").rpartition("/")[2] or "webhook"

    def settings(self) -> dict[str, Any]:
        """Return what decides which requests are taken; where they arrive may change."""
        return {"path": self._terms.path}

    def reader(self, position: object | None, /) -> WebhookReader:
        """Begin to listen; `position` is the number of events that came before. Raises `OSError` for a taken port."""
        if position is not None and not isinstance(position, int):
            raise ValueError("cannot go on from this position: it is none of a webhook; pass what position() gave")
        return WebhookReader(self._terms, self._queue, position or 0)


class WebhookReader:
    """Reads the events of a webhook; `url` is where they are sent to."""

    def __init__(self, terms: Terms, queue: int, events_read: int) -> None:
        self._waiting = WebhookQueue(queue, max(MAX_WAITING_BYTES, 2 * terms.max_bytes), events_read)
        self._server = WebhookServer(terms, self._waiting)
        self.url = self._server.url

    def read(self, limit: int, max_bytes: int, /) -> Sequence[Any] | None:
        """Return the events that have arrived, waiting a moment for the first; `None` when closed."""
        return self._waiting.read(limit, max_bytes, WAIT_S)

    def position(self) -> int:
        """Return the number of events that `read` has returned."""
        return self._waiting.events_read

    def journaled(self, position: object) -> None:
        """Answer the requests whose events are in the engine's journal."""
        self._waiting.mark_safe(_count(position))

    def acknowledge(self, position: object) -> None:
        """Answer the requests whose events are committed."""
        self._waiting.mark_safe(_count(position))

    def close(self) -> None:
        """Stop listening; requests whose events are not known to be safe are answered with 503."""
        self._waiting.close()
        self._server.close()


def _count(position: object) -> int:
    assert isinstance(position, int)
    return position
