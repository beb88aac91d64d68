"""The compiler: places the nodes of a graph into pools, the caller and source processes.

Decides what is fused: a handler joins the pool of the node before it when both have the same needs and no barrier
stands between; joins of streams that one worker has anyway cost nothing; other joins are made where they are read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..graphs.checks import check_graph
from ..graphs.graph import Graph
from ..graphs.spec import HANDLERS, Kind, Node
from ..nodes.events import OnError
from ..nodes.handlers import is_async
from ..nodes.program import Op, Program, Step, make_program
from ..nodes.sources import is_source
from .plan import Outlet, Plan, PoolPlan, SinkPlan, SourcePlan
from .wiring import SOURCE_STREAM, PoolWiring, Wiring

_JOINS = {Kind.ZIP: Op.ZIP, Kind.MERGE: Op.MERGE}


def default_workers() -> int:
    """Give the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class _Needs:
    workers: int
    ordered: bool


@dataclass(eq=False, slots=True)
class _Draft:
    """A pool while it is put together."""

    needs: _Needs
    nodes: list[Node] = field(default_factory=list)
    barrier: bool = False
    why: str = ""


class _Writer:
    """Writes one program: gives slots to ports, joins and handlers as they are needed."""

    def __init__(self, owned: dict[Node, int], stream_of: dict[Node, int], joined: set[Node]) -> None:
        self._owned = owned
        self._joined = joined  #: the joins that some program of this plan makes already
        self._stream_of = stream_of
        self._slots: dict[Node, int] = {}
        self._port_slots: dict[int, int] = {}
        self.port_streams: list[int] = []
        self.port_names: list[str] = []

    def need_ports(self, node: Node) -> None:
        """Note every stream that `node` reads from outside, through joins that are made here."""
        for given in node.inputs:
            origin = _origin(given)
            if origin in self._owned:
                continue
            if origin.kind in _JOINS and origin not in self._stream_of:
                self.need_ports(origin)
                continue
            stream = self._stream_of[origin]
            if stream not in self._port_slots:
                self._port_slots[stream] = len(self.port_streams)
                self.port_streams.append(stream)
                self.port_names.append("sequencer" if stream == SOURCE_STREAM else origin.name)

    def slot(self, given: Node, steps: list[Step], count: list[int]) -> int:
        """Give the slot that holds a stream, writing joins on the way."""
        origin = _origin(given)
        if origin in self._slots:
            return self._slots[origin]
        if origin not in self._owned and origin in self._stream_of:
            return self._port_slots[self._stream_of[origin]]
        assert origin.kind in _JOINS, f"stream of {origin.name} is not at hand"
        inputs = tuple(self.slot(each, steps, count) for each in origin.inputs)
        return self.add(origin, inputs, steps, count)

    def add(self, node: Node, inputs: tuple[int, ...], steps: list[Step], count: list[int]) -> int:
        """Write one step and give its output slot."""
        output = count[0]
        count[0] += 1
        steps.append(_step(node, inputs, output, counted=node not in self._joined))
        if node.kind in _JOINS:
            self._joined.add(node)
        self._slots[node] = output
        return output


def compile_graph(
    graph: Graph,
    *,
    workers: int | None = None,
    outlet: Node | None = None,
    outlet_ordered: bool = True,
    letters_outlet: Node | None = None,
) -> Plan:
    """Check a graph and place its nodes; raises `GraphError` for one that cannot run.

    `outlet` is a stream whose events the caller takes itself (`iterate`), as if a sink hung on it; `letters_outlet`
    likewise for dead letters.
    """
    nodes = check_graph(
        graph,
        outlets=[node for node in (outlet, letters_outlet) if node is not None],
        letters_read=letters_outlet is not None,
    )
    letters_node = next((node for node in nodes if node.kind is Kind.LETTERS), None)
    behind = _behind(nodes, letters_node)
    sinks = [node for node in nodes if node.kind is Kind.SINK]
    for at, given in enumerate((outlet, letters_outlet)):
        if given is not None:
            id_ = len(graph.nodes) + at
            out = Node(id_, Kind.SINK, "results", (given,), Outlet(), ordered=outlet_ordered)
            sinks.append(out)
            if given in behind:
                behind.add(out)
    count = workers if workers is not None else default_workers()
    drafts = _fuse([node for node in nodes if node not in behind], count)
    sources = _sources(nodes)
    stream_of = _streams(nodes, sources, drafts, sinks, behind)
    joined: set[Node] = set()
    pools, wired = _pools(drafts, stream_of, joined)
    tail_sinks, loose_sinks = _split_sinks([s for s in sinks if s not in behind], stream_of)
    tail, tail_streams = _tail(tail_sinks, stream_of, joined)
    letter_sinks = [s for s in sinks if s in behind]
    letters, letter_handlers = _letters(letters_node, [n for n in nodes if n in behind], letter_sinks)
    sequence = next((node for node in nodes if node.kind is Kind.SEQUENCE), None)
    order: Any = "key" if sequence is not None and sequence.key is not None else sequence.order if sequence else "arrival"
    plan = Plan(
        name=graph.name,
        sources=sources,
        order=order,
        key=sequence.key if sequence is not None else None,
        pools=pools,
        wiring=Wiring(
            tuple(wired),
            tuple(tail_streams),
            tuple(dict.fromkeys(sink.loose_stream for sink in loose_sinks if sink.loose_stream is not None)),
            tuple(source.remote for source in sources),
            order,
        ),
        tail=tail,
        tail_sinks=tail_sinks,
        loose_sinks=loose_sinks,
        letters=letters,
        letter_handlers=letter_handlers,
        letter_sinks=[SinkPlan(sink, True, None, "dead letters at their place, in order") for sink in letter_sinks],
        whole=Program(1, 1, (), ()),
        whole_handlers=[],
    )
    _whole(plan, [n for n in nodes if n not in behind], [s for s in sinks if s not in behind])
    return plan


def _origin(node: Node) -> Node:
    """Look through barriers and the sequence to the node that makes the events."""
    while node.kind is Kind.BARRIER:
        node = node.inputs[0]
    return node


def _behind(nodes: Sequence[Node], letters: Node | None) -> set[Node]:
    behind: set[Node] = set()
    if letters is not None:
        behind.add(letters)
        for node in nodes:
            if any(given in behind for given in node.inputs):
                behind.add(node)
    return behind


def _fuse(nodes: Sequence[Node], workers: int) -> list[_Draft]:
    """Put every handler into a pool: that of its producer where the needs are equal, else a new one."""
    drafts: list[_Draft] = []
    home: dict[Node, _Draft | None] = {}
    by_source: dict[_Needs, _Draft] = {}
    for node in nodes:
        if node.kind in (Kind.SOURCE, Kind.SEQUENCE):
            home[node] = None
        elif node.kind in _JOINS:
            homes = {id(home.get(_origin(given))): home.get(_origin(given)) for given in node.inputs}
            fenced = any(given.kind is Kind.BARRIER for given in node.inputs)
            only = next(iter(homes.values())) if len(homes) == 1 else None
            if only is not None and not fenced:
                only.nodes.append(node)
                home[node] = only
            else:
                home[node] = None
        elif node.kind in HANDLERS:
            home[node] = _place(node, workers, home, drafts, by_source)
    return drafts


def _place(
    node: Node, workers: int, home: dict[Node, _Draft | None], drafts: list[_Draft], by_source: dict[_Needs, _Draft]
) -> _Draft:
    options = node.options
    needs = _Needs(1 if options.ordered else options.workers or workers, options.ordered)
    given = node.inputs[0]
    origin, fenced = _origin(given), given.kind is Kind.BARRIER
    before = home.get(origin)
    if not fenced and before is not None and before.needs == needs:
        before.nodes.append(node)
        return before
    from_source = origin.kind in (Kind.SOURCE, Kind.SEQUENCE)
    if not fenced and from_source and needs in by_source:
        by_source[needs].nodes.append(node)
        return by_source[needs]
    draft = _Draft(needs, [node], barrier=fenced or options.ordered)
    if options.ordered:
        draft.why = "ordered=True: one worker, numbers in order"
    elif fenced:
        draft.why = f"behind a barrier: numbers arrive in order at {needs.workers} workers"
    elif from_source:
        draft.why = f"first handlers: {needs.workers} workers on demand"
    elif before is not None:
        draft.why = "other workers= or ordered= than the node before"
    else:
        draft.why = "behind a join of several pools"
    drafts.append(draft)
    if from_source and not fenced:
        by_source[needs] = draft
    return draft


def _sources(nodes: Sequence[Node]) -> list[SourcePlan]:
    plans = []
    for node in nodes:
        if node.kind is not Kind.SOURCE:
            continue
        if getattr(node.subject, "in_caller", False):
            plans.append(SourcePlan(node, False, "standard input belongs to the caller: read in a thread there"))
        elif is_source(node.subject) or callable(node.subject):
            plans.append(SourcePlan(node, True, "a source of its own: read and packed in one process"))
        else:
            plans.append(SourcePlan(node, False, "an iterable of the caller: read in a thread there"))
    return plans


def _streams(
    nodes: Sequence[Node], sources: list[SourcePlan], drafts: list[_Draft], sinks: list[Node], behind: set[Node]
) -> dict[Node, int]:
    """Number the streams: 0 is the sequencer's, then every output that is read outside its pool."""
    home = {node: draft for draft in drafts for node in draft.nodes}
    readers: dict[Node, set[int]] = {}
    for node in [*(n for n in nodes if n not in behind), *(s for s in sinks if s not in behind)]:
        for given in node.inputs:
            readers.setdefault(_origin(given), set()).add(id(home.get(node)) if node in home else 0)
    streams: dict[Node, int] = {}
    for node in nodes:
        if node.kind in (Kind.SOURCE, Kind.SEQUENCE):
            streams[node] = SOURCE_STREAM
    for draft in drafts:
        for node in draft.nodes:
            if any(reader != id(draft) for reader in readers.get(node, set())):
                streams[node] = max(streams.values(), default=0) + 1
    return streams


def _pools(
    drafts: list[_Draft], stream_of: dict[Node, int], joined: set[Node]
) -> tuple[list[PoolPlan], list[PoolWiring]]:
    plans, wired = [], []
    for draft in drafts:
        owned = {node: at for at, node in enumerate(draft.nodes)}
        writer = _Writer(owned, stream_of, joined)
        for node in draft.nodes:
            writer.need_ports(node)
        steps: list[Step] = []
        count = [len(writer.port_streams)]
        for node in draft.nodes:
            inputs = tuple(writer.slot(given, steps, count) for given in node.inputs)
            writer.add(node, inputs, steps, count)
        subjects = {node.id: node.subject for node in draft.nodes if node.kind in HANDLERS}
        handlers = [subjects.get(step.node_id) for step in steps]
        exits = [node for node in draft.nodes if node in stream_of]
        slots = {step.node_id: step.output for step in steps}
        program = make_program(len(writer.port_streams), count[0], steps, [slots[node.id] for node in exits])
        name = "+".join(node.name for node in draft.nodes)
        ordered = draft.needs.ordered
        wired.append(
            PoolWiring(
                name,
                program,
                draft.needs.workers,
                ordered,
                tuple(writer.port_streams),
                tuple(stream_of[node] for node in exits),
                in_order=draft.barrier,
            )
        )
        plans.append(
            PoolPlan(
                name,
                tuple(node.name for node in draft.nodes),
                tuple(handlers),
                draft.needs.workers,
                ordered,
                draft.barrier,
                tuple(writer.port_names),
                draft.why,
                any(node.options.workers is not None for node in draft.nodes),
            )
        )
    return plans, wired


def _split_sinks(sinks: list[Node], stream_of: dict[Node, int]) -> tuple[list[SinkPlan], list[SinkPlan]]:
    tail, loose = [], []
    for sink in sinks:
        origin = _origin(sink.inputs[0])
        if not sink.ordered and origin in stream_of:
            loose.append(SinkPlan(sink, False, stream_of[origin], "ordered=False: as answers arrive"))
        else:
            tail.append(SinkPlan(sink, False, None, "in order, on the thread that called run"))
    return tail, loose


def _tail(
    sinks: list[SinkPlan], stream_of: dict[Node, int], joined: set[Node]
) -> tuple[Program, list[int]]:
    """Write the program of the caller: joins before sinks, one exit per sink; no user code."""
    writer = _Writer({}, stream_of, joined)
    for sink in sinks:
        writer.need_ports(sink.node)
    steps: list[Step] = []
    count = [len(writer.port_streams)]
    exits = [writer.slot(sink.node.inputs[0], steps, count) for sink in sinks]
    return make_program(len(writer.port_streams), count[0], steps, exits), writer.port_streams


def _letters(node: Node | None, behind: list[Node], sinks: list[Node]) -> tuple[Program | None, list[Any]]:
    if node is None or not sinks:
        return None, []
    steps: list[Step] = []
    handlers = []
    slots = {node: 0}
    for handler in behind:
        if handler.kind in HANDLERS:
            slots[handler] = len(steps) + 1
            steps.append(_step(handler, (slots[_origin(handler.inputs[0])],), slots[handler]))
            handlers.append(handler.subject)
    exits = [slots[_origin(sink.inputs[0])] for sink in sinks]
    return make_program(1, len(steps) + 1, steps, exits), handlers


def _whole(plan: Plan, nodes: list[Node], sinks: list[Node]) -> None:
    """Write the whole graph as one program, for the inline runner; unordered sinks get their exits last."""
    steps: list[Step] = []
    handlers: list[Any] = []
    slots: dict[Node, int] = {}
    for node in nodes:
        if node.kind in (Kind.SOURCE, Kind.SEQUENCE):
            slots[node] = 0
        elif node.kind in HANDLERS or node.kind in _JOINS:
            inputs = tuple(slots[_origin(given)] for given in node.inputs)
            slots[node] = len(steps) + 1
            steps.append(_step(node, inputs, slots[node]))
            handlers.append(node.subject if node.kind in HANDLERS else None)
    plan.whole = make_program(1, len(steps) + 1, steps, [slots[_origin(sink.inputs[0])] for sink in sinks])
    plan.whole_handlers = handlers
    plan.whole_sinks = [SinkPlan(sink, False, None, "") for sink in sinks]


def _step(node: Node, inputs: tuple[int, ...], output: int, *, counted: bool = True) -> Step:
    op = Op(node.kind.value)
    if node.kind in _JOINS:
        return Step(op=op, node=node.name, node_id=node.id, inputs=inputs, output=output, counted=counted)
    options = node.options
    on_error: OnError = options.on_error
    return Step(
        op=op,
        node=node.name,
        node_id=node.id,
        inputs=inputs,
        output=output,
        retries=options.retries,
        backoff_s=options.backoff_s,
        timeout_s=options.timeout_s,
        concurrency=options.concurrency,
        on_error=on_error,
        batch_size=options.batch_size,
        is_async=is_async(node.subject),
    )
