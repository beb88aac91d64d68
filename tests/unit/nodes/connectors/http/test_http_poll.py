"""A polled HTTP interface: the styles of paging, what is new, failures, positions and reading again."""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from http_server import Reply, Request, Server, serving
from sluiceway.nodes.connectors.http import client as client_module
from sluiceway.nodes.connectors.http import poll
from sluiceway.nodes.connectors.http.api import http_poll
from sluiceway.nodes.connectors.http.client import NoAnswer, wait_asked
from sluiceway.nodes.errors import GraphError

MANY = 1 << 20
PAGE = 10


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "WAITS_S", (0.001, 0.002))
    monkeypatch.setattr(poll, "WAIT_S", 5.0)


class Items:
    """An interface to a growing list, in each style of paging."""

    def __init__(self, count: int) -> None:
        self.items: list[Any] = [{"id": number + 100, "text": f"é {number}"} for number in range(count)]

    def answer(self, request: Request) -> Reply:
        query, items = request.query, self.items
        first = int(query.get("cursor", 0))
        page, last = items[first : first + PAGE], first + PAGE >= len(items)
        if request.path == "/cursor":
            return Reply({"data": {"rows": page}, "meta": {"next": None if last else first + PAGE}})
        if request.path == "/always":
            return Reply({"data": {"rows": page}, "meta": {"next": str(first + len(page))}})
        if request.path == "/link":
            link = {} if last else {"Link": f'</link?cursor={first + PAGE}>; rel="next", </link>; rel="first"'}
            return Reply(page, headers=link)
        if request.path == "/field":
            return Reply({"rows": page, "next": "" if last else f"?cursor={first + PAGE}"})
        if request.path == "/after":
            return Reply([item for item in items if item["id"] > int(query.get("after", 0))][:PAGE])
        if request.path == "/page":
            first = (int(query.get("page", 1)) - 1) * PAGE
            return Reply(items[first : first + PAGE])
        return Reply(items)


STYLES: dict[str, dict[str, Any]] = {
    "cursor": {"items": "data.rows", "paging": "cursor", "field": "meta.next"},
    "always": {"items": "data.rows", "paging": "cursor", "field": "meta.next"},
    "link": {"paging": "link"},
    "field": {"items": "rows", "paging": "link", "field": "next"},
    "after": {"paging": "after"},
    "page": {"paging": "page", "page_size": PAGE},
    "all": {},
}


@pytest.fixture
def items() -> Items:
    return Items(35)


@pytest.fixture
def server(items: Items) -> Iterator[Server]:
    with serving(items.answer) as server:
        yield server


def source_of(server: Server, style: str, **options: Any) -> Any:
    return pickle.loads(pickle.dumps(http_poll(f"{server.url}/{style}", **STYLES[style], **options)))


def everything(reader: Any, limit: int = 7) -> list[Any]:
    events: list[Any] = []
    while (batch := reader.read(limit, MANY)) is not None:
        assert len(batch) <= limit
        events += batch
    return events


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("count", [0, 1, PAGE, 35])
def test_all_pages_are_read_in_order(style: str, count: int) -> None:
    items = Items(count)
    with serving(items.answer) as server:
        reader = source_of(server, style, stop_at_end=True).reader(None)
        assert everything(reader) == items.items
        assert reader.read(5, MANY) is None
        reader.close()
        assert len(server.ports) <= 1


@pytest.mark.parametrize("style", STYLES)
def test_what_is_new_comes_and_nothing_twice(
    server: Server, items: Items, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll, "WAIT_S", 0.02)
    reader = source_of(server, style, poll_s=0.01).reader(None)
    events: list[Any] = []
    for more in (0, 1, 4, 5, 10, 23):
        items.items += [{"id": len(items.items) + 100 + number, "text": "new"} for number in range(more)]
        while len(events) < len(items.items):
            events += reader.read(6, MANY)
        assert events == items.items
    asked = len(server.requests)
    while len(server.requests) < asked + 3:
        assert reader.read(5, MANY) == []
    reader.close()
    assert reader.read(5, MANY) is None


@pytest.mark.parametrize("style", STYLES)
def test_it_goes_on_from_every_position(server: Server, items: Items, style: str) -> None:
    source = source_of(server, style, stop_at_end=True)
    reader = source.reader(None)
    places = [(0, reader.position())]
    events: list[Any] = []
    while (batch := reader.read(3, MANY)) is not None:
        events += batch
        places.append((len(events), pickle.loads(pickle.dumps(reader.position()))))
    reader.close()
    items.items += [{"id": 1000, "text": "new"}]
    for count, position in places:
        again = source.reader(position)
        assert everything(again) == items.items[count:]
        again.close()


@pytest.mark.parametrize("style", STYLES)
def test_what_was_read_is_read_again_by_its_extents(server: Server, items: Items, style: str) -> None:
    source = source_of(server, style, stop_at_end=True)
    assert source.replay == "logged"
    reader = source.reader(None)
    batches, extents, positions = [], [], [reader.position()]
    while (batch := reader.read(4, MANY)) is not None:
        if batch:
            batches.append(batch)
            extents.append(pickle.loads(pickle.dumps(reader.extent())))
            positions.append(reader.position())
    reader.close()
    assert all(len(pickle.dumps(extent)) < 200 for extent in extents)
    items.items += [{"id": 1000, "text": "new"}]
    for first in range(len(batches)):
        again = source.reader(positions[first])
        for batch, extent, position in zip(
            batches[first : first + 5], extents[first:], positions[first + 1 :], strict=False
        ):
            assert again.replay(extent) == batch
            assert again.position() == position
        stop = sum(map(len, batches[: first + 5]))
        assert everything(again) == items.items[stop:]
        again.close()


@pytest.mark.parametrize("style", STYLES)
def test_a_page_that_changed_is_refused(server: Server, items: Items, style: str) -> None:
    source = source_of(server, style, stop_at_end=True)
    reader = source.reader(None)
    assert len(reader.read(3, MANY)) == 3
    position, extent = reader.position(), reader.extent()
    reader.close()
    items.items[1] = {"id": items.items[1]["id"], "text": "changed"}
    again = source.reader(position)
    with pytest.raises(ValueError, match="3 items that were read of a page are not its first any more"):
        again.read(5, MANY)
    again.close()
    again = source.reader(None)
    with pytest.raises(ValueError, match=r"cannot read 3 items of http://127\.0\.0\.1:\d+/\w+ again"):
        again.replay(extent)
    again.close()


def test_limits_of_a_read(server: Server, items: Items) -> None:
    reader = source_of(server, "all").reader(None)
    assert reader.read(100, 1) == items.items[:1]
    assert reader.read(2, MANY) == items.items[1:3]
    assert len(reader.read(100, 100)) == 4
    assert reader.read(100, MANY) == items.items[7:]
    reader.close()


def test_passing_failures_are_tried_again(items: Items) -> None:
    failures = [Reply(status=503), Reply(status=429, headers={"Retry-After": "0"}), Reply(None), Reply(status=500)]

    def answer(request: Request) -> Reply:
        return failures.pop() if failures else items.answer(request)

    with serving(answer) as server:
        reader = source_of(server, "cursor", stop_at_end=True).reader(None)
        assert everything(reader) == items.items
        reader.close()


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply(status=404), r"it answered 404; correct the url"),
        (Reply(status=401), r"it answered 401; correct the credentials"),
        (Reply(status=302, headers={"Location": "/other"}), "it answered 302, which means another url; pass the url"),
        (Reply(status=503), r"it answered 503 \(3 tries\); try again later"),
        (Reply(None), r"RemoteProtocolError \(3 tries\); see that the server runs"),
        (Reply([0] * 1000), "more than 1000 bytes; ask for smaller pages"),
    ],
)
def test_failures_for_good_are_told(reply: Reply, text: str) -> None:
    with serving(lambda request: reply) as server:
        reader = http_poll(f"{server.url}/a?key=secret", retries=2, max_bytes=1000).reader(None)
        for _ in range(2):  # it can be tried again
            with pytest.raises(NoAnswer, match=text) as caught:
                reader.read(5, MANY)
            assert "secret" not in str(caught.value)
            assert str(caught.value).startswith(f"cannot GET {server.url}/a for http_poll(): ")
        reader.close()


@pytest.mark.parametrize(
    ("body", "options", "text"),
    [
        (b"no json, secret", {}, "the answer is no JSON"),
        (b"[1e999]", {}, "the answer is no JSON"),
        ({"data": 5}, {}, "there is no list as the answer"),
        ({"data": 5}, {"items": "data"}, "there is no list at 'data' of the answer"),
        ({"data": 5}, {"items": "meta.data"}, "there is no list at 'meta.data' of the answer"),
        ([{"a": 1}], {"paging": "after"}, "the last item has no field 'id'"),
        ([{"id": ["secret"]}], {"paging": "after"}, "the field 'id' is a list"),
        ({"a": [], "next": "http://127.0.0.2:1/?secret"}, {"items": "a", "paging": "link", "field": "next"}, "another"),
    ],
)
def test_answers_of_another_shape_are_told(body: Any, options: Any, text: str) -> None:
    with serving(lambda request: Reply(body)) as server:
        reader = http_poll(f"{server.url}/a?key=secret", **options).reader(None)
        with pytest.raises(ValueError, match=text) as caught:
            reader.read(5, MANY)
        assert "secret" not in str(caught.value)
        reader.close()


def test_a_slow_server_holds_up_nothing(items: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def answer(request: Request) -> Reply:
        go_on.wait(20)
        return items.answer(request)

    monkeypatch.setattr(poll, "WAIT_S", 0.02)
    with serving(answer) as server:
        reader = source_of(server, "all").reader(None)
        begun = time.monotonic()
        assert reader.read(5, MANY) == []
        assert reader.read(5, MANY) == []
        assert time.monotonic() - begun < 10
        go_on.set()
        events: list[Any] = []
        while not events:
            events = reader.read(5, MANY)
        assert events == items.items[:5]
        assert len(server.requests) == 1
        reader.close()
        go_on.clear()
        reader = source_of(server, "all").reader(None)
        assert reader.read(5, MANY) == []
        begun = time.monotonic()
        reader.close()  # while the server has not answered
        assert reader.read(5, MANY) is None
        assert time.monotonic() - begun < 5
        go_on.set()


def test_a_wait_for_another_try_is_ended_by_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "WAITS_S", (60.0, 60.0))
    with serving(lambda request: Reply(status=503)) as server:
        reader = http_poll(server.url).reader(None)
        read: list[Any] = []
        thread = threading.Thread(target=lambda: read.append(reader.read(5, MANY)))
        thread.start()
        while not server.requests:
            thread.join(0.001)
        reader.close()
        thread.join(10)
        assert not thread.is_alive()
        assert not read[0]


def test_credentials_are_sent_and_never_told(caplog: pytest.LogCaptureFixture) -> None:
    with serving(lambda request: Reply([1])) as server, caplog.at_level(logging.DEBUG):
        url = server.url.replace("//", "//user:secret@") + "/a?key=secret2&b=1"
        source = http_poll(url, headers={"X-Key": "secret3"}, paging="after", field="id", start="secret4")
        reader = source.reader(None)
        with pytest.raises(ValueError, match="the last item has no field 'id'"):
            reader.read(5, MANY)
        reader.close()
        request = server.requests[0]
        assert request.headers["authorization"] == "Basic dXNlcjpzZWNyZXQ="
        assert request.headers["x-key"] == "secret3"
        assert request.query == {"key": "secret2", "b": "1", "after": "secret4"}
        assert "/a" in caplog.text
        assert repr(source) == f"http_poll('{server.url}/a')"
        for shown in (caplog.text, repr(source), repr(vars(source)), repr(reader.position())):
            assert "secret" not in shown
            assert "dXNlcjpzZWNyZXQ" not in shown


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (None, None), ("", None), ("7", 7.0), ("0", 0.0), ("soon", None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0), ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
    ],
)  # fmt: skip
def test_retry_after(asked: str | None, seconds: float | None) -> None:
    assert wait_asked(asked, 10.0) == seconds


@pytest.mark.parametrize(
    ("url", "options", "text"),
    [
        ("ftp://a", {}, "needs the url of an HTTP server"),
        ("a/b", {}, "needs the url"),
        (5, {}, "needs the url"),
        ("http://[", {}, "needs the url"),
        ("http://a:b/", {}, "needs the url"),
        ("http://a", {"paging": "pages"}, "paging is one of 'link', 'cursor', 'after', 'page' or None"),
        ("http://a", {"paging": "cursor"}, "needs the field of the next cursor"),
        ("http://a", {"page_size": 5}, "page_size is the number"),
        ("http://a", {"start": 5}, "pass the url to begin at"),
        ("http://a", {"poll_s": 0}, "poll_s"),
        ("http://a", {"timeout_s": "1"}, "timeout_s"),
        ("http://a", {"retries": -1}, "retries"),
        ("http://a", {"max_bytes": 0}, "max_bytes"),
        ("http://a", {"headers": {"a": 1}}, "headers are texts"),
        ("http://a", {"headers": {"a": "1\r\nb: 2"}}, "headers are texts"),
        ("http://a", {"auth": "user:secret"}, "auth is a user's name and password"),
    ],
)
def test_arguments_are_checked(url: Any, options: Any, text: str) -> None:
    with pytest.raises(GraphError, match=text) as caught:
        http_poll(url, **options)
    assert "secret" not in str(caught.value)


def test_a_position_of_another_source_is_refused() -> None:
    for position in (5, ("a", 1, 2), (b"no", 1, 2), (1, 2)):
        with pytest.raises(ValueError, match="none of http_poll"):
            http_poll("http://a").reader(position)
