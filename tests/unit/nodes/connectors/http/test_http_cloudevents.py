"""What a request to a webhook carries: plain JSON, and CloudEvents in their three forms."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sluiceway.nodes.connectors.http.cloudevents import BATCH, STRUCTURED, BadRequest, events_of

EVENT = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "order.made"}
BINARY = {f"ce-{name}": value for name, value in EVENT.items()}


def test_plain_json() -> None:
    for headers in ({}, {"content-type": "application/json; charset=utf-8"}, {"content-type": "application/x+json"}):
        assert events_of(headers, b'{"a": 1}') == [{"a": 1}]
        assert events_of(headers, b'[{"a": 1}, {}]') == [{"a": 1}, {}]


def test_structured() -> None:
    event = {**EVENT, "datacontenttype": "text/plain", "flag": True, "count": 5, "data": "hello"}
    headers = {"content-type": f"{STRUCTURED}; charset=UTF-8"}
    assert events_of(headers, json.dumps(event).encode()) == [event]
    assert events_of(headers, json.dumps({**EVENT, "data": None, "gone": None}).encode()) == [{**EVENT, "data": None}]
    coded = base64.b64encode(b"\x00\xff").decode()
    assert events_of(headers, json.dumps({**EVENT, "data_base64": coded}).encode()) == [{**EVENT, "data": b"\x00\xff"}]


def test_batched() -> None:
    events = [{**EVENT, "id": str(number), "data": {"number": number}} for number in range(3)]
    assert events_of({"content-type": BATCH}, json.dumps(events).encode()) == events
    assert events_of({"content-type": BATCH}, b"[]") == []


def test_binary() -> None:
    headers = {**BINARY, "ce-subject": "caf%C3%A9 50%25", "host": "a", "content-type": "application/json"}
    attributes = {**EVENT, "subject": "café 50%", "datacontenttype": "application/json"}
    assert events_of(headers, b'{"a": [1]}') == [{**attributes, "data": {"a": [1]}}]
    assert events_of({**BINARY, "content-type": "image/png"}, b"\x89PNG") == [
        {**EVENT, "datacontenttype": "image/png", "data": b"\x89PNG"}
    ]
    assert events_of(BINARY, b"") == [EVENT]
    assert events_of(BINARY, b"raw") == [{**EVENT, "data": b"raw"}]


@pytest.mark.parametrize(
    ("headers", "body", "status", "text"),
    [
        ({}, b"garbage", 400, "the body is not JSON"),
        ({}, b"\xff\xfe", 400, "the body is not JSON"),
        ({}, b"", 400, "the body is not JSON"),
        ({}, b"[" * 100_000, 400, "nested more than 64 deep"),
        ({}, b"5", 400, "an event is a JSON object"),
        ({}, b"[]", 400, "an event is a JSON object"),
        ({}, b'[{"a": 1}, 5]', 400, "an event is a JSON object"),
        ({"content-type": "text/plain"}, b"{}", 415, "only JSON and CloudEvents"),
        ({"content-type": "application/cloudevents+avro"}, b"", 415, "only the JSON format"),
        ({"content-type": "application/json", "content-encoding": "gzip"}, b"", 415, "compressed"),
        ({"content-type": STRUCTURED}, b"[]", 400, "a CloudEvent is a JSON object"),
        ({"content-type": BATCH}, b"{}", 400, "is a JSON array"),
        ({"content-type": BATCH}, b"[5]", 400, "a CloudEvent is a JSON object"),
        ({**BINARY, "ce-data": "x"}, b"", 400, "data in the body"),
        ({**BINARY, "ce-bad_name": "x"}, b"", 400, "lower-case letters and digits"),
        ({**BINARY, "ce-specversion": "0.3"}, b"", 400, "specversion"),
        ({**BINARY, "content-type": "application/json"}, b"{", 400, "not JSON"),
    ],
)
def test_garbage_is_refused(headers: dict[str, str], body: bytes, status: int, text: str) -> None:
    with pytest.raises(BadRequest, match=text) as caught:
        events_of(headers, body)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"specversion": "2.0"}, "specversion"),
        ({"id": ""}, "has an id"),
        ({"source": None}, "has a source"),
        ({"type": 5}, "has a type"),
        ({"Bad": "x"}, "lower-case"),
        ({"extension": {"a": 1}}, "texts, whole numbers and booleans"),
        ({"extension": 1.5}, "texts, whole numbers and booleans"),
        ({"data": 1, "data_base64": "AA=="}, "not both"),
        ({"data_base64": "no base64"}, "not base64"),
        ({"data_base64": 5}, "not base64"),
    ],
)
def test_a_cloud_event_has_its_attributes(change: dict[str, Any], text: str) -> None:
    with pytest.raises(BadRequest, match=text):
        events_of({"content-type": STRUCTURED}, json.dumps({**EVENT, **change}).encode())


@given(
    st.dictionaries(st.sampled_from(["content-type", "content-encoding", "ce-specversion", "ce-id"]), st.text()),
    st.binary(),
)
def test_anything_else_is_a_bad_request(headers: dict[str, str], body: bytes) -> None:
    with contextlib.suppress(BadRequest):
        assert all(isinstance(event, dict) for event in events_of(headers, body))
