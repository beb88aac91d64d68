"""The figures that the page shows, made from one snapshot as plain values.

Decides which node bounds the run and who holds the head of the line. How they look is the browser's matter.
"""

from __future__ import annotations

from typing import Any

from ..reporting.live import LiveRun, WorkerView
from .history import Point
from .sampler import Snapshot

#: A node whose workers are busy for less than this share of the time does not bound the run.
_BOUND = 0.5
_TOTALS = (
    "events_in", "events_out", "released", "filtered", "skipped", "unmatched", "dead_letters", "retries", "late", "forgotten",
    "worker_deaths", "replayed", "recalled", "in_caller", "peak_bytes", "expected",
)  # fmt: skip


def figures_of(shown: Snapshot) -> dict[str, Any]:
    """Return what the page shows of a snapshot; times in seconds, rates a second, sizes in bytes."""
    live, rates, report = shown.live, shown.rates, shown.live.report
    flow = live.flow
    return {
        "graph": report.graph,
        "runner": report.runner,
        "host": report.host,
        "version": report.version,
        "began_at": report.began_at,
        "ended_at": report.ended_at,
        "ended_by": report.ended_by,
        "error": _error(live),
        "placement": report.placement,
        "wall_s": report.wall_s,
        "healthy": shown.health.healthy,
        "ready": shown.health.ready,
        "why": shown.health.why,
        "totals": {name: getattr(report, name) for name in _TOTALS},
        "in_flight": flow.in_flight,
        "held": flow.held,
        "nbytes": flow.nbytes,
        "limit_bytes": flow.limit_bytes,
        "limit_numbers": flow.limit_numbers,
        "read_rate": rates.read,
        "out_rate": rates.released,
        "eta_s": rates.eta_s,
        "head": _head(shown),
        "order": {"waited_s": report.order.waited_s, "held_most": report.order.held_most, "head": report.order.head},
        "bottleneck": bottleneck_of(shown),
        "committed": live.committed,
        "nodes": {name: _node(name, shown) for name in report.nodes},
        "workers": [_worker(worker, shown) for worker in live.workers],
        "letters": [
            {"number": one.number, "index": one.index, "node": one.node, "error": one.error, "attempts": one.attempts,
             "at": one.at, "event": one.event}
            for one in reversed(live.letters)
        ],
    }  # fmt: skip


def bottleneck_of(shown: Snapshot) -> str | None:
    """Return the node whose workers are the busiest, now or over the ended run; `None` where sources or sinks bound it."""
    report = shown.live.report
    busy = {name: node.busy for name, node in report.nodes.items()} if shown.live.over else shown.rates.busy
    name = max(busy, key=lambda name: busy[name], default=None)
    return name if name is not None and busy[name] >= _BOUND else None


def point_of(point: Point) -> list[float]:
    """Return a point of the charts as a row."""
    return [point.at_s, point.read, point.released, point.p50_s, point.p99_s, point.in_flight, point.nbytes]


def _node(name: str, shown: Snapshot) -> dict[str, Any]:
    node, rates, over = shown.live.report.nodes[name], shown.rates, shown.live.over
    return {
        "pool": node.pool,
        "workers": node.workers,
        "events_in": node.events_in,
        "events_out": node.events_out,
        "rate": node.throughput if over else rates.nodes.get(name, 0.0),
        "service_rate": node.service_rate,
        "busy": node.busy if over else rates.busy.get(name, 0.0),
        "p50_s": (not over and rates.p50_s.get(node.pool)) or node.p50_s,
        "p99_s": (not over and rates.p99_s.get(node.pool)) or node.p99_s,
        "waiting": shown.live.flow.waiting.get(node.pool, 0),
    }


def _head(shown: Snapshot) -> dict[str, Any] | None:
    """Return which number is the head of the line, who has it and for how long; `None` where nothing is in flight."""
    flow = shown.live.flow
    if not flow.in_flight or shown.live.over:
        return None
    holder = next((worker for worker in shown.live.workers if worker.name == flow.holder), None)
    return {
        "number": flow.head,
        "since_s": shown.health.since_s,
        "answered": flow.answered,
        "worker": flow.holder,
        "node": None if holder is None else holder.node,
        "pid": 0 if holder is None else holder.pid,
    }


def _worker(worker: WorkerView, shown: Snapshot) -> dict[str, Any]:
    return {
        "name": worker.name,
        "pool": worker.pool,
        "pid": worker.pid,
        "memory": shown.memory.get(worker.pid),
        "doing": worker.doing,
        "node": worker.node,
        "number": worker.number,
        "for_s": worker.for_s,
        "numbers": worker.numbers,
        "life": worker.life,
        "head": worker.name == shown.live.flow.holder,
    }


def _error(live: LiveRun) -> dict[str, Any] | None:
    error = live.report.error
    if error is None:
        return None
    return {"type": error.type, "text": error.text, "node": error.node, "number": error.number, "cause": error.cause,
            "traceback": error.traceback}  # fmt: skip
