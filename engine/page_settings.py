"""Where a run serves its page, and who may see it: what `serve=` leaves to the defaults, as a value.

Decides which settings there are and checks them: an address that others reach needs a token. It serves nothing.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..nodes.checks import check_seconds
from ..nodes.errors import GraphError, kind_of

#: The environment variable with the token, where the program names none.
TOKEN_VARIABLE = "SLUICEWAY_PAGE_TOKEN"

_HOST = "127.0.0.1"
_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9a-fA-F:.]+\]|[^\[\]:/\s]+):)?(?P<port>[0-9]{1,5})")
#: A shorter one could be tried out.
_LEAST_TOKEN = 16
_TOKEN = re.compile(f"[!-~]{{{_LEAST_TOKEN},}}")


@dataclass(frozen=True, slots=True)
class Page:
    """Where and how a run serves its page; made by `page`."""

    host: str = _HOST
    port: int = 0
    token: str | None = field(default=None, repr=False)
    show_events: bool = False
    linger_s: float = 0.0
    opened: Callable[[str], object] | None = None

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine reach it."""
        return _is_loopback(self.host)


def page(
    address: int | str = 0,
    *,
    token: str | None = None,
    show_events: bool = False,
    linger_s: float = 0.0,
    opened: Callable[[str], object] | None = None,
) -> Page:
    """Return where a run serves its page: `sw.run(graph, serve=sw.page("127.0.0.1:8077", linger_s=60))`.

    `address` is a port of this machine alone or "HOST:PORT"; port 0 takes a free one. An address that other machines reach
    needs a `token` of 16 characters or more, or the environment variable SLUICEWAY_PAGE_TOKEN. Events that failed are shown
    with `show_events` only. The page stays for `linger_s` seconds after the run, or until Ctrl-C; `opened` is called with
    its address; what it raises is logged. Needs the extra `page`. Raises `GraphError` for a value that cannot be meant.
    """
    return _make_page("sw.page", "address", address, token, show_events, linger_s, opened)


def check_page(where: str, name: str, value: Any) -> Page:
    """Return the settings that an option of a run means: a `Page`, a port or "HOST:PORT". Raises `GraphError`."""
    if isinstance(value, Page):
        return value
    return _make_page(where, name, value)


def _make_page(
    where: str,
    name: str,
    address: Any,
    token: Any = None,
    show_events: Any = False,
    linger_s: Any = 0.0,
    opened: Any = None,
) -> Page:
    host, port = _parsed(where, name, address)
    token = os.environ.get(TOKEN_VARIABLE) or None if token is None else token
    if token is not None and (not isinstance(token, str) or not _TOKEN.fullmatch(token)):
        raise GraphError(
            f"{where} cannot use its token: it must be {_LEAST_TOKEN} or more visible ASCII characters without spaces; make one"
            " by secrets.token_urlsafe()"
        )
    if token is None and not _is_loopback(host):
        raise GraphError(
            f"{where} cannot use {name}={address!r} without a token: other machines reach it; give sw.page(..., token=...), set"
            f" {TOKEN_VARIABLE}, or serve on 127.0.0.1"
        )
    if not isinstance(show_events, bool):
        raise GraphError(f"{where} cannot use show_events=: it is {kind_of(show_events)}; pass True or False")
    if opened is not None and not callable(opened):
        raise GraphError(f"{where} cannot use opened=: it is {kind_of(opened)}; pass a function that takes the address")
    linger_s = check_seconds(where, "linger_s", linger_s, remedy="leave it out for none")
    return Page(host, port, token, show_events, linger_s, opened)


def _parsed(where: str, name: str, address: Any) -> tuple[str, int]:
    refused = GraphError(
        f'{where} cannot use {name}={address!r:.60}: it is a port from 0 to 65535 or "HOST:PORT", such as 8077 or'
        ' "127.0.0.1:0"; pass one'
    )
    if isinstance(address, bool) or not isinstance(address, (int, str)):
        raise refused
    found = _ADDRESS.fullmatch(str(address))
    if found is None or int(found["port"]) > 65535:
        raise refused
    return (found["host"] or _HOST).strip("[]"), int(found["port"])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
