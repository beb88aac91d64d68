"""sluiceway runs Python event pipelines on all cores of one machine and keeps their order.

The public names, nothing else. They are loaded on first use, so that a worker process, which needs few of them,
starts fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine.checkpoints.open_store import postgres_store
    from .engine.options import StopSignal
    from .engine.plan.plan import Plan
    from .engine.reporting.report import NodeReport, OrderReport, RunReport
    from .engine.run import Results, imap, iterate, run
    from .engine.run import compile_ as compile
    from .graphs.builder.graph import Graph
    from .graphs.builder.streams import KeyedStream, Stream, merge, zip
    from .nodes.connectors.http.api import http_poll, http_sink, webhook
    from .nodes.connectors.kafka.api import KafkaMessage, kafka, kafka_sink
    from .nodes.connectors.redis.api import RedisEntry, redis, redis_sink
    from .nodes.connectors.redis.lock import redis_lock
    from .nodes.connectors.sql.api import postgres_lock, sql, sql_sink
    from .nodes.errors import (
        CheckpointError,
        GraphError,
        HandlerError,
        HandlerTimeout,
        LockError,
        LockHeld,
        LockLost,
        LostEvents,
        ProtocolError,
        SinkError,
        SluicewayError,
        SourceError,
        WorkerDied,
    )
    from .nodes.events import Context, DeadLetter, current
    from .nodes.files.api import csv, jsonl, lines
    from .nodes.files.file_lock import file_lock
    from .nodes.handlers import Handler, per_worker
    from .nodes.locks import Lock
    from .nodes.sinks import Batch, Sink
    from .nodes.sources import Source, SourceReader
    from .nodes.state.windows import Window, session, sliding, tumbling
    from .nodes.timer import every

_HOMES = {
    "engine.options": ("StopSignal",),
    "engine.plan.plan": ("Plan",),
    "engine.reporting.report": ("NodeReport", "OrderReport", "RunReport"),
    "engine.run": ("Results", "compile", "imap", "iterate", "run"),
    "engine.checkpoints.open_store": ("postgres_store",),
    "graphs.builder.graph": ("Graph",),
    "graphs.builder.streams": ("KeyedStream", "Stream", "merge", "zip"),
    "nodes.connectors.http.api": ("http_poll", "http_sink", "webhook"),
    "nodes.connectors.kafka.api": ("kafka", "kafka_sink"),
    "nodes.connectors.kafka.message": ("KafkaMessage",),
    "nodes.connectors.redis.entry": ("RedisEntry",),
    "nodes.connectors.redis.lock": ("redis_lock",),
    "nodes.connectors.redis.api": ("redis", "redis_sink"),
    "nodes.connectors.sql.api": ("postgres_lock", "sql", "sql_sink"),
    "nodes.errors": (
        "CheckpointError",
        "GraphError",
        "HandlerError",
        "HandlerTimeout",
        "LockError",
        "LockHeld",
        "LockLost",
        "LostEvents",
        "SluicewayError",
        "ProtocolError",
        "SinkError",
        "SourceError",
        "WorkerDied",
    ),
    "nodes.events": ("Context", "DeadLetter", "current"),
    "nodes.files.file_lock": ("file_lock",),
    "nodes.files.api": ("csv", "jsonl", "lines"),
    "nodes.handlers": ("Handler", "per_worker"),
    "nodes.locks": ("Lock",),
    "nodes.sinks": ("Batch", "Sink"),
    "nodes.sources": ("Source", "SourceReader"),
    "nodes.timer": ("every",),
    "nodes.state.windows": ("Window", "session", "sliding", "tumbling"),
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
    "Plan",
    "ProtocolError",
    "RedisEntry",
    "Results",
    "RunReport",
    "Sink",
    "SinkError",
    "SluicewayError",
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
