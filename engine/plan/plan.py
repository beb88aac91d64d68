"""The plan of a run: which nodes run in which process, which streams join them, and why.

Plain data that the compiler writes; printing it is a table, `mermaid` a picture. It decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from ...graphs.builder.spec import Node
from ...nodes.ordering.sequencer import Order
from ...nodes.program.hardware import Hardware
from ...nodes.program.program import Program
from ...nodes.sinks import checks_lock, delivery_of
from ..core.topology import SOURCE_STREAM, Wiring
from .picture import End, Picture
from .svg import svg_of


class Outlet:
    """The sink of a stream that `iterate` consumes: its events are yielded instead of written."""


class PoolPlan(Struct, frozen=True):
    """One pool of workers: the fused nodes, their handlers (one per step, `None` for joins) and the reason."""

    name: str
    nodes: tuple[str, ...]
    handlers: tuple[Any, ...]
    workers: int
    ordered: bool
    barrier: bool
    reads: tuple[str, ...]
    why: str
    explicit: bool = False  #: whether a node of it asks for a number of workers
    part: tuple[int, int] | None = None  #: the index of its part of the keys, and the number of parts
    hardware: Hardware | None = None  #: what each of its workers needs of a machine


class SourcePlan(Struct, frozen=True):
    """One source; `remote` says whether it has a process of its own."""

    node: Node
    remote: bool
    why: str


class SinkPlan(Struct, frozen=True):
    """One sink; `loose_stream` is the stream that one with `ordered=False` reads as answers arrive."""

    node: Node
    loose_stream: int | None
    why: str


class ProgramPlan(Struct, frozen=True):
    """A program for the calling process: its handlers, one for each step (`None` for joins), and the sinks of its exits."""

    program: Program
    handlers: list[Any]
    sinks: list[SinkPlan]


@dataclass(slots=True)
class Plan:
    """Everything a runner needs to carry a graph out; `print(plan)` explains it."""

    name: str
    sources: list[SourcePlan]
    order: Order
    key: Any
    pools: list[PoolPlan]
    wiring: Wiring
    #: The joins and sinks behind all pools.
    tail: ProgramPlan
    loose_sinks: list[SinkPlan]
    #: What runs over the dead letters; `None` if nobody reads them.
    letters: ProgramPlan | None
    #: The whole graph, for a run in the calling process.
    whole: ProgramPlan
    shipped: dict[str, bytes] = field(default_factory=dict)
    #: How the processes beside the caller are joined, as the backend describes it; "" where none is chosen.
    joined_by: str = ""

    @property
    def letter_sinks(self) -> list[SinkPlan]:
        """The sinks of the dead letters."""
        return [] if self.letters is None else self.letters.sinks

    @property
    def sinks(self) -> list[SinkPlan]:
        """All sinks: those in order, those as answers arrive, those of the dead letters."""
        return [*self.tail.sinks, *self.loose_sinks, *self.letter_sinks]

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return a row (process, nodes, reads, why) for every source, pool and sink, the sequencer and the barrier."""
        rows = []
        for source in self.sources:
            place = f"source {source.node.name}" if source.remote else "caller"
            rows.append((place, source.node.name, "-", source.why))
        reads = ", ".join(source.node.name for source in self.sources)
        rows.append(("caller", "sequencer", reads, f"one global order, by {self.order}; hands out runs on demand"))
        for pool in self.pools:
            place = f"pool {pool.name} x {pool.workers}"
            if pool.part is not None:
                at, parts = pool.part
                if at:
                    continue  # the parts differ by their keys only
                place = f"pools {'+'.join(pool.nodes)} x {parts}"
            rows.append((place, ", ".join(pool.nodes), ", ".join(pool.reads), pool.why))
        rows.append(("caller", "barrier", "every pool", "releases in order, once every branch has answered"))
        for sink in self.sinks:
            rows.append(("caller", sink.node.name, sink.node.inputs[0].name, sink.why))
        return rows

    @property
    def commits(self) -> bool:
        """Whether sinks are told to commit while the run goes on: a sink or a source asks for it."""
        asking = [getattr(sink.node.subject, "commits", False) for sink in self.sinks]
        asking += [getattr(source.node.subject, "acknowledges", False) for source in self.sources]
        return any(asking)

    @property
    def processes(self) -> int:
        """How many processes run beside the caller: sources and workers, without the one that starts them."""
        return sum(source.remote for source in self.sources) + sum(pool.workers for pool in self.pools)

    def __repr__(self) -> str:
        return f"<Plan of {self.name!r}: {self.processes} processes beside the caller>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Show the whole plan as the last value of a cell (IPython's protocol)."""
        printer.text(str(self))

    def __str__(self) -> str:
        head = ("process", "nodes", "reads", "why")
        rows = [head, *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [f"plan of {self.name!r}: {self.processes} processes beside the caller"]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
            lines.append("  ".join([*cells, row[3]]).rstrip())
        lines.append("")
        if self.joined_by:
            lines.append(self.joined_by)
        timed = [step.node for step in self.whole.program.steps if step.options.timeout_s is not None and not step.is_async]
        if timed:
            lines.append(f"timeout_s of {', '.join(timed)}: kept in processes; runner='inline' waits for plain calls")
        lines += self._promises()
        return "\n".join(lines)

    def _promises(self) -> list[str]:
        """Return lines that say what each sink can rely on in runs with checkpoints or a lock."""
        promises: dict[str, list[str]] = {}
        sure = []
        for sink in self.sinks:
            if isinstance(sink.node.subject, Outlet):
                continue
            delivery = delivery_of(sink.node.subject, ordered=sink.loose_stream is None)
            promises.setdefault(delivery, []).append(sink.node.name)
            if checks_lock(sink.node.subject):
                sure.append(sink.node.name)
        if not promises:
            return []
        texts = [f"{delivery} to {', '.join(names)}" for delivery, names in sorted(promises.items(), reverse=True)]
        inside = f"inside the transactions of {', '.join(sure)}; " if sure else ""
        rest = "best effort for the others" if sure else "best effort"
        return [f"with checkpoint=: {'; '.join(texts)}", f"with lock=: checked before every commit, {inside}{rest}"]

    def mermaid(self) -> str:
        """Return the plan as a Mermaid flow chart: every node, in the process that runs it, and what it reads."""
        return self.picture().text()

    def _repr_html_(self) -> str:
        """Return the plan as a drawing, for a notebook."""
        return svg_of(self.picture().drawing())

    def picture(self) -> Picture:
        """Return the plan as a flow chart: every node, in the process that runs it, and what it reads."""
        picture = Picture(self.name)
        picture.add_group("caller", "calling process")
        picture.add_box("sequencer", "sequencer", group="caller", shape=("([", "])"))
        picture.add_box("barrier", "barrier", group="caller", shape=("([", "])"))
        for source in self.sources:
            box = f"n{source.node.id}"
            picture.add_box(box, source.node.name, group="" if source.remote else "caller")
            picture.add_arrow(End(box), "sequencer")
        produced = {SOURCE_STREAM: End("sequencer")}
        for at, (pool, wired) in enumerate(zip(self.pools, self.wiring.pools, strict=True)):
            group = f"pool{at if pool.part is None else at - pool.part[0]}"  # one frame for all parts
            by_key = "" if pool.part is None else ", by key"
            workers = pool.workers if pool.part is None else pool.part[1]
            picture.add_group(group, f"x {workers}{by_key}")
            exits = picture.add_program(wired.program, [produced[stream] for stream in wired.ports], group)
            produced.update(zip(wired.exits, exits, strict=True))
        released = [produced[stream] for stream in self.wiring.tail]
        for end in released:
            picture.add_arrow(end, "barrier")
        behind = [End("barrier", picture.name_of(end)) for end in released]
        self._draw_sinks(picture, self.tail, behind)
        if self.letters is not None:
            self._draw_sinks(picture, self.letters, [End("barrier", "dead letters")])
        for sink in self.loose_sinks:
            assert sink.loose_stream is not None
            picture.add_box(f"n{sink.node.id}", sink.node.name, group="caller", shape=_SINK)
            picture.add_arrow(produced[sink.loose_stream], f"n{sink.node.id}", dotted=True)
        return picture

    @staticmethod
    def _draw_sinks(picture: Picture, planned: ProgramPlan, ports: list[End]) -> None:
        """Draw the steps that the caller runs behind the barrier, and the sinks of their exits."""
        ends = picture.add_program(planned.program, ports, "caller")
        for sink, end in zip(planned.sinks, ends, strict=True):
            picture.add_box(f"n{sink.node.id}", sink.node.name, group="caller", shape=_SINK)
            picture.add_arrow(end, f"n{sink.node.id}")


_SINK = ("[(", ")]")
