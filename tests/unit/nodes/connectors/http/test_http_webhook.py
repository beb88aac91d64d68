"""A webhook on a real port: when it says accepted, and when it says later."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from sluiceway.nodes.connectors.http import webhook as webhook_module
from sluiceway.nodes.connectors.http.api import http_poll, http_sink, webhook
from sluiceway.nodes.connectors.http.webhook_queue import PendingRequest, WebhookQueue
from sluiceway.nodes.errors import GraphError
from webhook_posts import MANY, listening, post, posting, read

__all__ = ["posting"]


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
