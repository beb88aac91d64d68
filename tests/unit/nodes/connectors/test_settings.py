"""What each connector says of itself, to be compared when a run goes on, and the name that its node gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from sluiceway.nodes.connectors.http.api import http_poll, http_sink, webhook
from sluiceway.nodes.connectors.kafka.api import kafka, kafka_sink
from sluiceway.nodes.connectors.redis.api import redis, redis_sink
from sluiceway.nodes.connectors.sql.api import sql, sql_sink

SERVER = {"bootstrap_servers": "one:9092"}
#: A connector with its first arguments, and for each that decides what is read or stored another value.
CASES: list[tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]] = [
    (
        sql,
        {"url": "postgresql+psycopg://me:hush@db/shop", "table": "a", "key": "id", "where": "x > :x", "params": {"x": "hush"}},
        {
            "url": "postgresql+psycopg://me:hush@db/other", "table": "b", "key": ("id", "x"), "columns": ["id"],
            "where": "y > :x", "params": {"x": "hush2"}, "schema": "s", "after": 5,
        },
    ),
    (sql, {"url": "sqlite:///a.db", "query": "SELECT 1 AS id", "key": "id"}, {"query": "SELECT 2 AS id"}),
    (
        sql_sink,
        {"url": "postgresql+psycopg://me:hush@db/shop", "table": "a"},
        {
            "url": "postgresql+psycopg://me:hush@db:99/shop", "table": "b", "schema": "s", "name": "n",
            "numbers": ("seq", "index"),
        },
    ),
    (
        redis,
        {"stream": "a", "url": "redis://:hush@host:6379/0", "group": "g"},
        {"stream": "b", "url": "redis://:hush@host:6379/1", "group": "h", "consumer": "c", "start": "5-0"},
    ),
    (
        redis_sink,
        {"stream": "a", "url": "redis://:hush@host:6379/0", "progress": "p"},
        {"stream": "b", "url": "redis://:hush@other:6379/0", "progress": "q"},
    ),
    (
        http_poll,
        {"url": "http://me:hush@host/a?key=hush", "paging": "cursor", "field": "next"},
        {
            "url": "http://me:hush@host/b?key=hush", "items": "data", "paging": "after", "field": "id", "param": "p",
            "start": "hush3",
        },
    ),
    (http_poll, {"url": "http://host/a?of=hush"}, {"url": "http://host/a?of=hush2"}),
    (
        http_sink,
        {"url": "http://me:hush@host/a?key=hush"},
        {"url": "http://me:hush@host/b?key=hush", "method": "PUT", "batch_size": 10},
    ),
    (webhook, {"token": "hush"}, {"path": "/b"}),
    (kafka, {"topic": "a", "group": "g", **SERVER}, {"topic": "b", "group": "h", "start": "latest", "bootstrap_servers": "b:1"}),
    (kafka_sink, {"topic": "a", **SERVER}, {"topic": "b", "bootstrap_servers": "b:1"}),
]  # fmt: skip


def made(maker: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    if maker in (kafka, kafka_sink):
        pytest.importorskip("confluent_kafka")
    return maker(**arguments)


@pytest.mark.parametrize(("maker", "arguments", "others"), CASES)
def test_settings_name_what_decides_what_is_read_or_stored(
    maker: Callable[..., Any], arguments: dict[str, Any], others: dict[str, Any]
) -> None:
    settings = made(maker, arguments).settings()
    assert json.loads(json.dumps(settings)) == settings == made(maker, arguments).settings()
    assert "hush" not in json.dumps(settings)
    for name, value in others.items():
        assert made(maker, {**arguments, name: value}).settings() != settings, name


@pytest.mark.parametrize(
    ("maker", "arguments", "others"),
    [
        (sql, {"url": "postgresql+psycopg://me:hush@db/shop", "table": "a"}, {"url": "postgresql+psycopg://you:x@db/shop"}),
        (sql, {"url": "sqlite:///a.db", "table": "a"}, {"poll_s": 1.0, "settle_s": 2.0, "batch_size": 7}),
        (http_poll, {"url": "http://a"}, {"poll_s": 1.0, "headers": {"a": "b"}, "auth": ("a", "b"), "stop_at_end": True}),
        (webhook, {"token": "hush"}, {"port": 99, "token": "other", "queue": 7}),
    ],
)
def test_credentials_and_pace_may_change(
    maker: Callable[..., Any], arguments: dict[str, Any], others: dict[str, Any]
) -> None:
    for name, value in others.items():
        assert maker(**{**arguments, name: value}).settings() == maker(**arguments).settings(), name


@pytest.mark.parametrize(
    ("maker", "arguments", "name"),
    [
        (sql, {"url": "sqlite:///a.db", "table": "orders"}, "orders"),
        (sql, {"url": "sqlite:///a.db", "query": "SELECT 1 AS id", "key": "id"}, "query"),
        (sql_sink, {"url": "sqlite:///a.db", "table": "orders"}, "orders"),
        (redis, {"stream": "orders", "url": "redis://host"}, "orders"),
        (redis_sink, {"stream": "orders", "url": "redis://host"}, "orders"),
        (http_poll, {"url": "http://me:hush@host/v1/orders/?key=hush"}, "orders"),
        (http_poll, {"url": "http://host:80"}, "host"),
        (http_sink, {"url": "http://host/orders"}, "orders"),
        (webhook, {"path": "/in/orders"}, "orders"),
        (webhook, {}, "webhook"),
    ],
)
def test_a_node_is_named_by_what_it_reads_or_writes(
    maker: Callable[..., Any], arguments: dict[str, Any], name: str
) -> None:
    assert maker(**arguments).name == name
