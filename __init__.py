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

_HOMES = {
    "engine.options": ("StopSignal",),
    "engine.plan": ("Plan",),
    "engine.report": ("NodeReport", "OrderReport", "RunReport"),
    "engine.runner": ("Results", "compile", "imap", "iterate", "run"),
    "graphs.graph": ("Graph", "Stream", "merge", "zip"),
    "nodes.errors": (
        "GraphError",
        "HandlerError",
        "HandlerTimeout",
        "LostEvents",
        "PenstockError",
        "ProtocolError",
        "SinkError",
        "SourceError",
        "WorkerDied",
    ),
    "nodes.events": ("Context", "DeadLetter", "current"),
    "nodes.files": ("csv", "jsonl", "lines"),
    "nodes.handlers": ("Handler", "per_worker"),
    "nodes.sinks": ("Batch", "Sink"),
    "nodes.sources": ("Source", "SourceReader"),
    "nodes.ticks": ("every",),
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
