"""The compiler: places the nodes of a graph into pools, the caller and source processes.

Decides what is fused: a handler joins the pool of the node before it if both have the same needs and no barrier is
between them; a join of streams that one worker has costs nothing; other joins are made where they are read. Does not
know how a step is written down (`program_writer`), nor how anything runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...graphs.builder.checks import check_graph
from ...graphs.builder.spec import GraphSpec, Node
from ...nodes.program.kinds import NodeKind
from ...nodes.sources import is_source
from ..core.topology import SOURCE_STREAM, PoolWiring, Wiring
from .key_expansion import ExpandedNodes, Expansion, is_stateful
from .plan import Outlet, Plan, PoolPlan, ProgramPlan, SinkPlan, SourcePlan
from .program_writer import origin_of, write_program


def default_workers() -> int:
    """Give the number of cores this process may use."""
    import psutil  # imported here because it takes 10 ms; only runs without a given number of workers need it

    if hasattr(psutil.Process, "cpu_affinity"):  # Linux, Windows, FreeBSD
        return len(psutil.Process().cpu_affinity())
    return psutil.cpu_count() or 1


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
    part: tuple[int, int] | None = None  #: which of how many parts of the keys it has

    @property
    def name(self) -> str:
        """The name of the pool, from its nodes and its part."""
        name = "+".join(dict.fromkeys(node.name for node in self.shown))
        return name if self.part is None else f"{name} {self.part[0] + 1}/{self.part[1]}"

    @property
    def shown(self) -> list[Node]:
        """The nodes without those that only prepare others; a pool of nothing else, such as a clock, shows all."""
        return [node for node in self.nodes if not node.kind.traits.beside_key] or self.nodes


def compile_graph(
    graph: GraphSpec,
    *,
    workers: int | None = None,
    outlet: Node | None = None,
    outlet_ordered: bool = True,
    letters_outlet: Node | None = None,
) -> Plan:
    """Check a graph and place its nodes; raises `GraphError` for one that cannot run.

    `outlet` is a node whose events the caller consumes itself (`iterate`), as if it had a sink; `letters_outlet` likewise
    for dead letters.
    """
    nodes = check_graph(
        graph,
        outlets=[node for node in (outlet, letters_outlet) if node is not None],
        letters_read=letters_outlet is not None,
    )
    count = workers if workers is not None else default_workers()
    outlets, free_id = (outlet, letters_outlet), len(graph.nodes)
    split = _Layout.of(ExpandedNodes(nodes, count), outlets, outlet_ordered, free_id)
    whole = _Layout.of(ExpandedNodes(nodes, None), outlets, outlet_ordered, free_id)
    drafts = _fuse(split.nodes, count, split.expansions)
    stream_of = _streams(split, drafts)
    joined: set[Node] = set()
    pools, wired = _pools(drafts, stream_of, joined)
    tail_sinks, loose_sinks = _split_sinks(split.sinks, stream_of)
    tail = write_program([], [sink.node.inputs[0] for sink in tail_sinks], stream_of, joined)
    sources = _sources(split.nodes)
    order, key = _order(split.nodes)
    return Plan(
        name=graph.name,
        sources=sources,
        order=order,
        key=key,
        pools=pools,
        wiring=Wiring(
            tuple(wired),
            tuple(tail.port_streams),
            tuple(dict.fromkeys(sink.loose_stream for sink in loose_sinks if sink.loose_stream is not None)),
            tuple(source.remote for source in sources),
            order,
            needs_end=any(expansion.needs_end for expansion in split.expansions.values()),
        ),
        tail=ProgramPlan(tail.program, tail.handlers, tail_sinks),
        loose_sinks=loose_sinks,
        letters=_letters_program(split),
        whole=_whole_program(whole),
    )


@dataclass(slots=True)
class _Layout:
    """The nodes of a plan after the expansion of the keyed ones, parted into those before and behind the dead letters."""

    nodes: list[Node]
    sinks: list[Node]
    letters: Node | None
    letter_nodes: list[Node]
    letter_sinks: list[Node]
    expansions: dict[Node, Expansion]

    @staticmethod
    def of(expanded: ExpandedNodes, outlets: Sequence[Node | None], ordered: bool, free_id: int) -> _Layout:
        """Add a sink for each node of `outlets`, whose events the consumer reads; `free_id` is the first free id."""
        nodes = expanded.nodes
        letters = next((node for node in nodes if node.kind is NodeKind.LETTERS), None)
        behind = _behind(nodes, letters)
        sinks = [node for node in nodes if node.kind is NodeKind.SINK]
        for at, node in enumerate(outlets):
            if node is not None:
                node = expanded.replacement(node)
                out = Node(free_id + at, NodeKind.SINK, "results", (node,), Outlet(), ordered=ordered)
                sinks.append(out)
                if node in behind:
                    behind.add(out)
        return _Layout(
            [node for node in nodes if node not in behind],
            [sink for sink in sinks if sink not in behind],
            letters,
            [node for node in nodes if node in behind and node.kind.traits.has_handler],
            [sink for sink in sinks if sink in behind],
            expanded.expansions,
        )


def _behind(nodes: Sequence[Node], letters: Node | None) -> set[Node]:
    behind: set[Node] = set()
    if letters is not None:
        behind.add(letters)
        for node in nodes:
            if any(given in behind for given in node.inputs):
                behind.add(node)
    return behind


def _order(nodes: Sequence[Node]) -> tuple[Any, Any]:
    """Return the order in which events are numbered, and the key that decides it, if one does."""
    sequence = next((node for node in nodes if node.kind is NodeKind.SEQUENCE), None)
    if sequence is None:
        return "arrival", None
    return sequence.order if sequence.key is None else "key", sequence.key


def _letters_program(layout: _Layout) -> ProgramPlan | None:
    """Return what runs over the dead letters in the calling process, or `None` if nobody reads them."""
    if layout.letters is None or not layout.letter_sinks:
        return None
    exits = [sink.inputs[0] for sink in layout.letter_sinks]
    written = write_program(layout.letter_nodes, exits, {layout.letters: 0}, set())
    sinks = [SinkPlan(sink, None, "dead letters at their place, in order") for sink in layout.letter_sinks]
    return ProgramPlan(written.program, written.handlers, sinks)


def _whole_program(layout: _Layout) -> ProgramPlan:
    """Return the whole graph before the dead letters as one program, for a run in the calling process."""
    read = {node: SOURCE_STREAM for node in layout.nodes if node.kind in (NodeKind.SOURCE, NodeKind.SEQUENCE)}
    nodes = [
        node for node in layout.nodes if node not in read and node.kind not in (NodeKind.BARRIER, NodeKind.SINK)
    ]
    written = write_program(nodes, [sink.inputs[0] for sink in layout.sinks], read, set())
    return ProgramPlan(written.program, written.handlers, [SinkPlan(sink, None, "") for sink in layout.sinks])


def _fuse(nodes: Sequence[Node], workers: int, keyed: dict[Node, Expansion]) -> list[_Draft]:
    """Put every handler into a pool: that of its producer where the needs are equal, else a new one."""
    drafts: list[_Draft] = []
    home: dict[Node, _Draft | None] = {}
    by_source: dict[_Needs, _Draft] = {}
    for node in nodes:
        if node.kind in (NodeKind.SOURCE, NodeKind.SEQUENCE):
            home[node] = None
        elif node.kind.traits.joins:
            homes = {id(home.get(origin_of(given))): home.get(origin_of(given)) for given in node.inputs}
            fenced = node.kind is NodeKind.MERGE_PARTITIONS or any(given.kind is NodeKind.BARRIER for given in node.inputs)
            only = next(iter(homes.values())) if len(homes) == 1 else None
            if only is not None and not fenced:
                only.nodes.append(node)
                home[node] = only
            else:
                home[node] = None
        elif node.kind.traits.beside_key:
            # It looks at the events where their keys are.
            beside = home[keyed[node].key]
            assert beside is not None
            beside.nodes.append(node)
            home[node] = beside
        elif node.kind is NodeKind.STATE and keyed[node].parts == 1 and len(node.inputs) > 1:
            clock = home[node.inputs[1]]
            assert clock is not None
            clock.nodes.append(node)
            home[node] = clock
        elif node in keyed and keyed[node].parts > 1 and node.kind is not NodeKind.CLOCK:
            home[node] = draft = _Draft(_Needs(1, True), [node], barrier=True, part=keyed[node].part_of(node))
            draft.why = "by key: each worker has a part of the keys, numbers in order"
            drafts.append(draft)
        elif node.kind.traits.built:
            home[node] = _pool_of(node, workers, home, drafts, by_source)
    return drafts


_WHY_ORDERED = {
    NodeKind.CLOCK: "the watermark: one worker reads the times in order",
    NodeKind.SCAN: "a scan: one worker, numbers in order",
    NodeKind.STATE: "by key: one worker has all keys, numbers in order",
}


def _pool_of(
    node: Node, workers: int, home: dict[Node, _Draft | None], drafts: list[_Draft], by_source: dict[_Needs, _Draft]
) -> _Draft:
    options = node.options
    needs = _Needs(1 if options.ordered else options.workers or workers, options.ordered)
    given = node.inputs[0]
    origin, fenced = origin_of(given), given.kind is NodeKind.BARRIER
    before = home.get(origin)
    if not fenced and before is not None and before.needs == needs:
        before.nodes.append(node)
        return before
    from_source = origin.kind in (NodeKind.SOURCE, NodeKind.SEQUENCE)
    if not fenced and from_source and needs in by_source:
        by_source[needs].nodes.append(node)
        return by_source[needs]
    draft = _Draft(needs, [node], barrier=fenced or options.ordered)
    if options.ordered:
        draft.why = _WHY_ORDERED.get(node.kind, "ordered=True: one worker, numbers in order")
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
        if node.kind is not NodeKind.SOURCE:
            continue
        remote, why = False, "an iterable of the caller: read in a thread there"
        if getattr(node.subject, "in_caller", False):
            why = "standard input belongs to the caller: read in a thread there"
        elif is_source(node.subject) or callable(node.subject):
            remote, why = True, "a source of its own: read and packed in one process"
        plans.append(SourcePlan(node, remote, f"{why}; with checkpoint= journaled" if node.journal else why))
    return plans


def _streams(layout: _Layout, drafts: list[_Draft]) -> dict[Node, int]:
    """Number the streams: 0 is the sequencer's, then every output that is read outside its pool."""
    home = {node: draft for draft in drafts for node in draft.nodes}
    readers: dict[Node, set[int]] = {}
    for node in [*layout.nodes, *layout.sinks]:
        for given in node.inputs:
            readers.setdefault(origin_of(given), set()).add(id(home.get(node)) if node in home else 0)
    streams: dict[Node, int] = {}
    for node in layout.nodes:
        if node.kind in (NodeKind.SOURCE, NodeKind.SEQUENCE):
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
        exits = [node for node in draft.nodes if node in stream_of]
        written = write_program(draft.nodes, exits, stream_of, joined)
        name = draft.name
        ordered = draft.needs.ordered
        wired.append(
            PoolWiring(
                name,
                written.program,
                draft.needs.workers,
                ordered,
                tuple(written.port_streams),
                tuple(stream_of[node] for node in exits),
                in_order=draft.barrier,
                stateful=ordered and any(map(is_stateful, written.handlers)),
            )
        )
        plans.append(
            PoolPlan(
                name,
                tuple(node.name for node in draft.shown),
                tuple(written.handlers),
                draft.needs.workers,
                ordered,
                draft.barrier,
                tuple(written.port_names),
                draft.why,
                any(node.options.workers is not None for node in draft.nodes),
                draft.part,
            )
        )
    return plans, wired


def _split_sinks(sinks: list[Node], stream_of: dict[Node, int]) -> tuple[list[SinkPlan], list[SinkPlan]]:
    tail, loose = [], []
    for sink in sinks:
        origin = origin_of(sink.inputs[0])
        if not sink.ordered and origin in stream_of:
            loose.append(SinkPlan(sink, stream_of[origin], "ordered=False: as answers arrive"))
        else:
            tail.append(SinkPlan(sink, None, "in order, on the thread that called run"))
    return tail, loose
