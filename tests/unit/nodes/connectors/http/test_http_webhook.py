"""A webhook on a real port: when it says accepted, when it says later, and what it refuses."""

from __future__ import annotations

import http.client
import json
import logging
import pickle
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from sluiceway.nodes.connectors.http import webhook as webhook_module
from sluiceway.nodes.connectors.http import webhook_connection, webhook_server
from sluiceway.nodes.connectors.http.api import http_poll, http_sink, webhook
from sluiceway.nodes.connectors.http.webhook_queue import PendingRequest, WebhookQueue
from sluiceway.nodes.errors import GraphError

MANY = 1 << 20


@contextmanager
def listening(position: int | None = None, **options: Any) -> Iterator[Any]:
    reader = pickle.loads(pickle.dumps(webhook(**options))).reader(position)
    try:
        yield reader
    finally:
        reader.close()


def post(
    url: str, body: Any, headers: dict[str, str] | None = None, method: str = "POST"
) -> http.client.HTTPResponse:
    """Send one request over a connection of its own and give the answer, read to its end."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
    try:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, parts.path, data, headers or {})
        response = connection.getresponse()
        response.text = response.read().decode()  # type: ignore[attr-defined]
        return response
    finally:
        connection.close()


@pytest.fixture
def posting() -> Iterator[Callable[..., Future[http.client.HTTPResponse]]]:
    with ThreadPoolExecutor(16) as pool:
        yield lambda *args, **options: pool.submit(post, *args, **options)


def read(reader: Any, count: int, limit: int = 100) -> list[Any]:
    events: list[Any] = []
    deadline = time.monotonic() + 20
    while len(events) < count:
        assert time.monotonic() < deadline
        events += reader.read(limit, MANY)
    return events


@pytest.mark.parametrize("by", ["journaled", "acknowledge"])
def test_an_event_is_accepted_when_it_is_safe(posting: Any, by: str) -> None:
    with listening(path="/events") as reader:
        first = posting(f"{reader.url}?source=shop", {"number": 0})
        assert read(reader, 1) == [{"number": 0}]
        second = posting(reader.url, [{"number": 1}, {"number": 2}])
        assert read(reader, 2) == [{"number": 1}, {"number": 2}]
        assert reader.position() == 3
        release = getattr(reader, by)
        release(0)
        assert not first.done()
        release(2)
        assert first.result(20).status == 202
        assert not second.done()
        release(3)
        assert second.result(20).status == 202
        release(1)  # going back changes nothing


def test_whichever_comes_first_releases(posting: Any) -> None:
    with listening() as reader:
        answers = [posting(reader.url, {"number": number}) for number in range(2)]
        read(reader, 2)
        reader.journaled(2)
        assert {answer.result(20).status for answer in answers} == {202}
        reader.acknowledge(2)
        third = posting(reader.url, {"number": 2})
        read(reader, 1)
        reader.acknowledge(3)
        assert third.result(20).status == 202
        reader.journaled(3)


def test_a_read_may_cut_through_a_request(posting: Any) -> None:
    with listening(5) as reader:
        answer = posting(reader.url, [{"number": number} for number in range(5)])
        assert read(reader, 3, limit=3) == [{"number": number} for number in range(3)]
        assert reader.position() == 8
        reader.journaled(8)
        assert not answer.done()
        assert reader.read(9, MANY) == [{"number": 3}, {"number": 4}]
        reader.journaled(10)
        assert answer.result(20).status == 202


def test_nothing_there_is_waited_for_a_moment() -> None:
    with listening() as reader:
        begun = time.monotonic()
        assert reader.read(5, MANY) == []
        assert 0.05 < time.monotonic() - begun < 10


def test_cloud_events_come_as_dicts(posting: Any) -> None:
    event = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "made"}
    with listening() as reader:
        structured = {**event, "data": {"a": 1}}
        answers = [posting(reader.url, structured, {"Content-Type": "application/cloudevents+json"})]
        assert read(reader, 1) == [structured]
        headers = {"Content-Type": "application/json", **{f"Ce-{name}": value for name, value in event.items()}}
        answers.append(posting(reader.url, {"a": 1}, headers))
        assert read(reader, 1) == [{**event, "datacontenttype": "application/json", "data": {"a": 1}}]
        answers.append(posting(reader.url, [structured] * 2, {"Content-Type": "application/cloudevents-batch+json"}))
        assert read(reader, 2) == [structured] * 2
        reader.acknowledge(4)
        assert {answer.result(20).status for answer in answers} == {202}
        assert post(reader.url, [], {"Content-Type": "application/cloudevents-batch+json"}).status == 202


def test_a_full_queue_says_later_and_goes_on(posting: Any) -> None:
    with listening(queue=3) as reader:
        answers = []
        for number in range(3):
            answers.append(posting(reader.url, {"number": number}))
            waiting(reader, number + 1)
        for _ in range(2):
            refused = post(reader.url, {"number": 99})
            assert (refused.status, refused.getheader("Retry-After")) == (429, "1")
        assert read(reader, 3) == [{"number": number} for number in range(3)]
        answers.append(posting(reader.url, {"number": 3}))
        assert read(reader, 1) == [{"number": 3}]
        reader.acknowledge(4)
        assert [answer.result(20).status for answer in answers] == [202] * 4


def waiting(reader: Any, count: int) -> None:
    """Wait until the queue holds `count` events."""
    deadline = time.monotonic() + 20
    while reader._waiting._events < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_bodies_are_counted_in_bytes(posting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_module, "MAX_WAITING_BYTES", 3000)
    with listening(max_bytes=1500) as reader:
        answers = []
        for number in range(2):
            answers.append(posting(reader.url, {"text": "x" * 1300}))
            waiting(reader, number + 1)
        assert post(reader.url, {"text": "x" * 1300}).status == 429
        answers.append(posting(reader.url, {"text": "x"}))
        read(reader, 3)
        reader.acknowledge(3)
        assert [answer.result(20).status for answer in answers] == [202] * 3
        assert reader._waiting._bytes == 0


@pytest.mark.parametrize(
    ("body", "headers", "status", "text"),
    [
        (b"secret garbage", {}, 400, "the body is not JSON"),
        (b"5", {}, 400, "an event is a JSON object"),
        (b"{}", {"Content-Type": "text/csv"}, 415, "only JSON and CloudEvents"),
        (b"{}", {"Content-Type": "application/cloudevents+json"}, 400, "specversion"),
        (b'{"a": "%s"}' % (b"x" * 2000), {}, 413, "a request has 1000 bytes at most"),
    ],
)
def test_garbage_is_refused(body: bytes, headers: dict[str, str], status: int, text: str) -> None:
    with listening(max_bytes=1000) as reader:
        for _ in range(2):
            answer: Any = post(reader.url, body, headers)
            assert answer.status == status
            assert text in answer.text
            assert "secret" not in answer.text
        assert reader._waiting._bytes == 0
        assert reader.read(5, MANY) == []


def test_bodies_in_chunks(posting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def chunked(url: str, size: int) -> int:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
        pieces = iter([b'{"a": "', *[b"x" * 100] * (size // 100), b'"}'])
        connection.request("POST", "/", pieces, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        status = connection.getresponse().status
        connection.close()
        return status

    monkeypatch.setattr(webhook_connection, "LINGER_S", 0.2)
    with listening(max_bytes=1000) as reader, ThreadPoolExecutor() as pool:
        fitting = pool.submit(chunked, reader.url, 500)
        assert read(reader, 1) == [{"a": "x" * 500}]
        reader.acknowledge(1)
        assert fitting.result(20) == 202
        assert chunked(reader.url, 2000) == 413


def test_other_requests_are_refused() -> None:
    with listening(path="/events", token="s3cret") as reader:
        base = reader.url.removesuffix("/events")
        assert post(f"{base}/other", {}).status == 404
        answer = post(reader.url, b"", method="GET")
        assert (answer.status, answer.getheader("Allow")) == (405, "POST")
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}):
            answer = post(reader.url, {}, headers)
            assert (answer.status, answer.getheader("WWW-Authenticate")) == (401, "Bearer")
        assert reader.read(5, MANY) == []


def test_a_token_opens(posting: Any) -> None:
    with listening(token="s3cret") as reader:
        answer = posting(reader.url, {"a": 1}, {"Authorization": "Bearer s3cret"})
        read(reader, 1)
        reader.acknowledge(1)
        assert answer.result(20).status == 202


def test_many_requests_share_a_connection(posting: Any) -> None:
    with listening() as reader:
        parts = urlsplit(reader.url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
        connection.connect()
        number = connection.sock.getsockname()
        for count in range(1, 4):
            connection.request("POST", "/", b"{}")
            read(reader, 1)
            reader.acknowledge(count)
            assert connection.getresponse().read() == b""
            assert connection.sock.getsockname() == number
        connection.request("POST", "/", b"{", {"Expect": "100-continue"})
        assert connection.getresponse().status == 400
        connection.close()


def test_what_is_no_http_is_answered_or_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_connection, "LINGER_S", 0.1)
    chance = random.Random(1)
    junk = [b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"a" * 40_000, b"", chance.randbytes(999)]
    junk += [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"]
    junk += [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"]
    junk += [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n{"]
    with listening() as reader:
        parts = urlsplit(reader.url)
        for data in junk:
            with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=20) as peer:
                peer.sendall(data)
                peer.shutdown(socket.SHUT_WR)
                answer = b""
                while piece := peer.recv(9999):
                    answer += piece
                assert not answer or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
        assert reader.read(5, MANY) == []
        assert reader._waiting._bytes == 0


@pytest.mark.parametrize("begin", [b"", b"POST / HTTP/1.1\r\nHost: a\r\n"])
def test_a_connection_that_sends_no_request_is_closed(monkeypatch: pytest.MonkeyPatch, begin: bytes) -> None:
    """Also one that has never sent a request: else silent strangers could use up every connection."""
    monkeypatch.setattr(webhook_server, "IDLE_S", 0.2)
    with listening() as reader, connected(reader) as peer:
        peer.sendall(begin)
        assert peer.recv(10) == b""


def test_a_body_that_never_comes_is_given_up() -> None:
    with listening(body_s=0.2) as reader, connected(reader) as peer:
        peer.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{")
        assert peer.recv(10) == b""
        assert reader._waiting._bytes == 0


def test_a_refused_body_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A body of 100 GB is refused by its length; garbage behind a refused one in chunks tells nobody anything."""
    monkeypatch.setattr(webhook_connection, "LINGER_S", 0.2)
    with listening(max_bytes=1000) as reader:
        with connected(reader) as peer:
            peer.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000000\r\n\r\n")
            assert peer.recv(99).startswith(b"HTTP/1.1 413 ")
            assert sent_until_reset(peer) < 1 << 26
        with connected(reader) as peer:
            chunk = b"7d0\r\n" + b"x" * 2000 + b"\r\n"
            peer.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
            assert peer.recv(99).startswith(b"HTTP/1.1 413 ")
            peer.sendall(b"zz\r\n")
            while peer.recv(999):
                pass
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def sent_until_reset(peer: socket.socket) -> int:
    """Return how many bytes a connection takes before the other side has closed it."""
    sent = 0
    try:
        while sent < 1 << 30:
            sent += peer.send(b"x" * 65536)
    except (ConnectionResetError, BrokenPipeError):
        pass
    return sent


def connected(reader: Any) -> socket.socket:
    """Return a connection to a webhook."""
    parts = urlsplit(reader.url)
    return socket.create_connection((str(parts.hostname), parts.port or 0), timeout=20)


def test_what_is_not_safe_in_time_is_sent_again(posting: Any) -> None:
    with listening(wait_s=0.2) as reader:
        first = posting(reader.url, {"number": 0})
        assert read(reader, 1) == [{"number": 0}]
        answer = first.result(20)
        assert (answer.status, answer.getheader("Retry-After")) == (503, "1")
        reader.acknowledge(1)
        assert post(reader.url, {"number": 1}).status == 503
        assert reader.read(5, MANY) == []  # it was not read, so it is not kept: its sender has it


def test_close_answers_those_that_wait(posting: Any) -> None:
    reader = webhook().reader(None)
    accepted, given = posting(reader.url, {"number": 0}), None
    read(reader, 1)
    given = posting(reader.url, {"number": 1})
    read(reader, 1)
    unread = posting(reader.url, {"number": 2})
    waiting(reader, 1)
    idle = socket.create_connection((urlsplit(reader.url).hostname or "", urlsplit(reader.url).port or 0))
    reader.acknowledge(1)
    begun = time.monotonic()
    reader.close()
    assert time.monotonic() - begun < 10
    assert [answer.result(20).status for answer in (accepted, given, unread)] == [202, 503, 503]
    assert reader.read(5, MANY) is None
    assert idle.recv(10) == b""
    idle.close()
    with pytest.raises(OSError, match="refused"):
        post(reader.url, {})
    reader.close()


def test_close_wakes_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_module, "WAIT_S", 60.0)
    reader = webhook().reader(None)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(reader.read(5, MANY)))
    thread.start()
    reader.close()
    thread.join(20)
    assert found == [None]


def test_the_port_is_told_and_a_taken_one_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sluiceway"), listening(path="/events", token="s3cret") as reader:
        assert f"webhook listens on {reader.url}" in caplog.text
        port = urlsplit(reader.url).port
        assert port
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1, port {port}: .*; pass a free port"):
            webhook(port).reader(None)
    with listening(port=port):
        pass  # it is free again at once
    source = webhook(port, path="/events", token="s3cret")
    assert repr(source) == f"webhook(host='127.0.0.1', port={port}, path='/events')"
    assert "s3cret" not in repr(vars(source)) + caplog.text


def test_it_cannot_be_read_again() -> None:
    assert webhook().replay == "none"
    with pytest.raises(ValueError, match="none of a webhook"):
        webhook().reader("there")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"port": -1}, "port=-1, but it must be a whole number, from 0 to 65535"),
        ({"port": "80"}, "port='80', but it must be a whole number"),
        ({"host": ""}, "host is"),
        ({"path": "events"}, "path begins with a slash"),
        ({"path": "/?a"}, "path begins with a slash"),
        ({"token": ""}, "token is a text"),
        ({"queue": 0}, "queue=0, but it must be a whole number, 1 or more"),
        ({"max_bytes": True}, "max_bytes=True, but it must be a whole number"),
        ({"wait_s": 0}, "wait_s=0, but it must be a number of seconds, more than 0"),
    ],
)
def test_arguments_are_checked(options: Any, text: str) -> None:
    with pytest.raises(GraphError, match=text):
        webhook(**options)


def test_every_accepted_event_is_read_once_under_load() -> None:
    """Senders try again until they hear 202; the queue is small, and nothing is lost."""
    accepted: list[int] = []

    def send(first: int) -> None:
        for number in range(first, first + 25):
            while (status := post(reader.url, {"number": number}).status) != 202:
                assert status == 429
            accepted.append(number)

    got: list[int] = []
    with listening(queue=2) as reader:
        threads = [threading.Thread(target=send, args=(first,)) for first in range(0, 150, 25)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            got += [event["number"] for event in reader.read(1, MANY)]
            reader.acknowledge(reader.position())
        for thread in threads:
            thread.join()
    assert sorted(got) == sorted(accepted) == list(range(150))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h11", None)
    monkeypatch.setitem(sys.modules, "httpx", None)
    for make, name in ((webhook, "h11"), (lambda: http_poll("http://a"), "httpx"), (lambda: http_sink("http://a"), "httpx")):
        with pytest.raises(GraphError, match=rf"{name} is not installed; in a clone of sluiceway run pip install '\.\[http\]'"):
            make()


def test_the_queue_by_itself() -> None:
    answers: list[tuple[str, bool]] = []

    def entry(name: str, count: int) -> PendingRequest:
        return PendingRequest(list(range(count)), 10, lambda safe: answers.append((name, safe)))

    waiting = WebhookQueue(5, 100, 0)
    first, second, third = entry("a", 3), entry("b", 2), entry("c", 1)
    assert waiting.offer(first)
    assert waiting.offer(second)
    assert not waiting.reserve(1)  # five events wait
    assert waiting.withdraw(second)
    assert not waiting.withdraw(second)
    assert waiting.reserve(90)
    assert not waiting.reserve(1)
    waiting.free(90)
    assert waiting.read(2, 1000, 0) == [0, 1]
    assert not waiting.withdraw(first)
    waiting.mark_safe(2)
    assert answers == []
    assert waiting.offer(third)
    assert waiting.read(9, 1, 0) == [2]
    assert waiting.read(9, 1, 0) == [0]
    waiting.mark_safe(4)
    assert answers == [("a", True), ("c", True)]
    waiting.offer(second)
    waiting.close()
    assert answers[2:] == [("b", False)]
    assert not waiting.offer(entry("d", 1))
    assert waiting.read(9, 9, 0) is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1e999}', b'{"a": 9223372036854775808}', b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": "\\ud800"}', b'{"\\udfff": 1}', b'{"a": "\\u0000"}', b'{"a": 1, "a": 2}', b'{"a": [{"b": 1, "b": 1}]}',
        b'{"a": ' + b"[" * 64 + b"]" * 64 + b"}", b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"{", b"\xff",
    ],
)  # fmt: skip
@pytest.mark.parametrize("media", ["application/json", "application/cloudevents+json"])
def test_what_not_every_sink_can_hold_is_answered_400(body: bytes, media: str) -> None:
    with listening() as reader:
        answer = post(reader.url, body, {"Content-Type": media})
        assert answer.status == 400
        assert len(answer.text) < 200  # type: ignore[attr-defined]
        assert reader.position() == 0
        assert reader.read(10, MANY) == []


def test_limits_of_a_request_are_options() -> None:
    with listening(max_depth=3, max_events=2, wait_s=0.05) as reader:
        assert post(reader.url, {"a": [[1]]}).status == 503  # taken, and nobody reads it
        assert post(reader.url, {"a": [[[1]]]}).status == 400
        assert post(reader.url, [{}, {}, {}]).status == 413


def test_data_that_is_no_json_is_taken_where_it_was_asked_for() -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t"}
    binary = {"Content-Type": "text/xml", **{f"ce-{name}": value for name, value in event.items()}}
    packed = {"Content-Type": "application/cloudevents+json"}
    with listening(wait_s=0.05) as reader:
        assert post(reader.url, b"<a/>", binary).status == 415
        assert post(reader.url, {**event, "data_base64": "AA=="}, packed).status == 415
        assert post(reader.url, b"", binary).status == 503  # taken, and nobody reads it
    with listening(wait_s=0.05, binary=True) as reader:
        assert post(reader.url, b"<a/>", binary).status == 503
        assert post(reader.url, {**event, "data_base64": "AA=="}, packed).status == 503


def test_head_a_whole_url_and_the_scheme_in_small_letters(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), listening(path="/in", token="hush", wait_s=0.05) as reader:
        port = urlsplit(reader.url).port
        with socket.create_connection(("127.0.0.1", port), 20) as link:
            link.sendall(b"HEAD /in HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: link.recv(1 << 16), b""))
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert answer.endswith(b"\r\n\r\n")
        for target, token, status in (
            ("http://a:1/in?x=1", "bearer hush", b"503"), ("/in", "BEARER hush", b"503"),
            ("/in", "Basic hush", b"401"), ("/in", "hush", b"401"), ("http://a/out", "Bearer hush", b"404"),
        ):  # fmt: skip
            with socket.create_connection(("127.0.0.1", port), 20) as link:
                head = f"POST {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: {token}\r\n"
                link.sendall(f"{head}Content-Length: 2\r\n\r\n{{}}".encode())
                assert b"".join(iter(lambda: link.recv(1 << 16), b""))[9:12] == status, target
    assert caplog.records == []
