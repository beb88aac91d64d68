"""What a webhook refuses of requests, and what it takes: bodies, connections, limits."""

from __future__ import annotations

import http.client
import logging
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from sluiceway.nodes.connectors.http import webhook_connection, webhook_server
from webhook_posts import MANY, listening, post, posting, read

__all__ = ["posting"]


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
