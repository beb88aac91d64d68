"""Who may read the page.

Decides which requests are refused before anything else looks at them. Without a token only this machine reaches the page, and
the header `Host` must name it so: a name that somebody has made to lead here (DNS rebinding) is another one. With a token
every request carries it: as a header, or as a cookie that its first visit gets. It knows no server.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from msgspec import Struct

COOKIE = "sluiceway_page"

#: On every answer: nothing is kept, framed, guessed or loaded from elsewhere.
SAFE_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
     " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)  # fmt: skip

Headers = Sequence[tuple[bytes, bytes]]


class Refusal(Struct, frozen=True):
    """What a request is answered before the page sees it."""

    status: int
    text: str
    headers: tuple[tuple[str, str], ...] = ()


class Access:
    """Judges requests to one page."""

    def __init__(self, token: str | None) -> None:
        self._token = None if token is None else token.encode()
        self._cookie = b"" if self._token is None else _derived(self._token)

    def judge(self, method: str, path: str, query: bytes, headers: Headers) -> Refusal | None:
        """Return the answer to a request that goes no further, else `None`."""
        if method not in ("GET", "HEAD"):
            return Refusal(405, "the page is only read: send GET", (("Allow", "GET, HEAD"), ("Connection", "close")))
        if self._token is None:
            return None if _names_this_machine(headers) else Refusal(
                403, "this page is for this machine alone: open it as http://127.0.0.1 with its port, or give it a token"
            )
        if self._is_known(headers):
            return None
        if path == "/" and self._is_token(_token_in(query)):
            cookie = f"{COOKIE}={self._cookie.decode()}; HttpOnly; SameSite=Strict; Path=/"
            return Refusal(303, "", (("Location", "/"), ("Set-Cookie", cookie)))
        return Refusal(401, "the token is missing or wrong: open /?token=TOKEN, or send it as Authorization: Bearer TOKEN",
                      (("WWW-Authenticate", "Bearer"),))  # fmt: skip

    def _is_known(self, headers: Headers) -> bool:
        told = [value for name, value in headers if name.lower() == b"authorization"]
        if told:
            kind, _, token = told[0].partition(b" ")
            return len(told) == 1 and kind.lower() == b"bearer" and self._is_token(token.strip())
        given = b"; ".join(value for name, value in headers if name.lower() == b"cookie")
        try:
            found = SimpleCookie(given.decode("latin-1")).get(COOKIE)
        except CookieError:
            return False
        return found is not None and hmac.compare_digest(found.value.encode(), self._cookie)

    def _is_token(self, given: bytes) -> bool:
        return self._token is not None and hmac.compare_digest(given, self._token)


def _derived(token: bytes) -> bytes:
    """Return what the cookie holds: it opens this page, but the token cannot be read from it."""
    return hmac.new(token, b"cookie of the page", hashlib.sha256).hexdigest().encode()


def _token_in(query: bytes) -> bytes:
    try:
        given = parse_qs(query.decode("latin-1"), max_num_fields=8).get("token", [""])
    except ValueError:
        return b""
    return given[0].encode() if len(given) == 1 else b""


def _names_this_machine(headers: Headers) -> bool:
    """Whether the one header `Host` is a name of the machine itself, with any port: a tunnel may have another."""
    hosts = [value.decode("latin-1") for name, value in headers if name.lower() == b"host"]
    if len(hosts) != 1:
        return False
    host = hosts[0].rpartition("]")[0].lstrip("[") if hosts[0].startswith("[") else hosts[0].partition(":")[0]
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
