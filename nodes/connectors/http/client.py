"""HTTP requests that are tried again, shared by the polled source and the sink.

Decides what is worth another try (no connection, no answer in time, and the statuses that say "later"), how long to
wait before it (`Retry-After`, else doubling), and what an error may show: method, scheme, host, path and status. What
can be a secret (headers, the query, user and password in a url, bodies) reaches no error text and no log.

The client is httpx: synchronous, so that it also works in a thread that runs an event loop, in pure Python.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from types import ModuleType
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from ...checks import check_seconds, check_whole
from ...errors import GraphError
from ..extras import need

#: Answers that a later try may change.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})

#: Waits between two tries, in seconds: doubling from the first to the second, each up to a half longer by chance.
WAITS_S = (0.5, 60.0)
#: The longest wait that a server may ask for.
MAX_WAIT_S = 600.0

_CHUNK = 1 << 16
_SENDABLE = re.compile(r"[\t\x20-\x7e]+").fullmatch


class NoAnswer(OSError):
    """A server that could not be reached, or whose answer was not the one asked for; `position` is for sinks."""

    status: int | None = None
    position: int | None = None


class Interrupted(Exception):
    """The reader was closed while it waited for another try."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address and settings that all requests share. Its `repr` shows no secret."""

    url: str
    headers: Mapping[str, str]
    auth: tuple[str, str] | None
    timeout_s: float
    retries: int

    def __repr__(self) -> str:
        return f"Endpoint({shown(self.url)!r})"


@dataclass(frozen=True, slots=True)
class Response:
    """The answer of a server: the whole body, and the header `Link`, empty if there is none."""

    status: int
    body: bytes
    link: str


def httpx(maker: str) -> ModuleType:
    """Import and return httpx; raises `GraphError` if it is missing."""
    return need("httpx", "http", f"{maker}()")


def shown(url: str) -> str:
    """Return a url without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{_host_of(parts)}{parts.path}"


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port: the server that a request goes to."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _host_of(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def endpoint(
    maker: str, url: object, headers: object, auth: object, timeout_s: object, retries: object
) -> Endpoint:
    """Check the arguments that all requests share; raises `GraphError`. The url may contain user and password."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        known = parts is not None and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port or an address that is none
        parts, known = None, False
    if parts is None or not known:
        raise GraphError(f"cannot make {maker}(): it needs the url of an HTTP server; pass 'https://host/path'")
    what = f"cannot make {maker}({shown(parts.geturl())!r})"
    given = dict(headers) if isinstance(headers, Mapping) else None if headers is not None else {}
    if given is None or not all(isinstance(text, str) and _SENDABLE(text) for pair in given.items() for text in pair):
        raise GraphError(f"{what}: headers are texts of ASCII by names; pass for example headers={{'Accept': '...'}}")
    if auth is not None and not (
        isinstance(auth, tuple) and len(auth) == 2 and all(isinstance(text, str) for text in auth)
    ):
        raise GraphError(f"{what}: auth is a user's name and password; pass a tuple of both, or use headers")
    limit_s = check_seconds(what, "timeout_s", timeout_s, "pass for example 30", positive=True)
    tries = check_whole(what, "retries", retries, "pass 0 for none", least=0)
    if parts.username is not None and auth is None:
        auth = (unquote(parts.username), unquote(parts.password or ""))
    bare = parts._replace(netloc=_host_of(parts), fragment="").geturl()  # the scheme in lower case
    return Endpoint(bare, given, auth, limit_s, tries)


class Client:
    """Sends requests, one at a time, over connections that stay open."""

    def __init__(self, to: Endpoint, maker: str, closing: threading.Event | None = None) -> None:
        self._httpx = httpx(maker)
        self._to = to
        self._maker = maker
        self._closing = closing or threading.Event()
        auth = None if to.auth is None else self._httpx.BasicAuth(*to.auth)
        # a plain connection need not wait until the authorities are loaded; it never turns into another
        verify = to.url.startswith("https:")
        self._client = self._httpx.Client(headers=dict(to.headers), auth=auth, timeout=to.timeout_s, verify=verify)

    def send(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        max_bytes: int | None = None,
    ) -> Response:
        """Send a request until it succeeds; raises `NoAnswer` when it does not, `Interrupted` when closed meanwhile.

        An answer of more than `max_bytes` is refused; with `None` the body is not read.
        """
        request = self._request(method, url, params or {}, content, headers or {})
        what = f"cannot {method} {shown(url)} for {self._maker}()"
        for attempt in range(self._to.retries + 1):
            try:
                answer, asked_s = self._once(request, what, max_bytes)
            except self._httpx.RequestError as error:
                failure, asked_s = NoAnswer(f"{what}: {self._reason(error)}"), None
            else:
                if 200 <= answer.status < 300:
                    return answer
                failure = NoAnswer(f"{what}: it answered {_status(answer.status)}")
                failure.status = answer.status
                if answer.status not in PASSING:
                    break
            if attempt < self._to.retries:
                wait_s = min(WAITS_S[0] * 2**attempt, WAITS_S[1]) * (1 + random.random() / 2)
                if self._closing.wait(min(max(wait_s, asked_s or 0), MAX_WAIT_S)):
                    raise Interrupted
        tried = f" ({attempt + 1} tries)" if attempt else ""
        failure.args = (f"{failure}{tried}; {_remedy(failure.status)}",)
        raise failure

    def _request(
        self, method: str, url: str, params: Mapping[str, str], content: bytes | None, headers: Mapping[str, str]
    ) -> Any:
        full = self._httpx.URL(url).copy_merge_params(params)
        # the query goes to the server only: httpx writes the url of every request into its log
        bare = full.copy_with(query=None)
        return self._client.build_request(
            method, bare, content=content, headers=headers, extensions={"target": full.raw_path}
        )

    def _once(self, request: Any, what: str, max_bytes: int | None) -> tuple[Response, float | None]:
        response = self._client.send(request, stream=True)
        try:
            body, size = [], 0
            for chunk in response.iter_bytes(_CHUNK):
                size += len(chunk)
                if max_bytes is None:
                    if size <= _CHUNK:
                        continue  # read to its end, the connection can be used again
                    break
                if size > max_bytes:
                    raise NoAnswer(f"{what}: the answer has more than {max_bytes} bytes; ask for smaller pages")
                body.append(chunk)
        finally:
            response.close()
        asked_s = wait_asked(response.headers.get("retry-after"), time.time())
        return Response(response.status_code, b"".join(body), response.headers.get("link", "")), asked_s

    def _reason(self, error: Exception) -> str:
        """Return what is wrong with a connection; only the system's own texts are known to contain no header or body."""
        known = isinstance(error, self._httpx.NetworkError | self._httpx.TimeoutException) and str(error)
        return f"{type(error).__name__}: {error}" if known else type(error).__name__

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def wait_asked(retry_after: str | None, now: float) -> float | None:
    """Return the seconds that a `Retry-After` asks for at the time `now`, or `None` if it is no time."""
    if not retry_after:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        when: datetime = parsedate_to_datetime(retry_after)
        return max(when.timestamp() - now, 0.0)
    except (TypeError, ValueError):
        return None


def _status(status: int) -> str:
    if 300 <= status < 400:
        return f"{status}, which means another url"
    return str(status)


def _remedy(status: int | None) -> str:
    if status is None:
        return "see that the server runs and can be reached"
    if 300 <= status < 400:
        return "pass the url that it really has"
    if status in (401, 403):
        return "correct the credentials in headers or auth"
    if status in PASSING:
        return "try again later, or with more retries"
    return "correct the url, or what is sent to it"
