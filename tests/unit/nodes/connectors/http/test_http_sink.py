"""Sending events to an HTTP server: order, numbers, batches, failures, and the same keys after a resume."""

from __future__ import annotations

import logging
import pickle
from datetime import date
from typing import Any

import pytest
from http_server import Reply, Request, serving
from sluiceway.nodes.connectors.http import client as client_module
from sluiceway.nodes.connectors.http.api import http_sink
from sluiceway.nodes.connectors.http.client import NoAnswer
from sluiceway.nodes.connectors.http.sink import ranges
from sluiceway.nodes.errors import CheckpointError, GraphError
from sluiceway.nodes.events import DeadLetter
from sluiceway.nodes.sinks import BadEvent, Batch, as_sink


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "WAITS_S", (0.001, 0.002))


def taken(request: Request) -> Reply:
    return Reply(status=202)


def batch(*numbers: tuple[int, int]) -> Batch[Any]:
    return Batch([{"number": list(number)} for number in numbers], list(numbers))


def test_events_arrive_in_order_with_their_numbers() -> None:
    with serving(taken) as server:
        sink: Any = as_sink(http_sink(f"{server.url}/events"))
        sink.open()
        sink.write(batch((0, 0), (1, 0), (1, 1)))
        sink.write(batch((5, 0)))
        sink.close()
        assert [request.json for request in server.requests] == [{"number": n} for n in ([0, 0], [1, 0], [1, 1], [5, 0])]
        assert [request.headers["sluiceway-seq"] for request in server.requests] == ["0", "1", "1.1", "5"]
        assert {request.headers["content-type"] for request in server.requests} == {"application/json"}
        assert {(request.method, request.path) for request in server.requests} == {("POST", "/events")}
        keys = [request.headers["idempotency-key"] for request in server.requests]
        assert len(set(keys)) == 4
        assert len(server.ports) == 1


def test_batches_are_arrays() -> None:
    with serving(taken) as server:
        sink = http_sink(server.url, batch_size=3, method="PUT")
        sink.write(batch((0, 0), (1, 0), (2, 0), (4, 0), (5, 0), (5, 1), (6, 0)))
        sink.close()
        assert [request.headers["sluiceway-seq"] for request in server.requests] == ["0-2", "4-5,5.1", "6"]
        assert [len(request.json) for request in server.requests] == [3, 3, 1]
        assert {request.method for request in server.requests} == {"PUT"}


def test_numbers_as_ranges() -> None:
    assert ranges([(7, 0)]) == "7"
    assert ranges([(7, 0), (8, 0), (9, 0), (11, 0), (11, 1), (11, 2), (12, 2)]) == "7-9,11,11.1,11.2,12.2"


def test_passing_failures_are_tried_again_with_the_same_key() -> None:
    failures = [Reply(status=503), Reply(None), Reply(status=429, headers={"Retry-After": "0"})]
    with serving(lambda request: failures.pop() if failures else Reply(b"x" * (1 << 20))) as server:
        sink = http_sink(server.url)
        sink.write(batch((0, 0), (1, 0)))
        sink.close()
        assert [request.headers["sluiceway-seq"] for request in server.requests] == ["0"] * 4 + ["1"]
        assert len({request.headers["idempotency-key"] for request in server.requests}) == 2


@pytest.mark.parametrize(
    ("reply", "kind", "text"),
    [
        (Reply(b"secret", status=400), BadEvent, "it answered 400; correct the url, or what is sent to it"),
        (Reply(status=401), BadEvent, "it answered 401; correct the credentials"),
        (Reply(status=503), NoAnswer, r"it answered 503 \(2 tries\); try again later"),
        (Reply(None), NoAnswer, r"RemoteProtocolError \(2 tries\); see that the server runs"),
    ],
)
@pytest.mark.parametrize("size", [None, 2])
def test_failures_name_the_event(reply: Reply, kind: type[Exception], text: str, size: int | None) -> None:
    def answer(request: Request) -> Reply:
        return reply if request.headers["sluiceway-seq"].startswith("2") else taken(request)

    with serving(answer) as server:
        sink = http_sink(f"{server.url}/a?key=secret", retries=1, batch_size=size)
        with pytest.raises(kind, match=text) as caught:
            sink.write(batch((0, 0), (1, 0), (2, 0), (3, 0)))
        assert caught.value.position == 2  # type: ignore[attr-defined]
        assert "secret" not in str(caught.value)
        sink.abort()


def test_a_server_that_is_not_there_is_told() -> None:
    with serving(taken) as server:
        url = server.url
    sink = http_sink(url, retries=0)
    with pytest.raises(NoAnswer, match=r"ConnectError: .*refused; see that the server runs"):
        sink.write(batch((0, 0)))
    sink.abort()


@pytest.mark.parametrize("size", [None, 2])
def test_what_json_cannot_carry_is_refused_at_its_place(size: int | None) -> None:
    with serving(taken) as server:
        sink = http_sink(server.url, batch_size=size)
        events: Any = Batch([{"a": 1}, 2, "é", {"a": date(2000, 1, 1)}, 5], [(n, 0) for n in range(5)])
        with pytest.raises(BadEvent, match=r"\$\.a is a date, which JSON cannot carry") as caught:
            sink.write(events)
        assert caught.value.position == 3
        sink.abort()
        sent = [request.json for request in server.requests]
        assert sent == ([{"a": 1}, 2, "é"] if size is None else [[{"a": 1}, 2], ["é"]])


def test_dead_letters_are_objects() -> None:
    with serving(taken) as server:
        sink = http_sink(server.url)
        sink.write(Batch([DeadLetter(5, 0, "parse", {1}, "ValueError: bad", "Traceback", 2)], [(5, 0)]))
        sink.close()
        assert server.requests[0].json["event"] == "{1}"
        assert server.requests[0].json["seq"] == 5


def test_a_resumed_run_sends_under_the_same_keys() -> None:
    with serving(taken) as server:
        sink = http_sink(server.url)
        assert sink.delivery == "at-least-once"
        sink.open()
        token = pickle.loads(pickle.dumps(sink.commit(-1)))
        assert token == {"kind": "http", "n": -1, "run": token["run"]}
        sink.write(batch((0, 0), (1, 0)))
        later = sink.commit(1)
        sink.write(batch((2, 0)))
        sink.abort()
        other = http_sink(server.url)
        assert other.recover(later) == 1
        other.write(batch((2, 0)))
        other.close()
        assert other.recover(token) == -1
        other.close()
        keys = [request.headers["idempotency-key"] for request in server.requests]
        assert keys[2] == keys[3]
        assert len(set(keys)) == 3
        sink.open()
        sink.write(batch((0, 0)))
        sink.close()
        assert server.requests[-1].headers["idempotency-key"] not in keys
        with pytest.raises(CheckpointError, match="no token of an http_sink"):
            sink.recover({"kind": "file"})


def test_credentials_are_sent_and_never_told(caplog: pytest.LogCaptureFixture) -> None:
    with serving(taken) as server, caplog.at_level(logging.DEBUG):
        sink = http_sink(f"{server.url}/a?key=secret", headers={"Authorization": "Bearer secret"})
        sink.write(batch((0, 0)))
        sink.close()
        assert server.requests[0].query == {"key": "secret"}
        assert server.requests[0].headers["authorization"] == "Bearer secret"
        assert "secret" not in caplog.text + repr(sink) + repr(vars(sink)) + repr(sink.commit(0))
        sink.close()
        assert isinstance(pickle.loads(pickle.dumps(sink)), type(sink))


@pytest.mark.parametrize(
    ("options", "text"),
    [({"method": "GET"}, "method is"), ({"batch_size": 0}, "batch_size"), ({"batch_size": 501}, "from 1 to 500")],
)
def test_arguments_are_checked(options: Any, text: str) -> None:
    with pytest.raises(GraphError, match=text):
        http_sink("http://a", **options)
