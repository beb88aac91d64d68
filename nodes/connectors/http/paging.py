"""How the pages of a polled HTTP interface follow each other.

Decides, from a page's answer alone, which items it holds and which page is next. The key of a page is what is sent to
get it (`None` for the first). Pure: no sockets, no time.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args
from urllib.parse import urljoin

from .client import Response, origin, shown

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
    page_size: int | None

    def request(self, key: Key) -> tuple[str, dict[str, str]]:
        """Return the url and the parameters that ask for a page."""
        if self.style == "link":
            return (self.url if key is None else str(key)), {}
        return self.url, {} if key is None else {self.param: str(key)}

    def items_of(self, answer: Response) -> tuple[Any, list[Any]]:
        """Return an answer as JSON and the list of its items; raises `ValueError` for another answer."""
        try:
            body = json.loads(answer.body)
        except (ValueError, RecursionError):
            # no __cause__: it holds the whole text
            raise self._bad("the answer is no JSON", "pass the url of an interface that gives JSON") from None
        items = _at(body, self.items)
        if not isinstance(items, list):
            where = f"at {self.items!r} of the answer" if self.items else "as the answer"
            raise self._bad(
                f"there is no list {where}", "name the field of the items, such as items='data' or 'result.rows'"
            )
        return body, items

    def next_key(self, key: Key, answer: Response, body: Any, items: Sequence[Any]) -> Key:
        """Return the key of the page behind this one, `None` while there is none."""
        if self.style == "link":
            return self._next_link(key, answer, body)
        if self.style == "cursor":
            return self._scalar(_at(body, self.field or ""), self.field)
        if self.style == "after" and items:
            found = self._scalar(_at(items[-1], self.field or ""), self.field)
            if found is None:
                raise self._bad(f"the last item has no field {self.field!r}", "name a field that every item has")
            return found
        if self.style == "page" and self.page_size is not None and len(items) >= self.page_size:
            return int(key if key is not None else 1) + 1
        return None

    def _next_link(self, key: Key, answer: Response, body: Any) -> Key:
        link = answer.next_link if self.field is None else self._scalar(_at(body, self.field), self.field)
        if link is None:
            return None
        url = urljoin(str(key or self.url), str(link))
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
                f"the field {field!r} is a {type(value).__name__}, not a text or a whole number", "name another field"
            )
        return value

    def _bad(self, what: str, remedy: str) -> ValueError:
        return ValueError(f"cannot poll {shown(self.url)}: {what}; {remedy}")


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
