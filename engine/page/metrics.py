"""The figures of a run for Prometheus, made from the last look at it when they are asked for.

Decides the names, by the conventions of Prometheus (https://prometheus.io/docs/practices/naming/), and the labels: the
graph, and for the figures of a node its name. Nothing is counted here, and no registry of the process is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ..reporting.report import NodeReport
from .history import busy_seconds
from .sampler import Snapshot

#: Counters of a run: the name without `_total`, the field of the report, and what it counts.
COUNTERS = (
    ("sluiceway_events_read", "events_in", "Events read from the sources."),
    ("sluiceway_events_out", "events_out", "Events that reached the sinks or the consumer."),
    ("sluiceway_numbers_released", "released", "Numbers whose results went to the sinks in their order."),
    ("sluiceway_events_filtered", "filtered", "Events that a filter dropped."),
    ("sluiceway_events_skipped", "skipped", "Events that failed under on_error='skip'."),
    ("sluiceway_dead_letters", "dead_letters", "Events that failed under on_error='dead_letter'."),
    ("sluiceway_numbers_unmatched", "unmatched", "Numbers that a zip left out."),
    ("sluiceway_retries", "retries", "Further attempts after a failed call."),
    ("sluiceway_events_late", "late", "Events that came after their windows had closed."),
    ("sluiceway_forgotten_keys", "forgotten", "Keys that were idle for longer than their time to live."),
    ("sluiceway_worker_deaths", "worker_deaths", "Workers that died or were killed at a time limit."),
    ("sluiceway_numbers_replayed", "replayed", "Numbers handed out again because their worker died."),
    ("sluiceway_numbers_recalled", "recalled", "Numbers that durable handlers had answered in an earlier run."),
)
def _began(sample: Snapshot) -> float:
    began = sample.live.report.began_at
    return datetime.fromisoformat(began).timestamp() if began else 0.0


Figure = Callable[[Snapshot], float]
#: Gauges of a run.
GAUGES: tuple[tuple[str, str, Figure], ...] = (
    ("sluiceway_in_flight_numbers", "Numbers that are read and not consumed by the sinks.", lambda s: s.live.flow.in_flight),
    ("sluiceway_held_numbers", "Answered numbers that wait behind an earlier one.", lambda s: s.live.flow.held),
    ("sluiceway_window_numbers", "The limit on the numbers in flight.", lambda s: s.live.flow.limit_numbers),
    ("sluiceway_in_flight_bytes", "Bytes between sources and sinks, held results included.", lambda s: s.live.flow.nbytes),
    ("sluiceway_window_bytes", "The limit on the bytes in flight.", lambda s: s.live.flow.limit_bytes),
    ("sluiceway_peak_bytes", "The most bytes that were in flight at once.", lambda s: s.live.report.peak_bytes),
    ("sluiceway_workers", "Worker processes that run.", lambda s: len(s.live.workers)),
    ("sluiceway_run_seconds", "Seconds since the run began.", lambda s: s.live.report.wall_s),
    ("sluiceway_run_start_time_seconds", "When the run began, in seconds since 1970.", _began),
    ("sluiceway_head_wait_seconds", "Seconds for which the head of the line has not moved.", lambda s: s.health.since_s),
    ("sluiceway_healthy", "1 while the run goes on and is not stalled.", lambda s: float(s.health.healthy)),
    ("sluiceway_ready", "1 while it also takes events.", lambda s: float(s.health.ready)),
    ("sluiceway_failed", "1 once an error has ended the run.", lambda s: float(s.live.report.ended_by == "error")),
)
NodeFigure = Callable[[NodeReport, float], float]
#: Counters of a node, without `_total`, from its report and the seconds of the run.
NODE_COUNTERS: tuple[tuple[str, str, NodeFigure], ...] = (
    ("sluiceway_node_events_in", "Events that the node was given.", lambda n, _: n.events_in),
    ("sluiceway_node_events_out", "Events that it put out.", lambda n, _: n.events_out),
    ("sluiceway_node_busy_seconds", "Seconds in the handler, of each call at once.", busy_seconds),
)
NODE_GAUGES: tuple[tuple[str, str, NodeFigure], ...] = (
    ("sluiceway_node_workers", "Processes of the node's pool.", lambda n, _: n.workers),
    ("sluiceway_node_service_rate", "Events a second that one worker can handle.", lambda n, _: n.service_rate),
    ("sluiceway_node_arrival_rate", "Events a second that a source never held back would offer.", lambda n, _: n.arrival_rate),
    ("sluiceway_node_stay_p50_seconds", "Median seconds of a number inside the node's pool.", lambda n, _: n.p50_s),
    ("sluiceway_node_stay_p99_seconds", "The same for 99 of 100 numbers.", lambda n, _: n.p99_s),
)


class RunCollector(Collector):
    """Makes the metrics of a run from its last sample."""

    def __init__(self, latest: Callable[[], Snapshot]) -> None:
        self._latest = latest

    def describe(self) -> list[Metric]:
        """Return nothing: without it a registry would ask for a sample at once."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        sample = self._latest()
        report, graph = sample.live.report, [sample.live.report.graph]
        for name, field, text in COUNTERS:
            yield _counter(name, text, {(): getattr(report, field)}, graph)
        waited = "Seconds in which results waited for an earlier one."
        yield _counter("sluiceway_order_waited_seconds", waited, {(): report.order.waited_s}, graph)
        for name, text, figure in GAUGES:
            yield _gauge(name, text, {(): figure(sample)}, graph)
        if report.expected is not None:
            yield _gauge("sluiceway_expected_events", "How many events there will be.", {(): report.expected}, graph)
        if sample.live.committed is not None:
            text = "The number below which everything is committed."
            yield _gauge("sluiceway_committed_number", text, {(): sample.live.committed}, graph)
        for name, text, of_node in NODE_COUNTERS:
            yield _counter(name, text, _by_node(sample, of_node), graph)
        for name, text, of_node in NODE_GAUGES:
            yield _gauge(name, text, _by_node(sample, of_node), graph)


class Metrics:
    """The metrics of one run, as text in the form that the asker takes."""

    def __init__(self, latest: Callable[[], Snapshot]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(RunCollector(latest))

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the text and its content type, for what the header `Accept` says."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


Values = Mapping[tuple[str, ...], float]


def _by_node(sample: Snapshot, figure: NodeFigure) -> Values:
    report = sample.live.report
    return {(name,): figure(node, report.wall_s) for name, node in report.nodes.items()}


def _counter(name: str, text: str, values: Values, graph: list[str]) -> Metric:
    family = CounterMetricFamily(name, text, labels=_labels(values))
    for more, value in values.items():
        family.add_metric([*graph, *more], value)
    return family


def _gauge(name: str, text: str, values: Values, graph: list[str]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=_labels(values))
    for more, value in values.items():
        family.add_metric([*graph, *more], value)
    return family


def _labels(values: Values) -> list[str]:
    return ["graph"] if () in values else ["graph", "node"]
