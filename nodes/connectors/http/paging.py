"""How the pages of a polled HTTP interface follow each other.

Decides, from a page's answer alone, which items it holds and which page is next, and that a server which leads in a
circle is told. The key of a page is what is sent to get it (`None` for the first). Pure: no sockets, no time.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args
from urllib.parse import urljoin

from ...errors import kind_of
from ...json_values import EXACT
from .client import Response, origin, shown
from .links import next_link

Style = Literal["link", "cursor", "after", "page"]
STYLES: tuple[str, ...] = get_args(Style)

Key = str | int | None


@dataclass(frozen=True, slots=True)
class Paging:
    """Where items and next page are in an answer; the fields are the arguments of `sluiceway.http_poll`."""

    url: str = dataclasses.field(repr=False)  # its query may hold a secret
    items: str
    style: Style | None
    field: str | None
    param: str
    start: Key = dataclasses.field(repr=False)

    def request(self, key: Key) -> tuple[str, dict[str, str]]:
        """Return the url and the parameters that ask for a page."""
        if self.style == "link":
            return (self.url if key is None else str(key)), {}
        return self.url, {} if key is None else {self.param: str(key)}

    def items_of(self, answer: Response) -> tuple[Any, list[Any]]:
        """Return an answer as JSON and the list of its items; raises `ValueError` for another answer."""
        try:
            body = EXACT.decode(answer.body.decode(json.detect_encoding(answer.body)))
        except (ValueError, RecursionError):
            # no __cause__: it holds the whole text
            reason = "the answer is no JSON, or has a number too large for a float"
            raise self._bad(reason, "pass the url of an interface that gives JSON") from None
        items = _at(body, self.items)
        if not isinstance(items, list):
            where = f"at {self.items!r} of the answer" if self.items else "as the answer"
            raise self._bad(
                f"there is no list {where}", "name the field of the items, such as items='data' or 'result.rows'"
            )
        return body, items

    def next_key(self, key: Key, answer: Response, body: Any, items: Sequence[Any]) -> Key:
        """Return the key of the page behind this one, `None` while there is none.

        By number there is always one, which may be empty; behind a first page that was asked for without a number it
        is 1, which may be that page itself.
        """
        if self.style == "link":
            return self._next_link(key, answer, body)
        if self.style == "cursor":
            return self._scalar(_at(body, self.field or ""), self.field)
        if self.style == "after" and items:
            return self._last_field(key, items)
        if self.style == "page":
            return 1 if key is None else int(key) + 1
        return None

    def _last_field(self, key: Key, items: Sequence[Any]) -> Key:
        found = [self._scalar(_at(item, self.field or ""), self.field) for item in items]
        if found[-1] is None:
            raise self._bad(f"the last item has no field {self.field!r}", "name a field that every item has")
        if key is not None and str(found[0]) == str(key):
            raise self._bad(
                f"a page begins with the item that it was to begin behind, by its field {self.field!r}",
                f"let the server give what comes behind {self.param!r}, without that item",
            )
        if any(one is not None and one == other for one, other in pairwise(found)):
            raise self._bad(
                f"two items have the same field {self.field!r}, so that there is no place between them to go on from",
                "name a field that differs in every item",
            )
        return found[-1]

    def _next_link(self, key: Key, answer: Response, body: Any) -> Key:
        page = str(key or self.url)
        if self.field is None:
            try:
                link: Key = next_link(answer.link, page)
            except ValueError:
                raise self._bad(
                    "the header Link is none by RFC 8288, so that the next page cannot be told", "correct the server"
                ) from None
        else:
            link = self._scalar(_at(body, self.field), self.field)
        if link is None:
            return None
        url = urljoin(page, str(link))
        if origin(url) != origin(self.url):
            raise self._bad(
                f"the next page is on another server, {shown(url)}, which must not be sent the credentials of this one",
                "pass the url under which the server names its pages",
            )
        return url

    def _scalar(self, value: Any, field: str | None) -> Key:
        if value is None or value == "" or value is False:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise self._bad(
                f"the field {field!r} is {kind_of(value)}, not a text or a whole number", "name another field"
            )
        return value

    def circle(self) -> ValueError:
        """Return the error for a server that leads back to a page which was read."""
        return self._bad(
            "the same page comes again under the same or the next key, so that there is no end",
            f"see that the server knows the parameter {self.param!r}, and names no next page behind the last one"
            if self.param
            else "let the server name no next page behind the last one",
        )

    def _bad(self, what: str, remedy: str) -> ValueError:
        return ValueError(f"cannot poll {shown(self.url)}: {what}; {remedy}")


class Route:
    """The pages that a reader was led to, so far as it takes to notice a circle (after Brent: one page is remembered)."""

    def __init__(self) -> None:
        self._last: tuple[Key, int] | None = None
        self._mark: tuple[Key, int] | None = None
        self._steps = self._power = 1

    def leads_on(self, key: Key, check: int) -> bool:
        """Record a page that is not empty; false where it was there before, with this key and these items."""
        page = key, check
        if page in (self._last, self._mark):
            return False
        self._last = page
        self._steps += 1
        if self._steps >= self._power:
            self._mark, self._steps, self._power = page, 0, 2 * self._power
        return True


def _at(value: Any, path: str) -> Any:
    """Return the value at a path such as `meta.next`, or `None` if there is none."""
    for name in path.split(".") if path else ():
        value = value.get(name) if isinstance(value, dict) else None
    return value


def canonical(item: Any) -> bytes:
    """Return an item as the bytes that its check is made of."""
    return json.dumps(item, sort_keys=True, separators=(",", ":")).encode()


def check_of(items: Sequence[Any]) -> int:
    """Return a check of items."""
    check = 0
    for item in items:
        check = zlib.crc32(canonical(item), check)
    return check


def sealed(key: Key) -> bytes:
    """Return a key as bytes that are not readable at a glance: a link may hold a secret, and errors show positions."""
    return zlib.compress(json.dumps(key).encode())


def opened(key: bytes) -> Key:
    """Return the key that was sealed; raises `ValueError` for other bytes."""
    try:
        value: Key = json.loads(zlib.decompress(key))
    except zlib.error as error:
        raise ValueError("not a key") from error
    return value
