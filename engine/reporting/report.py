"""The report of a run as a value: its fields, and how a person reads it.

Decides what is printed. How the figures are computed is in `figures`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

from ...nodes.meanings import means, with_fields


@with_fields
@dataclass(frozen=True, slots=True)
class NodeReport:
    """The figures of one handler: rates in events per second, times in seconds.

    Three of them take all workers together: λ, θ and L; c is the number of workers. An async handler with `concurrency`
    has that many calls at once in each worker, in `service_rate`, `utilisation` and `busy`. Nodes of one pool show the
    same times inside, for they run one after the other in the same workers.
    """

    pool: str = field(metadata=means("the worker pool that the node runs in; several nodes may share one"))
    workers: int = field(metadata=means("how many processes the pool has"))
    events_in: int = field(metadata=means("events that the node was given"))
    events_out: int = field(metadata=means("events that it put out"))
    arrival_rate: float = field(
        metadata=means("λ: events a second that a source which is never held back would offer to it")
    )
    service_rate: float = field(
        metadata=means("μ: events a second that one worker can handle, with all its calls at once")
    )
    utilisation: float = field(metadata=means("ρ = λ/(cμ), predicted: above 1 the node is a bottleneck"))
    busy: float = field(
        metadata=means("measured: the share of the run, from 0 to 1, that its workers spent in the handler")
    )
    throughput: float = field(metadata=means("θ: events a second that it was given, over the whole run"))
    predicted_throughput: float = field(metadata=means("min(λ, cμ)"))
    mean_inside: float = field(
        metadata=means("L: how many numbers were inside its pool, on average; waiting for it, or under way")
    )
    predicted_inside: float = field(metadata=means("λW, by Little's law"))
    time_inside_s: float = field(
        metadata=means("W: seconds from the moment a number is ready for the pool until its answer is accepted, on average")
    )
    p50_s: float = field(metadata=means("the median of these seconds"))
    p99_s: float = field(metadata=means("99 of 100 numbers took no longer than this"))


@with_fields
@dataclass(frozen=True, slots=True)
class OrderReport:
    """What order cost."""

    waited_s: float = field(default=0.0, metadata=means("seconds in which results waited for an earlier one"))
    held_most: int = field(default=0, metadata=means("how many results waited at once, at most"))
    head: str | None = field(default=None, metadata=means("the node that they mostly waited for"))


@with_fields
@dataclass(frozen=True, slots=True)
class ErrorReport:
    """What ended a run, as texts: for a program that reads the report of a run that it did not start."""

    type: str = field(metadata=means("the name of the error's type, such as `HandlerError`"))
    text: str = field(metadata=means("its text"))
    node: str | None = field(default=None, metadata=means("the node that failed, where it was one"))
    number: int | None = field(default=None, metadata=means("the number of the event that failed, where it was one"))
    index: int | None = field(default=None, metadata=means("which output of that number it was"))
    cause: str | None = field(default=None, metadata=means("the user's own exception, where there was one"))
    traceback: str = field(default="", metadata=means("where it was raised, in the worker if it was there"))


@with_fields
@dataclass(slots=True)
class RunReport:
    """What a run did; `print(report)` is for a person, `as_dict()` for a program.

    Each event read gets a number, its place in the order of reading, from 0 on.
    """

    graph: str = field(default="", metadata=means("the name of the graph"))
    runner: str = field(default="processes", metadata=means("how it was run"))
    events_in: int = field(default=0, metadata=means("events read"))
    events_out: int = field(default=0, metadata=means("events that reached the sinks, or the consumer"))
    filtered: int = field(default=0, metadata=means("events that a filter dropped"))
    skipped: int = field(default=0, metadata=means("events that failed under on_error='skip'"))
    unmatched: int = field(default=0, metadata=means("numbers that a zip left out, for a branch had nothing for them"))
    dead_letters: int = field(default=0, metadata=means("events that failed under on_error='dead_letter'"))
    retries: int = field(default=0, metadata=means("further attempts after a failed call"))
    late: int = field(
        default=0, metadata=means("events that came after their windows had closed, so that they are in none")
    )
    forgotten: int = field(default=0, metadata=means("keys that were idle for longer than their time to live"))
    keys: int = field(default=0, metadata=means("keys and open windows that have a state at the end"))
    worker_deaths: int = field(default=0, metadata=means("workers that died, or were killed at a time limit"))
    replayed: int = field(default=0, metadata=means("numbers that were handed out again because their worker died"))
    recalled: int = field(
        default=0,
        metadata=means("numbers that durable handlers had answered in an earlier run, counted for each of these handlers"),
    )
    restart_p50_s: float = field(
        default=0.0, metadata=means("median seconds from a worker's exit to its successor taking work")
    )
    restart_p99_s: float = field(default=0.0, metadata=means("the same for 99 of 100"))
    released: int = field(default=0, metadata=means("numbers whose results went to the sinks in their order"))
    in_flight: int = field(default=0, metadata=means("numbers that are read and not released"))
    in_caller: int = field(
        default=0, metadata=means("numbers that were handled in the calling process, without isolation")
    )
    placement: str = field(default="", metadata=means("without workers=: where events were handled, and why"))
    machines: dict[str, int] = field(
        default_factory=dict,
        metadata=means("on a cluster: numbers that the workers of each node have answered, counted for each pool"),
    )
    waits_for: str = field(default="", metadata=means("on a cluster: what workers that found no room wait for"))
    peak_bytes: int = field(default=0, metadata=means("the most bytes that were in flight at once"))
    wall_s: float = field(default=0.0, metadata=means("seconds from the beginning of the run"))
    ended_by: str = field(
        default="", metadata=means("source, limit, time_limit, stop, interrupt, closed or error; empty while it runs")
    )
    error: ErrorReport | None = field(default=None, metadata=means("what ended it, if it failed"))
    began_at: str = field(default="", metadata=means("when it began, as ISO 8601 in UTC"))
    ended_at: str = field(default="", metadata=means("when it ended; empty while it runs"))
    version: str = field(default="", metadata=means("the version of sluiceway"))
    host: str = field(default="", metadata=means("the name of the machine"))
    children: dict[str, str] = field(
        default_factory=dict, metadata=means("each process of the run that has exited, and how")
    )
    expected: int | None = field(
        default=None, metadata=means("how many events there will be, where the sources know; for files an estimate")
    )
    nodes: dict[str, NodeReport] = field(
        default_factory=dict, metadata=means("the figures of each handler by its name")
    )
    order: OrderReport = field(default_factory=OrderReport, metadata=means("what order cost"))

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain dicts, numbers and strings."""
        return asdict(self)

    @property
    def rate(self) -> float:
        """Events read per second."""
        return self.events_in / self.wall_s if self.wall_s else 0.0

    def __repr__(self) -> str:
        ended = f"ended by {self.ended_by}" if self.ended_by else "running"
        return f"<RunReport of {self.graph!r}: {ended}, {self.events_in:,} events in, {self.events_out:,} out>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Show the whole report as the last value of a cell (IPython's protocol)."""
        printer.text(str(self))

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
        if self.machines:
            shares = ", ".join(f"{count:,} on {name}" for name, count in sorted(self.machines.items()))
            lines.append(f"  numbers answered: {shares}")
        if self.waits_for:
            lines.append(f"  waiting for room in the cluster: {self.waits_for}")
        if self.placement:
            lines.append(f"  {self.placement}; {self.in_caller:,} events were handled in the calling process")
        if self.nodes:
            width = min(_WIDEST_NAME, max(_NARROWEST_NAME, *map(len, self.nodes)))
            lines.append(f"  {'node':<{width}}{_NODE_HEAD}")
            lines.extend(f"  {_shortened(name, width):<{width}}{_node_line(node)}" for name, node in self.nodes.items())
        if self.order.waited_s >= 0.005:
            lines.append(
                f"  order: results waited {self.order.waited_s:.2f} s in all, at most {self.order.held_most:,} at once,"
                f" mostly for {self.order.head}"
            )
        return "\n".join(lines)


    def _repr_html_(self) -> str:
        """Return the report as a table, for a notebook."""
        first, *_ = str(self).splitlines()
        counts = [f"{getattr(self, name):,} {name.replace('_', ' ')}" for name in _COUNTS if getattr(self, name)]
        lines = [escape(line) for line in (first, ", ".join(counts), self.placement) if line]
        if self.error is not None:
            lines.append(escape(f"{self.error.type}: {self.error.text}"))
        if self.order.waited_s >= 0.005:
            lines.append(escape(f"order: results waited {self.order.waited_s:.2f} s in all, mostly for {self.order.head}"))
        rows = "".join(_html_row(name, node) for name, node in self.nodes.items())
        table = f"<table><thead><tr>{_HTML_HEAD}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
        return f"<div><p>{'<br>'.join(lines)}</p>{table}</div>"


#: Counters that are printed where they are not 0.
_COUNTS = (
    "filtered", "skipped", "unmatched", "dead_letters", "retries", "late", "forgotten", "keys", "worker_deaths",
    "replayed", "recalled",
)  # fmt: skip
#: How wide the column of names may be, in characters.
_NARROWEST_NAME, _WIDEST_NAME = 20, 40
_NODE_HEAD = f" {'workers':>7} {'events':>11} {'offered/s':>11} {'per worker/s':>12} {'busy':>5} {'p50':>9} {'p99':>9}"


def _shortened(name: str, width: int) -> str:
    """Return a name that fits a column; a mark shows where it is cut."""
    return name if len(name) <= width else f"{name[: width - 1]}…"


_HTML_HEAD = "".join(f"<th>{name}</th>" for name in ("node", "workers", "events", "per worker/s", "busy", "p50", "p99"))


def _html_row(name: str, node: NodeReport) -> str:
    cells = (
        escape(name), f"{node.workers}", f"{node.events_in:,}", f"{node.service_rate:,.0f}", f"{node.busy:.0%}",
        _time(node.p50_s), _time(node.p99_s),
    )  # fmt: skip
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _node_line(node: NodeReport) -> str:
    return (
        f" {node.workers:>7} {node.events_in:>11,} {node.arrival_rate:>11,.0f}"
        f" {node.service_rate:>12,.0f} {node.busy:>5.0%} {_time(node.p50_s):>9} {_time(node.p99_s):>9}"
    )


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return "0"
