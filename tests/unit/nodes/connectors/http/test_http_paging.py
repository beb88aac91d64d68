"""How pages follow each other: every item once in every mode, whatever the sizes of pages; the header Link; circles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from http_server import Reply, Request, Server, serving
from hypothesis import given, settings
from hypothesis import strategies as st
from sluiceway.nodes.connectors.http import client as client_module
from sluiceway.nodes.connectors.http import poll
from sluiceway.nodes.connectors.http.api import http_poll
from sluiceway.nodes.connectors.http.links import next_link

MANY = 1 << 20
#: What a reader of the pages of a test is asked for, by the mode.
MODES: dict[str, dict[str, Any]] = {
    "cursor": {"items": "rows", "paging": "cursor", "field": "next"},
    "numbers": {"items": "rows", "paging": "cursor", "field": "next"},
    "link": {"items": "rows", "paging": "link"},
    "field": {"items": "rows", "paging": "link", "field": "next"},
    "after": {"items": "rows", "paging": "after"},
    "from 0": {"items": "rows", "paging": "page"},
    "from 1": {"items": "rows", "paging": "page"},
    "told 0": {"items": "rows", "paging": "page", "start": 0},
    "scroll": {"items": "rows", "paging": "cursor", "field": "next"},
}


class Pages:
    """Pages of given sizes, served in a mode; `asked` counts the requests of a server that remembers where it is."""

    def __init__(self, mode: str, sizes: list[int]) -> None:
        self.mode = mode
        self.pages: list[list[Any]] = []
        self.asked = -1
        for size in sizes:
            first = sum(map(len, self.pages)) + 1
            self.pages.append([{"id": number} for number in range(first, first + size)])

    @property
    def items(self) -> list[Any]:
        return [item for page in self.pages for item in page]

    def page(self, at: int) -> list[Any]:
        return self.pages[at] if 0 <= at < len(self.pages) else []

    def __call__(self, request: Request) -> Reply:
        query, more = request.query, len(self.pages)
        if self.mode == "after":
            rest = [page for page in self.pages if page and page[-1]["id"] > int(query.get("after", 0))]
            return Reply({"rows": rest[0] if rest else []})
        if self.mode in ("from 0", "from 1", "told 0"):
            return Reply({"rows": self.page(int(query["page"]) - (self.mode == "from 1") if "page" in query else 0)})
        if self.mode == "scroll":
            self.asked = self.asked + 1 if "cursor" in query else 0
            return Reply({"rows": self.page(self.asked), "next": "the only one"})
        at = int(query.get("cursor", 0))
        last = at + 1 >= more
        if self.mode == "link":
            links = {} if last else {"Link": f'<?cursor={at + 1}>; title="a, b; <c>"; rel="next last"'}
            return Reply({"rows": self.page(at)}, headers=links)
        key: Any = at + 1 if self.mode == "numbers" else str(at + 1)
        return Reply({"rows": self.page(at), "next": None if last else f"?cursor={key}" if self.mode == "field" else key})


@pytest.fixture(autouse=True)
def long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "WAITS_S", (0.001, 0.002))
    monkeypatch.setattr(poll, "WAIT_S", 20.0)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Server, list[Callable[[Request], Reply]]]]:
    now: list[Callable[[Request], Reply]] = []
    def answer(request: Request) -> Reply:
        return now[-1](request)

    with serving(answer) as server:
        yield server, now


def everything(reader: Any, limit: int) -> list[Any]:
    events: list[Any] = []
    try:
        while (batch := reader.read(limit, MANY)) is not None:
            events += batch
    finally:
        reader.close()
    return events


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(0, 4), max_size=6), limit=st.integers(1, 5), stop=st.integers(0, 6))
def test_every_item_comes_once(served: Any, mode: str, sizes: list[int], limit: int, stop: int) -> None:
    """By number an empty page is the end, and a server with one cursor for all pages ends with an empty one."""
    if mode in ("from 0", "from 1", "told 0", "scroll"):
        sizes = [size for size in sizes if size]
    pages = Pages(mode, sizes)
    served[1].append(pages)
    source = http_poll(served[0].url, stop_at_end=True, **MODES[mode])
    assert everything(source.reader(None), limit) == pages.items
    if mode != "scroll":  # and from wherever a run was cut off
        reader = source.reader(None)
        events: list[Any] = []
        for _ in range(stop):
            events += reader.read(limit, MANY) or ()
        position = reader.position()
        reader.close()
        assert events + everything(source.reader(position), limit) == pages.items


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in ("scroll", "after")])
def test_what_comes_while_pages_are_read_is_read(served: Any, mode: str) -> None:
    """The list grows with every request, and a page may grow while the next one begins."""
    pages = Pages(mode, [2])

    def growing(request: Request) -> Reply:
        reply = pages(request)
        if len(pages.items) < 40:
            for _ in range(3):
                if len(pages.pages[-1]) == 4:
                    pages.pages.append([])
                pages.pages[-1].append({"id": len(pages.items) + 1})
        return reply

    served[1].append(growing)
    reader = http_poll(served[0].url, poll_s=0.001, **MODES[mode]).reader(None)
    events: list[Any] = []
    while len(events) < 40:
        events += reader.read(3, MANY)
    reader.close()
    assert events == pages.items[: len(events)]


@pytest.mark.parametrize(
    ("header", "url"),
    [
        ("", None),
        ("<b>; rel=next", "http://host/b"),
        ('</c?x=1,2;3>; rel="next"', "http://host/c?x=1,2;3"),
        ('<b>; rel="next last"', "http://host/b"),
        ('<b>;rel="last NEXT"', "http://host/b"),
        ('<b>; title="a; b"; rel="next"', "http://host/b"),
        ('<b>; title="a=b, <x>; rel=prev"; rel=next', "http://host/b"),
        ('<b>; title="say \\"hi\\"; rel=\\"prev\\""; rel="next"', "http://host/b"),
        ('<a>; rel="prev", <b>; rel="next"', "http://host/b"),
        ('<a>; rel="prev",,, <b> ; ; rel = "next" ;', "http://host/b"),
        ("<a>;rel=prev,<b>;rel=next,<c>;rel=next", "http://host/b"),
        ('<b>; REL="next"', "http://host/b"),
        ('<b>; rel="prev"; rel="next"', None),
        ('<b>; crossorigin; rel="next"', "http://host/b"),
        ("<b>; title*=UTF-8'de'n%c3%a4chste; rel=next", "http://host/b"),
        ('<b>; rel="http://example.org/next"', None),
        ('<b>; rel="nextish"', None),
        ('<b>; rel="next"; anchor="/other"', None),
        ('<b>; rel="next"; anchor="#part"', "http://host/b"),
        ('<>; rel="self", <b>; rel=next', "http://host/b"),
        ("<b>; rel='next'", "http://host/b"),
        ("<b>", None),
    ],
)
def test_the_header_link_is_read_by_its_grammar(header: str, url: str | None) -> None:
    assert next_link(header, "http://host/a") == url


@pytest.mark.parametrize("header", ["b; rel=next", "<b; rel=next", '<b>; rel="next', "<b> rel=next", "<b>; rel=next <c>"])
def test_a_header_that_is_no_link_is_not_taken_for_the_end(served: Any, header: str) -> None:
    served[1].append(lambda request: Reply([1, 2], headers={"Link": header}))
    with pytest.raises(ValueError, match="the header Link is none by RFC 8288"):
        everything(http_poll(served[0].url, paging="link", stop_at_end=True).reader(None), 10)


def circle(request: Request) -> Reply:
    at = int(request.query.get("cursor", 0))
    return Reply({"rows": [{"id": at}], "next": {0: 1, 1: 2, 2: 3, 3: 4, 4: 2}[at]})


@pytest.mark.parametrize(
    ("answer", "mode"),
    [
        (lambda request: Reply({"rows": [{"id": 1}], "next": "a"}), "cursor"),
        (lambda request: Reply({"rows": [{"id": 1}], "next": "?"}), "field"),
        (lambda request: Reply({"rows": [{"id": 1}]}), "from 1"),
        (lambda request: Reply({"rows": [{"id": int(request.query.get("page", 1)) // 3}]}), "from 0"),
        (circle, "cursor"),
    ],
)
def test_a_server_that_leads_in_a_circle_is_told(served: Any, answer: Any, mode: str) -> None:
    served[1].append(answer)
    for stop_at_end in (True, False):
        source = http_poll(served[0].url, stop_at_end=stop_at_end, **MODES[mode])
        with pytest.raises(ValueError, match=r"the same page comes again .* so that there is no end"):
            everything(source.reader(None), 10)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda request: Reply({"rows": [{"id": int(request.query.get("after", 1))}]}), "begins with the item that"),
        (lambda request: Reply({"rows": [{"id": 1}, {"id": 1}]}), "two items have the same field 'id'"),
    ],
)
def test_a_field_that_is_no_place_to_go_on_from_is_told(served: Any, answer: Any, text: str) -> None:
    served[1].append(answer)
    with pytest.raises(ValueError, match=text):
        everything(http_poll(served[0].url, stop_at_end=True, **MODES["after"]).reader(None), 10)


def test_empty_pages_that_name_a_next_one_for_ever_are_told(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll, "MAX_EMPTY_PAGES", 20)
    served[1].append(
        lambda request: Reply({"rows": [], "next": int(request.query.get("cursor", 0)) + 1})
    )
    with pytest.raises(ValueError, match="20 pages in a row are empty"):
        everything(http_poll(served[0].url, stop_at_end=True, **MODES["cursor"]).reader(None), 10)
    before = len(served[0].requests)
    monkeypatch.setattr(poll, "WAIT_S", 0.01)
    reader = http_poll(served[0].url, poll_s=1000, **MODES["cursor"]).reader(None)
    while len(served[0].requests) < before + poll.EMPTY_PAGES:
        assert reader.read(10, MANY) == []
    assert reader.read(10, MANY) == []
    reader.close()
    assert len(served[0].requests) == before + poll.EMPTY_PAGES


def test_a_server_with_one_cursor_for_all_pages_has_no_way_back(served: Any) -> None:
    pages = Pages("scroll", [2, 2, 2, 2])
    served[1].append(pages)
    source = http_poll(served[0].url, stop_at_end=True, **MODES["scroll"])
    reader = source.reader(None)
    positions = [reader.position()]
    for _ in range(4):
        assert len(reader.read(2, MANY)) == 2
        positions.append(reader.position())
    reader.close()
    assert everything(source.reader(positions[1]), 10) == pages.items[2:]  # the first page was asked for without it
    pages.asked = 1
    for position in positions[2:]:
        with pytest.raises(ValueError, match=r"not its first any more|one cursor for all pages"):
            everything(source.reader(position), 10)
