"""The options of a handler, as words of a call."""

from __future__ import annotations

from typing import TypedDict

from ...nodes.events import OnError


class Workers(TypedDict, total=False):
    """The option that handlers and runs share."""

    workers: int | None


class HandlerOptions(Workers, total=False):
    """The options of `map`, `filter`, `flat_map` and `map_batches`."""

    name: str
    ordered: bool
    retries: int
    backoff_s: float
    timeout_s: float | None
    concurrency: int
    on_error: OnError


#: The names of the options of a handler, for calls that pass them on.
HANDLER_WORDS = ("name", "workers", "ordered", "retries", "backoff_s", "timeout_s", "concurrency", "on_error")
