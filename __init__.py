"""penstock runs Python event pipelines on all cores of one machine and keeps their order."""

from .engine.options import StopSignal
from .engine.plan import Plan
from .engine.report import NodeReport, OrderReport, RunReport
from .engine.runner import Results, imap, iterate, run
from .engine.runner import compile_ as compile
from .graphs.graph import Graph, Stream, merge, zip
from .nodes.errors import (
    GraphError,
    HandlerError,
    HandlerTimeout,
    LostEvents,
    PenstockError,
    ProtocolError,
    SinkError,
    SourceError,
    WorkerDied,
)
from .nodes.events import Context, DeadLetter, current
from .nodes.files import csv, jsonl, lines
from .nodes.handlers import Handler, per_worker
from .nodes.sinks import Batch, Sink
from .nodes.sources import Source, SourceReader
from .nodes.ticks import every

__all__ = [
    "Batch",
    "Context",
    "DeadLetter",
    "Graph",
    "GraphError",
    "Handler",
    "HandlerError",
    "HandlerTimeout",
    "LostEvents",
    "NodeReport",
    "OrderReport",
    "PenstockError",
    "Plan",
    "ProtocolError",
    "Results",
    "RunReport",
    "Sink",
    "SinkError",
    "Source",
    "SourceError",
    "SourceReader",
    "StopSignal",
    "Stream",
    "WorkerDied",
    "compile",
    "csv",
    "current",
    "every",
    "imap",
    "iterate",
    "jsonl",
    "lines",
    "merge",
    "per_worker",
    "run",
    "zip",
]
