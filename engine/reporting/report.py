"""The report of a run as a value: its fields, and how a person reads it.

Decides what is printed. How the figures are computed is in `figures`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class NodeReport:
    """The figures of one handler: rates in events per second, times in seconds.

    `busy` is measured: the share of the run, from 0 to 1, that its workers spent in this handler. `utilisation` is
    predicted: ρ = λ/(cμ), the rate at which a source that never waits would offer events, over what the workers can
    handle; above 1 the handler is a bottleneck. `service_rate` is the rate of one worker. An async handler with
    `concurrency` has that many calls at once in each worker, in all three. `mean_inside`, `time_inside_s`, `p50_s`
    and `p99_s` belong to the worker pool that the node runs in, from the moment a number is ready for the pool until
    its answer is accepted.
    """

    pool: str
    workers: int
    events_in: int
    events_out: int
    arrival_rate: float
    service_rate: float
    utilisation: float
    busy: float
    throughput: float
    predicted_throughput: float
    mean_inside: float
    predicted_inside: float
    time_inside_s: float
    p50_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What order cost.

    `waited_s`: seconds in which results waited for an earlier one; `held_most`: how many waited at once, at most;
    `head`: the node that they mostly waited for.
    """

    waited_s: float = 0.0
    held_most: int = 0
    head: str | None = None


@dataclass(slots=True)
class RunReport:
    """What a run did; `print(report)` is for a person, `as_dict()` for a program.

    Each event read gets a number, its place in the order of reading, from 0 on: `released`, `in_flight`, `replayed`
    and `in_caller` count numbers, `events_out` the events that reached the sinks.
    """

    graph: str = ""
    runner: str = "processes"
    events_in: int = 0
    events_out: int = 0
    filtered: int = 0
    skipped: int = 0
    unmatched: int = 0
    dead_letters: int = 0
    retries: int = 0
    late: int = 0  #: events that came after their windows had closed, so that they are in none
    forgotten: int = 0  #: keys that were idle for longer than their time to live
    keys: int = 0  #: keys and open windows that have a state at the end
    worker_deaths: int = 0
    replayed: int = 0  #: numbers that were handed out again because their worker died
    restart_p50_s: float = 0.0  #: from a worker's exit to its successor taking work
    restart_p99_s: float = 0.0
    released: int = 0
    in_flight: int = 0
    in_caller: int = 0  #: numbers that were handled in the calling process, without isolation
    placement: str = ""  #: for `workers=None`: where events were handled, and why
    peak_bytes: int = 0
    wall_s: float = 0.0
    ended_by: str = ""
    children: dict[str, str] = field(default_factory=dict)
    expected: int | None = None
    nodes: dict[str, NodeReport] = field(default_factory=dict)
    order: OrderReport = field(default_factory=OrderReport)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain dicts, numbers and strings."""
        return asdict(self)

    def after(self, earlier: RunReport) -> RunReport:
        """Add `earlier`, the report of the same run before processes took over, and return this report."""
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
        self.in_caller, self.placement, self.wall_s = earlier.in_caller, earlier.placement, earlier.wall_s
        return self

    @property
    def rate(self) -> float:
        """Events read per second."""
        return self.events_in / self.wall_s if self.wall_s else 0.0

    def __str__(self) -> str:
        lines = [
            f"{self.graph}: {self.events_in:,} events in, {self.events_out:,} out in {self.wall_s:.2f} s"
            f" ({self.rate:,.0f} events/s), ended by {self.ended_by or 'nothing yet'}"
        ]
        counts = [f"{getattr(self, name):,} {name.replace('_', ' ')}" for name in _COUNTS if getattr(self, name)]
        if counts:
            lines.append("  " + ", ".join(counts))
        if self.restart_p99_s:
            lines.append(
                f"  dead workers were replaced within {_time(self.restart_p50_s)} (median), {_time(self.restart_p99_s)} (p99)"
            )
        if self.placement:
            lines.append(f"  {self.placement}; {self.in_caller:,} events were handled in the calling process")
        if self.nodes:
            lines.append(_NODE_HEAD)
            lines.extend(_node_line(name, node) for name, node in self.nodes.items())
        if self.order.waited_s >= 0.005:
            lines.append(
                f"  order: results waited {self.order.waited_s:.2f} s in all, at most {self.order.held_most:,} at once,"
                f" mostly for {self.order.head}"
            )
        return "\n".join(lines)


#: Counters that are printed where they are not 0.
_COUNTS = (
    "filtered", "skipped", "unmatched", "dead_letters", "retries", "late", "forgotten", "keys", "worker_deaths",
    "replayed",
)  # fmt: skip
_NODE_HEAD = (
    f"  {'node':<20} {'workers':>7} {'events':>11} {'offered/s':>11} {'per worker/s':>12} {'busy':>5} {'p50':>9} {'p99':>9}"
)


def _node_line(name: str, node: NodeReport) -> str:
    return (
        f"  {name:<20.20} {node.workers:>7} {node.events_in:>11,} {node.arrival_rate:>11,.0f}"
        f" {node.service_rate:>12,.0f} {node.busy:>5.0%} {_time(node.p50_s):>9} {_time(node.p99_s):>9}"
    )


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return "0"
