"""Parses the body of a request to a webhook: plain JSON, or CloudEvents in one of their three forms.

Decides which events a request carries, after CloudEvents 1.0.2 and its HTTP protocol binding: structured
(`application/cloudevents+json`), a batch of these (`application/cloudevents-batch+json`), and binary (attributes in
`ce-` headers, the body is the data). Pure: bytes in, events out.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from ...errors import with_article
from ...json_values import parsed

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
REQUIRED = ("id", "source", "type")

_NAME = re.compile(r"[a-z0-9]+")


class BadRequest(ValueError):
    """A request that carries no events; `status` is that of the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def events_of(
    headers: Mapping[str, str], body: bytes, max_depth: int = 64, *, binary: bool = True
) -> list[dict[str, Any]]:
    """Return the events of a request; `headers` has lower-case names. Raises `BadRequest`.

    A CloudEvent is a dict of its attributes, its data under `data` (bytes where it is neither JSON nor absent, which is
    refused unless `binary`). Plain JSON is an object, or an array of objects, which are events of their own.
    """
    events = _events_of(headers, body, max_depth)
    if not binary and any(isinstance(event.get("data"), bytes) for event in events):
        raise BadRequest("the data of an event is JSON here, no other bytes", 415)
    return events


def _events_of(headers: Mapping[str, str], body: bytes, max_depth: int) -> list[dict[str, Any]]:
    content_type = headers.get("content-type", "")
    media = content_type.partition(";")[0].strip().lower()
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise BadRequest("the body is compressed; send it as it is", 415)
    if media == BATCH:
        return [_structured(item) for item in _list_of(_json(body, max_depth))]
    if media == STRUCTURED:
        return [_structured(_json(body, max_depth))]
    if media.startswith("application/cloudevents"):
        raise BadRequest("only the JSON format of CloudEvents is understood", 415)
    if "ce-specversion" in headers:
        return [_binary(headers, content_type, media, body, max_depth)]
    if media and not _is_json(media):
        raise BadRequest("only JSON and CloudEvents are understood", 415)
    value = _json(body, max_depth)
    events = value if isinstance(value, list) else [value]
    if not events or not all(isinstance(event, dict) for event in events):
        raise BadRequest("an event is a JSON object; send one, or an array of them")
    return events


def _is_json(media: str) -> bool:
    return media == "application/json" or media.endswith("+json")


def _json(body: bytes, max_depth: int) -> Any:
    try:
        return parsed(body, max_depth)
    except ValueError as error:
        raise BadRequest(str(error)) from None


def _list_of(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadRequest("a batch of CloudEvents is a JSON array")
    return value


def _structured(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest("a CloudEvent is a JSON object")
    event = {name: item for name, item in value.items() if item is not None or name == "data"}
    if "data_base64" in event:
        if "data" in event:
            raise BadRequest("a CloudEvent has data or data_base64, not both")
        try:
            event["data"] = base64.b64decode(event.pop("data_base64"), validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise BadRequest("data_base64 is not base64") from None
    return _checked(event)


def _binary(headers: Mapping[str, str], content_type: str, media: str, body: bytes, max_depth: int) -> dict[str, Any]:
    event: dict[str, Any] = {
        name[3:]: unquote(value, errors="replace") for name, value in headers.items() if name.startswith("ce-")
    }
    if content_type:
        event["datacontenttype"] = content_type
    if "data" in event:
        raise BadRequest("a CloudEvent in binary form has its data in the body, not in ce-data")
    if body:
        event["data"] = _json(body, max_depth) if _is_json(media) else body
    return _checked(event)


def _checked(event: dict[str, Any]) -> dict[str, Any]:
    if event.get("specversion") != "1.0":
        raise BadRequest("specversion of a CloudEvent is '1.0'")
    for name in REQUIRED:
        if not isinstance(event.get(name), str) or not event[name]:
            raise BadRequest(f"a CloudEvent has {with_article(name)}, a text that is not empty")
    for name, value in event.items():
        if name == "data":
            continue
        if not _NAME.fullmatch(name):
            raise BadRequest("the names of a CloudEvent's attributes are lower-case letters and digits")
        if not isinstance(value, str | bool | int) or (isinstance(value, str) and "\0" in value):
            raise BadRequest("the attributes of a CloudEvent are texts, whole numbers and booleans")
    return event
