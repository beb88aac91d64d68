"""Computes the report of a run from its counters and tallies.

Decides the formulas. The theory: utilisation ρ = λ/(cμ), predicted throughput θ = min(λ, cμ), and Little's law L = λW
(J. D. C. Little, Operations Research 9(3), 1961); c counts the calls that all workers of a node make at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ...nodes.ordering.queue_stats import QueueStats
from ...nodes.program.program import Step, Tally
from ..core.core import Core
from .report import NodeReport, OrderReport, RunReport


@dataclass(frozen=True, slots=True)
class Stay:
    """How many numbers are inside a pool, measured and predicted, and for how long: mean, median, p99 in seconds."""

    mean_inside: float
    predicted_inside: float
    mean_s: float
    p50_s: float
    p99_s: float


def is_reported(step: Step) -> bool:
    """Whether a step is a line of the report: not a part of another node, and not a join, which runs no user code."""
    return not step.kind.traits.hidden and not step.kind.traits.joins


def node_report(
    step: Step,
    tally: Tally,
    *,
    pool: str,
    workers: int,
    ordered: bool,
    rate: float,
    wall_s: float,
    stay: Stay | None = None,
) -> NodeReport:
    """Return the figures of one node that is offered `rate` events per second.

    `ordered` says that its workers make one call at a time. Without `stay` nothing queues before the node: an event
    stays for its own call.
    """
    calls = workers * (step.options.concurrency if step.is_async and not ordered else 1)
    one_call = tally.events_in / tally.seconds if tally.seconds else 0.0
    most = calls * one_call
    utilisation = rate / most if most else 0.0
    if stay is None:
        each = 1 / one_call if one_call else 0.0
        stay = Stay(utilisation, utilisation, each, each, each)
    return NodeReport(
        pool=pool,
        workers=workers,
        events_in=tally.events_in,
        events_out=tally.events_out,
        arrival_rate=rate,
        service_rate=most / workers,
        utilisation=utilisation,
        busy=min(1.0, tally.seconds / (calls * wall_s)) if wall_s > 0 else 0.0,
        throughput=tally.events_in / wall_s if wall_s > 0 else 0.0,
        predicted_throughput=min(rate, most) if most else rate,
        mean_inside=stay.mean_inside,
        predicted_inside=stay.predicted_inside,
        time_inside_s=stay.mean_s,
        p50_s=stay.p50_s,
        p99_s=stay.p99_s,
    )


def add_tallies(report: RunReport, tallies: Iterable[Tally]) -> None:
    """Add to a report what the steps of its run have counted."""
    for tally in tallies:
        report.retries += tally.retries
        report.filtered += tally.filtered
        report.unmatched += tally.unmatched
        report.late += tally.late
        report.forgotten += tally.forgotten
        report.keys += tally.keys


def report_of(
    core: Core, *, graph: str, events_out: int, wall_s: float, read_s: float, ended_by: str, expected: int | None
) -> RunReport:
    """Return the report of a run in processes, during the run or after it.

    `read_s` are the seconds in which reading was not held back, for the rate that the sources offer.
    """
    report = RunReport(
        graph=graph,
        events_in=core.events_in,
        events_out=events_out,
        skipped=core.counts.skipped,
        dead_letters=core.counts.dead_letters,
        worker_deaths=core.counts.worker_deaths,
        replayed=core.counts.replayed,
        recalled=core.counts.recalled,
        released=core.barrier.released - core.first,
        in_flight=core.sequencer.next - core.barrier.released,
        peak_bytes=core.budget.peak_bytes,
        wall_s=wall_s,
        ended_by=ended_by,
        expected=expected,
        nodes=_nodes(core, wall_s, read_s),
        order=OrderReport(core.barrier_waited_s, core.waiting_peak, _head(core)),
    )
    for pool in core.pools:
        add_tallies(report, pool.tallies)
    return report


def add_earlier(report: RunReport, earlier: RunReport) -> RunReport:
    """Add `earlier`, the report of the same run before processes took over, to a report, and return it."""
    for name in ("events_out", "filtered", "skipped", "unmatched", "dead_letters", "retries"):
        setattr(report, name, getattr(report, name) + getattr(earlier, name))
    report.nodes = {
        name: replace(
            node,
            events_in=node.events_in + earlier.nodes[name].events_in,
            events_out=node.events_out + earlier.nodes[name].events_out,
        )
        for name, node in report.nodes.items()
    }
    for name in ("in_caller", "placement", "wall_s", "error", "began_at", "ended_at", "version", "host"):
        setattr(report, name, getattr(earlier, name))
    return report


def _nodes(core: Core, wall_s: float, read_s: float) -> dict[str, NodeReport]:
    """Return the figures of every node by its name."""
    nodes: dict[str, NodeReport] = {}
    read = core.events_in
    offered = read / read_s if read_s > 0 else 0.0
    for pool in core.pools:
        stay, wired = _stay(pool.queue_stats, wall_s), pool.wiring
        for step, tally in zip(wired.program.steps, pool.tallies, strict=True):
            if not is_reported(step):
                continue
            node = node_report(
                step,
                tally,
                pool=wired.name,
                workers=wired.workers,
                ordered=wired.ordered,
                # A node behind others is offered its share of what is read.
                rate=offered * (tally.events_in / read) if read else 0.0,
                wall_s=wall_s,
                stay=stay,
            )
            nodes[step.node] = _joined(nodes[step.node], node) if step.node in nodes else node
    return nodes


def _stay(stats: QueueStats, wall_s: float) -> Stay:
    rate = stats.departed / wall_s if wall_s else 0.0
    return Stay(
        stats.mean_inside(wall_s),
        rate * stats.mean_stay_s,
        stats.mean_stay_s,
        stats.quantile_s(0.50),
        stats.quantile_s(0.99),
    )


def _joined(one: NodeReport, other: NodeReport) -> NodeReport:
    """Return the figures of a node whose keys are shared among several pools."""
    workers, rate = one.workers + other.workers, one.arrival_rate + other.arrival_rate
    events = one.events_in + other.events_in
    # The rate of one worker is the mean over all of them, weighted by the events of each.
    seconds = sum(node.events_in / node.service_rate for node in (one, other) if node.service_rate)
    service = events / seconds if seconds else 0.0
    most = workers * service
    return NodeReport(
        pool=one.pool,
        workers=workers,
        events_in=events,
        events_out=one.events_out + other.events_out,
        arrival_rate=rate,
        service_rate=service,
        utilisation=rate / most if most else 0.0,
        busy=(one.busy * one.workers + other.busy * other.workers) / workers,
        throughput=one.throughput + other.throughput,
        predicted_throughput=min(rate, most) if most else rate,
        mean_inside=max(one.mean_inside, other.mean_inside),
        predicted_inside=max(one.predicted_inside, other.predicted_inside),
        time_inside_s=max(one.time_inside_s, other.time_inside_s),
        p50_s=max(one.p50_s, other.p50_s),
        p99_s=max(one.p99_s, other.p99_s),
    )


def _head(core: Core) -> str | None:
    """Return the slowest node of the pool that results mostly waited for."""
    if not core.barrier_waited_s:
        return None
    pool = max(core.pools, key=lambda pool: pool.waits_s)
    steps = zip(pool.wiring.program.steps, pool.tallies, strict=True)
    return max(steps, key=lambda pair: pair[1].seconds)[0].node
