"""A polled HTTP interface as a source: its items, page by page, and what is new from then on.

Decides that a polled list only grows at its end: when a page is requested again, the items already read are left out
after a check that they are the same. An empty page is the end only where it names no other page. A separate thread
waits for the server, so that a slow server blocks no read.
"""

from __future__ import annotations

import queue
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..compared import digest, last_part
from .client import Client, Endpoint, Interrupted, shown
from .paging import Key, Paging, Route, canonical, check_of, opened, sealed

#: How long a read waits for the server, in seconds, before it returns that nothing is there yet.
WAIT_S = 0.1
#: How many empty pages in a row, each naming another, are passed without a pause, and before a source that ends gives up.
EMPTY_PAGES = 16
MAX_EMPTY_PAGES = 1000


class HttpPoll:
    """A polled interface as a source; made by `sluiceway.http_poll`."""

    #: Pages may have changed when requested again: an extent describes exactly what was read, with a check.
    replay = "logged"

    def __init__(self, to: Endpoint, paging: Paging, poll_s: float, stop_at_end: bool, max_bytes: int) -> None:
        self._to = to
        self._paging = paging
        self._poll_s = poll_s
        self._stop_at_end = stop_at_end
        self._max_bytes = max_bytes

    def __repr__(self) -> str:
        return f"http_poll({shown(self._to.url)!r})"

    @property
    def name(self) -> str:
        """The end of the url's path, which names the node."""
        return last_part(self._to.url)

    def settings(self) -> dict[str, Any]:
        """Return what decides which items are read; the query, which may hold a secret, as a digest."""
        paging = self._paging
        return {
            "url": shown(self._to.url),
            "query": digest(urlsplit(self._to.url).query),
            "items": paging.items,
            "paging": paging.style,
            "field": paging.field,
            "param": paging.param,
            "start": None if paging.start is None else digest(repr(paging.start)),
        }

    def reader(self, position: object | None, /) -> PollReader:
        """Begin at the first page or at a position; nothing is requested before the first read."""
        return PollReader(self._to, self._paging, self._poll_s, self._stop_at_end, self._max_bytes, position)


class _Page(NamedTuple):
    items: list[Any]
    next_key: Key


@dataclass
class _PollPosition:
    """The position behind `count_read` items of the page `key`, whose check is `check`.

    `turn` counts the pages that were read under this key before, from a server that has one key for all of them.
    """

    key: Key
    count_read: int = 0
    check: int = 0
    turn: int = 0


class PollReader:
    """Reads the items of a polled interface."""

    def __init__(
        self,
        to: Endpoint,
        paging: Paging,
        poll_s: float,
        stop_at_end: bool,
        max_bytes: int,
        position: object | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shown = shown(to.url)
        self._paging = paging
        self._poll_s = poll_s
        self._stop_at_end = stop_at_end
        self._clock = clock
        self._position = _PollPosition(paging.start) if position is None else _parse_position(position)
        if self._position.turn:
            raise self._no_way_back()
        self._resumed = position is not None and self._position.key is not None
        self._route = Route()
        self._empty_pages = 0
        # by number, where a page does not say whether there is another:
        self._ahead: Key = None  # the number that is asked for before it is known to be there
        self._final = False  # whether the page of the position was asked for after a next one was seen, so it is full
        self._full: int | None = None  # how many items a page has that was found to be full
        self._page: _Page | None = None
        self._due = clock()
        self._ended = False
        self._extent: tuple[Key, int, int, int] | None = None
        self._fetcher = _Fetcher(to, paging, max_bytes)

    def read(self, limit: int, max_bytes: int, /) -> Sequence[Any] | None:
        """Return the next items: `None` at the end of a source that ends there, empty when nothing is there yet.

        Raises `NoAnswer` if the server fails for longer than the retries last, and `ValueError` for an answer that does
        not contain what was requested, or no longer contains what was read.
        """
        until = self._clock() + WAIT_S
        while not self._ended:
            if self._page is None:
                if not self._fetch(until):
                    return None if self._fetcher.closed else []
                continue
            items = self._read_items(max(limit, 1), max_bytes)
            if items:
                return items
            self._advance()
        return None

    def _read_items(self, limit: int, max_bytes: int) -> list[Any]:
        """Return items of the page, up to the limits but at least one."""
        assert self._page is not None
        position, items, size, own = self._position, [], 0, 0
        check = position.check
        for item in self._page.items[position.count_read : position.count_read + limit]:
            data = canonical(item)
            own, check, size = zlib.crc32(data, own), zlib.crc32(data, check), size + len(data)
            items.append(item)
            if size >= max_bytes:
                break
        if items:
            self._extent = (position.key, position.count_read, len(items), own)
            self._position = _PollPosition(position.key, position.count_read + len(items), check)
        return items

    def _advance(self) -> None:
        """Move behind the last item of a page: to the next page, or to the same one when it is due."""
        assert self._page is not None
        (items, key), self._page = self._page, None
        same = key == self._position.key
        if key is None or (not items and (same or self._paging.style == "page")):
            self._reach_end()
        elif self._paging.style == "page":
            self._leave_or_look_ahead(key)
        else:
            if items and not self._route.leads_on(self._position.key, check_of(items)):
                raise self._paging.circle()
            if same and self._resumed:
                raise self._no_way_back()
            self._position = _PollPosition(key, turn=self._position.turn + 1 if same else 0)
            self._count_empty(items)
        self._resumed = False

    def _leave_or_look_ahead(self, key: Key) -> None:
        """Move to the next number if this page is full, else look whether there is one: until then this one may grow."""
        if self._final:
            self._full, self._final = self._position.count_read, False
            self._position = _PollPosition(key)
        else:
            self._ahead = key

    def _reach_end(self) -> None:
        self._ended = self._stop_at_end
        self._due = self._clock() + self._poll_s

    def _count_empty(self, items: Sequence[Any]) -> None:
        """Record whether a page that names another was empty: some servers name a next page for ever."""
        self._empty_pages = 0 if items else self._empty_pages + 1
        if self._stop_at_end and self._empty_pages >= MAX_EMPTY_PAGES:
            raise ValueError(
                f"cannot poll {self._shown}: {self._empty_pages} pages in a row are empty, and each names another, so that "
                "the end cannot be told; let the server name no next page behind the last one"
            )
        if not self._stop_at_end and self._empty_pages >= EMPTY_PAGES:
            self._due = self._clock() + self._poll_s

    def _no_way_back(self) -> ValueError:
        return ValueError(
            f"cannot go on in {self._shown}: the server has one cursor for all pages, so that nothing leads back to the "
            "page where the run stood; begin afresh with resume='never'"
        )

    def _fetch(self, until: float) -> bool:
        """Fetch the page that is due and judge it; false while it has not arrived."""
        self._fetcher.pause(min(self._due, until) - self._clock())
        if self._due > until:
            return False
        key = self._position.key if self._ahead is None else self._ahead
        page = self._fetcher.get(key, max(until - self._clock(), 0))
        if page is None:
            return False
        if self._ahead is None:
            self._accept_page(page)
        else:
            self._look_ahead(page)
        return True

    def _look_ahead(self, page: _Page) -> None:
        """Move to the page that was asked for by its number, unless it is empty: then the list ends with this one."""
        position, key, self._ahead = self._position, self._ahead, None
        if not page.items:
            self._reach_end()
            return
        if position.key is None and self._begins_as_read(page):
            # the first page was asked for without a number, and this is it: the server counts from 1
            self._position = _PollPosition(key, position.count_read, position.check)
        elif len(page.items) == position.count_read and check_of(page.items) == position.check:
            raise self._paging.circle()
        elif self._full is not None and position.count_read >= self._full:
            self._position = _PollPosition(key)
        else:
            self._final = True  # what came to this page before the next one began is still to be read
            return
        self._page = page

    def _begins_as_read(self, page: _Page) -> bool:
        count = self._position.count_read
        return len(page.items) >= count and check_of(page.items[:count]) == self._position.check

    def _accept_page(self, page: _Page) -> None:
        position = self._position
        if not self._begins_as_read(page):
            raise ValueError(
                f"cannot go on in {self._shown}: the {position.count_read} items that were read of a page are not its first any "
                "more; poll a list that only grows at its end, or begin afresh with resume='never'"
            )
        self._page = page

    def position(self) -> tuple[object, ...]:
        """Return the position behind the last item: the key of its page, and how many of its items were returned."""
        position = self._position
        return sealed(position.key), position.count_read, position.check, position.turn

    def extent(self) -> object:
        """Return what describes the items of the last read: their page, the first, their number and check."""
        return None if self._extent is None else (sealed(self._extent[0]), *self._extent[1:])

    def replay(self, extent: object) -> Sequence[Any]:
        """Return the items of an extent again; raises `ValueError` if the server no longer returns them."""
        fields: Any = extent
        shut, first, count, check = fields
        key = opened(shut)
        if self._page is None or self._position.key != key:
            self._position, self._page, self._ahead, self._final = _PollPosition(key), None, None, False
            while (page := self._fetcher.get(key, WAIT_S)) is None:
                if self._fetcher.closed:
                    return []
            self._page = page
        items = self._page.items[first : first + count]
        if len(items) != count or check_of(items) != check:
            raise ValueError(
                f"cannot read {count} items of {self._shown} again: the server gives others in their place; begin "
                "afresh with resume='never'"
            )
        self._position = _PollPosition(key, first + count, check_of(self._page.items[: first + count]))
        self._extent = (key, first, count, check)
        return items

    def close(self) -> None:
        """Stop reading; a waiting read returns at once."""
        self._fetcher.close()


def _parse_position(position: object) -> _PollPosition:
    raw: Any = position
    try:
        key, count_read, check, turn = raw
        return _PollPosition(opened(key), int(count_read), int(check), int(turn))
    except (TypeError, ValueError):
        raise ValueError(
            "cannot go on from this position: it is none of http_poll; pass what position() gave"
        ) from None


class _Fetcher:
    """Requests pages in a separate thread, one at a time; the thread starts with the first request."""

    def __init__(self, to: Endpoint, paging: Paging, max_bytes: int) -> None:
        self._to = to
        self._paging = paging
        self._max_bytes = max_bytes
        self._closing = threading.Event()
        self._asked: queue.SimpleQueue[Key | _Fetcher] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[_Page | Exception | None] = queue.SimpleQueue()
        self._waiting = False
        self._thread: threading.Thread | None = None

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._closing.is_set()

    def pause(self, wait_s: float) -> None:
        """Wait, unless closed meanwhile."""
        if wait_s > 0:
            self._closing.wait(wait_s)

    def get(self, key: Key, wait_s: float) -> _Page | None:
        """Return the page `key`, or `None` if it has not arrived within `wait_s`: call again then."""
        if self.closed:
            return None
        if self._thread is None:
            # a daemon: a server that never answers must not hold up the end of the process
            self._thread = threading.Thread(target=self._work, name="http-poll", daemon=True)
            self._thread.start()
        if not self._waiting:
            self._asked.put(key)
            self._waiting = True
        try:
            answer = self._answers.get(timeout=wait_s)
        except queue.Empty:
            return None
        if answer is None:  # closed
            return None
        self._waiting = False
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _work(self) -> None:
        client = None
        try:
            while not isinstance(key := self._asked.get(), _Fetcher):
                try:
                    client = client or Client(self._to, "http_poll", self._closing)
                    self._answers.put(self._page(client, key))
                except Interrupted:
                    return
                except Exception as error:
                    self._answers.put(error)
        finally:
            if client is not None:
                client.close()

    def _page(self, client: Client, key: Key) -> _Page:
        url, params = self._paging.request(key)
        answer = client.send("GET", url, params=params, max_bytes=self._max_bytes)
        body, items = self._paging.items_of(answer)
        return _Page(items, self._paging.next_key(key, answer, body, items))

    def close(self) -> None:
        """End the thread when the server has answered, and wake the reader that waits for it."""
        self._closing.set()
        self._asked.put(self)
        self._answers.put(None)
