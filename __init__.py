"""penstock runs Python event pipelines on all cores of one machine and keeps their order.

The public names, nothing else. They are loaded on first use, so that a worker process, which needs few of them,
starts fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine.options import StopSignal
    from .engine.plan import Plan
    from .engine.report import NodeReport, OrderReport, RunReport
    from .engine.runner import Results, imap, iterate, run
    from .engine.runner import compile_ as compile
    from .engine.stores import postgres_store
    from .graphs.graph import Graph, Stream, merge, zip
    from .graphs.keyed import KeyedStream
    from .nodes.connectors.http import http_poll, http_sink, webhook
    from .nodes.connectors.kafka import KafkaMessage, kafka, kafka_sink
    from .nodes.connectors.redislock import redis_lock
    from .nodes.connectors.redisstreams import RedisEntry, redis, redis_sink
    from .nodes.connectors.sql import postgres_lock, sql, sql_sink
    from .nodes.errors import (
        CheckpointError,
        GraphError,
        HandlerError,
        HandlerTimeout,
        LockError,
        LockHeld,
        LockLost,
        LostEvents,
        PenstockError,
        ProtocolError,
        SinkError,
        SourceError,
        WorkerDied,
    )
    from .nodes.events import Context, DeadLetter, current
    from .nodes.filelock import file_lock
    from .nodes.files import csv, jsonl, lines
    from .nodes.handlers import Handler, per_worker
    from .nodes.locks import Lock
    from .nodes.sinks import Batch, Sink
    from .nodes.sources import Source, SourceReader
    from .nodes.ticks import every
    from .nodes.windows import Window, session, sliding, tumbling

_HOMES = {
    "engine.options": ("StopSignal",),
    "engine.plan": ("Plan",),
    "engine.report": ("NodeReport", "OrderReport", "RunReport"),
    "engine.runner": ("Results", "compile", "imap", "iterate", "run"),
    "engine.stores": ("postgres_store",),
    "graphs.graph": ("Graph", "Stream", "merge", "zip"),
    "graphs.keyed": ("KeyedStream",),
    "nodes.connectors.http": ("http_poll", "http_sink", "webhook"),
    "nodes.connectors.kafka": ("kafka", "kafka_sink"),
    "nodes.connectors.kafkamessage": ("KafkaMessage",),
    "nodes.connectors.redisentry": ("RedisEntry",),
    "nodes.connectors.redislock": ("redis_lock",),
    "nodes.connectors.redisstreams": ("redis", "redis_sink"),
    "nodes.connectors.sql": ("postgres_lock", "sql", "sql_sink"),
    "nodes.errors": (
        "CheckpointError",
        "GraphError",
        "HandlerError",
        "HandlerTimeout",
        "LockError",
        "LockHeld",
        "LockLost",
        "LostEvents",
        "PenstockError",
        "ProtocolError",
        "SinkError",
        "SourceError",
        "WorkerDied",
    ),
    "nodes.events": ("Context", "DeadLetter", "current"),
    "nodes.filelock": ("file_lock",),
    "nodes.files": ("csv", "jsonl", "lines"),
    "nodes.handlers": ("Handler", "per_worker"),
    "nodes.locks": ("Lock",),
    "nodes.sinks": ("Batch", "Sink"),
    "nodes.sources": ("Source", "SourceReader"),
    "nodes.ticks": ("every",),
    "nodes.windows": ("Window", "session", "sliding", "tumbling"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), "compile_" if name == "compile" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})


__all__ = [
    "Batch",
    "CheckpointError",
    "Context",
    "DeadLetter",
    "Graph",
    "GraphError",
    "Handler",
    "HandlerError",
    "HandlerTimeout",
    "KafkaMessage",
    "KeyedStream",
    "Lock",
    "LockError",
    "LockHeld",
    "LockLost",
    "LostEvents",
    "NodeReport",
    "OrderReport",
    "PenstockError",
    "Plan",
    "ProtocolError",
    "RedisEntry",
    "Results",
    "RunReport",
    "Sink",
    "SinkError",
    "Source",
    "SourceError",
    "SourceReader",
    "StopSignal",
    "Stream",
    "Window",
    "WorkerDied",
    "compile",
    "csv",
    "current",
    "every",
    "file_lock",
    "http_poll",
    "http_sink",
    "imap",
    "iterate",
    "jsonl",
    "kafka",
    "kafka_sink",
    "lines",
    "merge",
    "per_worker",
    "postgres_lock",
    "postgres_store",
    "redis",
    "redis_lock",
    "redis_sink",
    "run",
    "session",
    "sliding",
    "sql",
    "sql_sink",
    "tumbling",
    "webhook",
    "zip",
]
