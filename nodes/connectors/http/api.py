"""HTTP as source and sink: the public functions.

Decides the public arguments. Polling is in `poll` (its pages in `paging`), the endpoint in `webhook` (its server in
`webhook_server`, its requests in `cloudevents` and `webhook_queue`), sending in `sink`; the client that source and sink
share is in `client`. The extra `http` brings httpx for the client and h11, which httpx itself uses, for the server:
both are pure Python, and neither runs an event loop of its own in somebody else's thread.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...checks import check_seconds, check_whole
from ...errors import GraphError
from ..extras import need
from .client import endpoint, httpx, shown
from .paging import STYLES, Paging, Style
from .poll import HttpPoll
from .sink import HttpSink
from .webhook import Webhook
from .webhook_server import Terms

__all__ = ["HttpPoll", "HttpSink", "Webhook", "http_poll", "http_sink", "webhook"]

#: The largest array of one request, in events.
MAX_BATCH = 500
_PARAMS = {"cursor": "cursor", "after": "after", "page": "page"}


def http_poll(
    url: str,
    *,
    items: str = "",
    paging: Style | None = None,
    field: str | None = None,
    param: str | None = None,
    page_size: int | None = None,
    start: str | int | None = None,
    poll_s: float = 10.0,
    stop_at_end: bool = False,
    headers: Mapping[str, str] | None = None,
    auth: tuple[str, str] | None = None,
    timeout_s: float = 30.0,
    retries: int = 8,
    max_bytes: int = 32 << 20,
) -> HttpPoll:
    """Read the items of a JSON interface page by page, and every `poll_s` seconds what is new: each item is an event.

    `items` names the list in an answer, such as `"data"` or `"result.rows"`; the answer itself is the list without it.
    The list only grows at its end. `paging` is how a page leads to the next:

    - `"link"`: by the url in the answer's field `field`, or in its header `Link` with `rel="next"`;
    - `"cursor"`: by the answer's field `field`, sent back as the parameter `param` (`"cursor"`);
    - `"after"`: by the field `field` of the last item (`"id"`), sent as `param` (`"after"`);
    - `"page"`: by counting, sent as `param` (`"page"`), until a page is empty;
    - `None`: there is only one page.

    A page may be short or empty: only one that names no next page is the last. By number an empty page is the end, and
    the first page is asked for without a number; whether the server counts it as 0 or 1 is seen from its page 1.
    `page_size` is not needed. `start` is the first cursor, field or number. With `stop_at_end` the source ends where it
    would wait. A request is tried again up to `retries` times after 429, 5xx and broken connections, as `Retry-After`
    says or at growing intervals. `max_bytes` bounds the body of an answer.

    Raises `GraphError` for arguments of another shape and without the extra `http`; the server is asked when a run
    reads.
    """
    httpx("http_poll")
    to = endpoint("http_poll", url, headers, auth, timeout_s, retries)
    what = f"cannot make http_poll({shown(to.url)!r})"
    if paging is not None and paging not in STYLES:
        raise GraphError(f"{what}: paging is one of {', '.join(map(repr, STYLES))} or None; pass one of them")
    if paging == "cursor" and not field:
        raise GraphError(f"{what}: paging='cursor' needs the field of the next cursor; pass for example field='next'")
    if page_size is not None:
        if paging != "page":
            raise GraphError(f"{what}: page_size is the number of items of a full page, and goes with paging='page'")
        check_whole(what, "page_size", page_size, "pass the number of items of a full page")
    if start is not None and (paging in (None, "link") or (paging == "page" and not isinstance(start, int))):
        raise GraphError(f"{what}: start is where 'cursor', 'after' and 'page' begin; pass the url to begin at instead")
    poll_s = check_seconds(what, "poll_s", poll_s, "pass for example 10", positive=True)
    max_bytes = check_whole(what, "max_bytes", max_bytes, "pass a number of bytes")
    named = field if paging != "after" else field or "id"
    pages = Paging(to.url, items, paging, named, param or _PARAMS.get(paging or "", ""), start)
    return HttpPoll(to, pages, poll_s, bool(stop_at_end), max_bytes)


def webhook(
    port: int = 0,
    *,
    host: str = "127.0.0.1",
    path: str = "/",
    token: str | None = None,
    queue: int = 1000,
    max_bytes: int = 1 << 20,
    max_depth: int = 64,
    max_events: int = 1000,
    binary: bool = False,
    body_s: float = 30.0,
    wait_s: float = 30.0,
) -> Webhook:
    """Listen for events that are sent by HTTP `POST`, as JSON or CloudEvents: each is a dict.

    A JSON object is an event, an array holds several. A CloudEvent (structured, batched or binary) is a dict of its
    attributes with its data under `data`. The answer is 202 when the events are safe: committed by every ordered sink,
    or stored, where the run has checkpoints and the source `journal=True`; 503 when they are not after `wait_s` seconds
    or at the end of the run, to be sent again. When `queue` events wait to be read it is 429 with `Retry-After`; 413
    for a request of more than `max_bytes` bytes or `max_events` events, 400 for what holds no event or what not every
    sink can hold (values nested more than `max_depth` deep, numbers that are not finite or of more than 64 bits, half
    characters, NUL, a name twice in an object), 415 for what is no JSON, unless `binary` lets a CloudEvent's data be
    bytes, 401 without `Authorization: Bearer <token>` where a `token` is set. A body that has not come after `body_s`
    seconds is given up. TLS is a reverse proxy's task.

    `port=0` has a free one chosen; the log says which (`sluiceway`, level INFO). Raises `GraphError` for arguments of
    another shape and without the extra `http`; the port is opened when a run starts.
    """
    need("h11", "http", "webhook()")
    where = "cannot make webhook()"
    port = check_whole(where, "port", port, "pass 0 to have a free one chosen", least=0, most=(1 << 16) - 1)
    if not isinstance(host, str) or not host:
        raise GraphError(f"{where}: host is a name or address; pass for example host='0.0.0.0'")
    if not isinstance(path, str) or not path.startswith("/") or "?" in path:
        raise GraphError(f"{where}: path begins with a slash; pass for example path='/events'")
    if token is not None and (not isinstance(token, str) or not token):
        raise GraphError(f"{where}: token is a text that is not empty; pass one, or None for anybody")
    queue = check_whole(where, "queue", queue, "pass a number of events")
    max_bytes = check_whole(where, "max_bytes", max_bytes, "pass a number of bytes")
    wait_s = check_seconds(where, "wait_s", wait_s, "pass for example 30", positive=True)
    max_depth = check_whole(where, "max_depth", max_depth, "pass a number of levels", most=256)
    max_events = check_whole(where, "max_events", max_events, "pass a number of events")
    body_s = check_seconds(where, "body_s", body_s, "pass for example 30", positive=True)
    terms = Terms(host, port, path, token, max_bytes, wait_s, max_depth, max_events, body_s, bool(binary))
    return Webhook(terms, queue)


def http_sink(
    url: str,
    *,
    method: str = "POST",
    batch_size: int | None = None,
    headers: Mapping[str, str] | None = None,
    auth: tuple[str, str] | None = None,
    timeout_s: float = 30.0,
    retries: int = 8,
) -> HttpSink:
    """Send events in order to an HTTP server, each as JSON, or up to `batch_size` of them as an array.

    Each request is answered (2xx) before the next is sent. It carries its numbers in `Sluiceway-Seq` (`7`, `7.1` for
    the index 1 of number 7, `7-9` for three numbers) and in `Idempotency-Key`, which is the same when it is sent again:
    delivery is at least once, and once where the server knows the keys. A request is tried again up to `retries` times
    after 429, 5xx and broken connections, as `Retry-After` says or at growing intervals. What JSON cannot carry and
    what the server refuses for good fails the run at that event.

    Raises `GraphError` for arguments of another shape and without the extra `http`.
    """
    httpx("http_sink")
    to = endpoint("http_sink", url, headers, auth, timeout_s, retries)
    what = f"cannot make http_sink({shown(to.url)!r})"
    if method not in ("POST", "PUT", "PATCH"):
        raise GraphError(f"{what}: method is 'POST', 'PUT' or 'PATCH'; pass one of them")
    if batch_size is not None:
        batch_size = check_whole(what, "batch_size", batch_size, "pass None for single events", most=MAX_BATCH)
    return HttpSink(to, method, batch_size)
