"""A webhook that listens, and how it is posted to and read."""

from __future__ import annotations

import http.client
import json
import pickle
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from sluiceway.nodes.connectors.http.api import webhook

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
