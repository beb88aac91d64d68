"""The report of a run: what went through, how long it took, and what queueing theory says of it.

Decides how the figures are computed from the core's counters. The theory: utilisation ρ = λ/(cμ), predicted
throughput θ = min(λ, cμ), and Little's law L = λW (J. D. C. Little, Operations Research 9(3), 1961).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..core.core import Core


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One handler's figures: rates in events a second, times in seconds.

    `mean_inside`, `time_inside_s`, `p50_s` and `p99_s` are those of the worker pool that the node runs in, from the
    moment a number is ready for it until its answer is accepted.
    """

    pool: str
    workers: int
    events_in: int
    events_out: int
    arrival_rate: float
    service_rate: float
    utilisation: float
    throughput: float
    predicted_throughput: float
    mean_inside: float
    predicted_inside: float
    time_inside_s: float
    p50_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What order cost: seconds in which answered numbers waited, the most that did, and which node they waited for."""

    waited_s: float = 0.0
    held_most: int = 0
    head: str | None = None


@dataclass(slots=True)
class RunReport:
    """What a run did; `print(report)` is for a person, `as_dict()` for a program."""

    graph: str = ""
    runner: str = "processes"
    events_in: int = 0
    events_out: int = 0
    filtered: int = 0
    skipped: int = 0
    unmatched: int = 0
    dead_letters: int = 0
    retries: int = 0
    late: int = 0  #: events that came when their windows were closed, so that they are in none
    forgotten: int = 0  #: keys that were idle for longer than their time to live
    keys: int = 0  #: keys and open windows that have a state now
    worker_deaths: int = 0
    replayed: int = 0  #: numbers that were handed out again because their worker had died
    restart_p50_s: float = 0.0  #: from a worker's exit to its successor taking work
    restart_p99_s: float = 0.0
    released: int = 0
    in_flight: int = 0
    here: int = 0  #: numbers handled in the calling process, without isolation
    placement: str = ""  #: for `workers=None`: what was chosen, and why
    peak_bytes: int = 0
    wall_s: float = 0.0
    ended_by: str = ""
    children: dict[str, str] = field(default_factory=dict)
    expected: int | None = None
    nodes: dict[str, NodeReport] = field(default_factory=dict)
    order: OrderReport = field(default_factory=OrderReport)

    def as_dict(self) -> dict[str, Any]:
        """Give the report as plain dicts, numbers and strings."""
        return asdict(self)

    def after(self, earlier: RunReport) -> RunReport:
        """Give the report of a run whose beginning is told by `earlier`."""
        for name in ("events_out", "filtered", "skipped", "unmatched", "dead_letters", "retries"):
            setattr(self, name, getattr(self, name) + getattr(earlier, name))
        self.nodes = {
            name: replace(
                node,
                events_in=node.events_in + earlier.nodes[name].events_in,
                events_out=node.events_out + earlier.nodes[name].events_out,
            )
            for name, node in self.nodes.items()
        }
        self.here, self.placement, self.wall_s = earlier.here, earlier.placement, earlier.wall_s
        return self

    @property
    def rate(self) -> float:
        """Events read a second."""
        return self.events_in / self.wall_s if self.wall_s else 0.0

    def __str__(self) -> str:
        lines = [
            f"{self.graph}: {self.events_in:,} events in, {self.events_out:,} out in {self.wall_s:.2f} s"
            f" ({self.rate:,.0f} events/s), ended by {self.ended_by or 'nothing yet'}"
        ]
        counted = (
            "filtered", "skipped", "unmatched", "dead_letters", "retries", "late", "forgotten", "keys", "worker_deaths",
            "replayed",
        )  # fmt: skip
        told = [f"{getattr(self, name):,} {name.replace('_', ' ')}" for name in counted if getattr(self, name)]
        if told:
            lines.append("  " + ", ".join(told))
        if self.restart_p99_s:
            lines.append(
                f"  dead workers were replaced within {_time(self.restart_p50_s)} (median), {_time(self.restart_p99_s)} (p99)"
            )
        if self.placement:
            lines.append(f"  {self.placement}; {self.here:,} events were handled in the calling process")
        if self.nodes:
            lines.append(_NODE_HEAD)
            lines.extend(_node_line(name, node) for name, node in self.nodes.items())
        if self.order.waited_s >= 0.005:
            lines.append(
                f"  order: results waited {self.order.waited_s:.2f} s in all, {self.order.held_most:,} at the most,"
                f" mostly for {self.order.head}"
            )
        return "\n".join(lines)


_NODE_HEAD = f"  {'node':<20} {'workers':>7} {'events':>11} {'offered/s':>11} {'one/s':>11} {'busy':>5} {'p50':>9} {'p99':>9}"


def _node_line(name: str, node: NodeReport) -> str:
    busy = f"{min(node.utilisation, 9.99):.0%}"
    return (
        f"  {name:<20.20} {node.workers:>7} {node.events_in:>11,} {node.arrival_rate:>11,.0f}"
        f" {node.service_rate:>11,.0f} {busy:>5} {_time(node.p50_s):>9} {_time(node.p99_s):>9}"
    )


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return "0"


def report_of(
    core: Core, *, graph: str, events_out: int, wall_s: float, read_s: float, ended_by: str, expected: int | None
) -> RunReport:
    """Compute the report of a run in processes from its core, at its end or in its middle."""
    counts = core.counts
    read = core.events_in
    nodes: dict[str, NodeReport] = {}
    offered = read / read_s if read_s > 0 else 0.0
    for pool in core.pools:
        gauge, wired = pool.gauge, pool.wiring
        stay = gauge.mean_stay_s
        for step, tally in zip(wired.program.steps, pool.tallies, strict=True):
            if step.kind.traits.hidden or (not tally.seconds and step.kind.traits.joins):
                continue
            # A node behind others is offered its share of what is read.
            rate = offered * (tally.events_in / read) if read else 0.0
            service = tally.events_in / tally.seconds if tally.seconds else 0.0
            most = wired.workers * service
            throughput = tally.events_in / wall_s if wall_s else 0.0
            node = NodeReport(
                pool=wired.name,
                workers=wired.workers,
                events_in=tally.events_in,
                events_out=tally.events_out,
                arrival_rate=rate,
                service_rate=service,
                utilisation=rate / most if most else 0.0,
                throughput=throughput,
                predicted_throughput=min(rate, most) if most else rate,
                mean_inside=gauge.mean_inside(wall_s),
                predicted_inside=(gauge.left / wall_s if wall_s else 0.0) * stay,
                time_inside_s=stay,
                p50_s=gauge.quantile_s(0.50),
                p99_s=gauge.quantile_s(0.99),
            )
            nodes[step.node] = _both(nodes[step.node], node) if step.node in nodes else node
    tallies = [tally for pool in core.pools for tally in pool.tallies]
    return RunReport(
        graph=graph,
        events_in=read,
        events_out=events_out,
        filtered=counts.filtered,
        skipped=counts.skipped,
        unmatched=counts.unmatched,
        dead_letters=counts.dead_letters,
        retries=counts.retries,
        late=sum(tally.late for tally in tallies),
        forgotten=sum(tally.forgotten for tally in tallies),
        keys=sum(tally.keys for tally in tallies),
        worker_deaths=counts.worker_deaths,
        replayed=counts.replayed,
        released=core.barrier.released - core.first,
        in_flight=core.in_flight,
        peak_bytes=core.window.peak_bytes,
        wall_s=wall_s,
        ended_by=ended_by,
        expected=expected,
        nodes=nodes,
        order=OrderReport(core.barrier_waited_s, core.held_peak, _head(core)),
    )


def _both(one: NodeReport, other: NodeReport) -> NodeReport:
    """Give the figures of a node whose keys are shared out over several pools."""
    workers, rate = one.workers + other.workers, one.arrival_rate + other.arrival_rate
    events = one.events_in + other.events_in
    # The rate of one worker is that of all of them, weighed by the events of each.
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
        throughput=one.throughput + other.throughput,
        predicted_throughput=min(rate, most) if most else rate,
        mean_inside=max(one.mean_inside, other.mean_inside),
        predicted_inside=max(one.predicted_inside, other.predicted_inside),
        time_inside_s=max(one.time_inside_s, other.time_inside_s),
        p50_s=max(one.p50_s, other.p50_s),
        p99_s=max(one.p99_s, other.p99_s),
    )


def _head(core: Core) -> str | None:
    if not core.barrier_waited_s:
        return None
    pool = max(core.pools, key=lambda pool: pool.waits_s)
    steps = zip(pool.wiring.program.steps, pool.tallies, strict=True)
    return max(steps, key=lambda pair: pair[1].seconds)[0].node
