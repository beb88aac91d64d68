"""The compiler: places the nodes of a graph into pools, the caller and source processes.

Decides what is fused: a handler joins the pool of the node before it when both have the same needs and no barrier
stands between; joins of streams that one worker has anyway cost nothing; other joins are made where they are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...graphs.builder.checks import check_graph
from ...graphs.builder.spec import GraphSpec, Node
from ...nodes.program.kinds import NodeKind
from ...nodes.program.program import Step, make_program
from ...nodes.sources import is_source
from ..core.topology import SOURCE_STREAM, PoolWiring, Wiring
from .key_expansion import Expansion, Keyed, stateful
from .plan import Outlet, Plan, PoolPlan, SinkPlan, SourcePlan
from .program_writer import Writer, letters_program, origin_of, tail_program, whole_program


def default_workers() -> int:
    """Give the number of cores this process may use."""
    import psutil  # here, because it takes a while to import; only who leaves the number of workers open needs it

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
        """What the pool is called: by its nodes, and by its part."""
        name = "+".join(dict.fromkeys(node.name for node in self.shown))
        return name if self.part is None else f"{name} {self.part[0] + 1}/{self.part[1]}"

    @property
    def shown(self) -> list[Node]:
        """The nodes without those that only prepare others; a clock stands alone."""
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

    `outlet` is a stream whose events the caller takes itself (`iterate`), as if a sink hung on it; `letters_outlet`
    likewise for dead letters.
    """
    nodes = check_graph(
        graph,
        outlets=[node for node in (outlet, letters_outlet) if node is not None],
        letters_read=letters_outlet is not None,
    )
    count = workers if workers is not None else default_workers()
    outlets = (outlet, letters_outlet)
    whole = _Ends.of(Keyed(nodes, None), outlets, outlet_ordered, len(graph.nodes))
    ends = _Ends.of(Keyed(nodes, count), outlets, outlet_ordered, len(graph.nodes))
    nodes, sinks, behind, letters_node = ends.nodes, ends.sinks, ends.behind, ends.letters
    drafts = _fuse([node for node in nodes if node not in behind], count, ends.keyed)
    sources = _sources(nodes)
    stream_of = _streams(nodes, sources, drafts, sinks, behind)
    joined: set[Node] = set()
    pools, wired = _pools(drafts, stream_of, joined)
    tail_sinks, loose_sinks = _split_sinks([s for s in sinks if s not in behind], stream_of)
    tail, tail_streams = tail_program(tail_sinks, stream_of, joined)
    letter_sinks = [s for s in sinks if s in behind]
    letters, letter_handlers = letters_program(letters_node, [n for n in nodes if n in behind], letter_sinks)
    sequence = next((node for node in nodes if node.kind is NodeKind.SEQUENCE), None)
    whole_sinks = [sink for sink in whole.sinks if sink not in whole.behind]
    whole_steps, whole_handlers = whole_program([n for n in whole.nodes if n not in whole.behind], whole_sinks)
    order: Any = "key" if sequence is not None and sequence.key is not None else sequence.order if sequence else "arrival"
    return Plan(
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
            needs_end=any(expansion.needs_end for expansion in ends.keyed.values()),
        ),
        tail=tail,
        tail_sinks=tail_sinks,
        loose_sinks=loose_sinks,
        letters=letters,
        letter_handlers=letter_handlers,
        letter_sinks=[SinkPlan(sink, True, None, "dead letters at their place, in order") for sink in letter_sinks],
        whole=whole_steps,
        whole_handlers=whole_handlers,
        whole_sinks=[SinkPlan(sink, False, None, "") for sink in whole_sinks],
    )


@dataclass(slots=True)
class _Ends:
    """The nodes of a plan with what was made of the keyed ones, its sinks, and what is behind the dead letters."""

    nodes: list[Node]
    sinks: list[Node]
    behind: set[Node]
    letters: Node | None
    keyed: dict[Node, Expansion]

    @staticmethod
    def of(made: Keyed, outlets: Sequence[Node | None], ordered: bool, free_id: int) -> _Ends:
        """Add the sinks of the consumer for the streams and dead letters it takes; `free_id` is a free id for those."""
        nodes = made.nodes
        letters = next((node for node in nodes if node.kind is NodeKind.LETTERS), None)
        behind = _behind(nodes, letters)
        sinks = [node for node in nodes if node.kind is NodeKind.SINK]
        for at, node in enumerate(outlets):
            if node is not None:
                node = made.now(node)
                out = Node(free_id + at, NodeKind.SINK, "results", (node,), Outlet(), ordered=ordered)
                sinks.append(out)
                if node in behind:
                    behind.add(out)
        return _Ends(nodes, sinks, behind, letters, made.expansions)


def _behind(nodes: Sequence[Node], letters: Node | None) -> set[Node]:
    behind: set[Node] = set()
    if letters is not None:
        behind.add(letters)
        for node in nodes:
            if any(given in behind for given in node.inputs):
                behind.add(node)
    return behind


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
            fenced = node.kind is NodeKind.GATHER or any(given.kind is NodeKind.BARRIER for given in node.inputs)
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
            home[node] = _place(node, workers, home, drafts, by_source)
    return drafts


_WHY_ORDERED = {
    NodeKind.CLOCK: "the watermark: one worker reads the times in order",
    NodeKind.SCAN: "a scan: one worker, numbers in order",
    NodeKind.STATE: "by key: one worker has all keys, numbers in order",
}


def _place(
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


def _streams(
    nodes: Sequence[Node], sources: list[SourcePlan], drafts: list[_Draft], sinks: list[Node], behind: set[Node]
) -> dict[Node, int]:
    """Number the streams: 0 is the sequencer's, then every output that is read outside its pool."""
    home = {node: draft for draft in drafts for node in draft.nodes}
    readers: dict[Node, set[int]] = {}
    for node in [*(n for n in nodes if n not in behind), *(s for s in sinks if s not in behind)]:
        for given in node.inputs:
            readers.setdefault(origin_of(given), set()).add(id(home.get(node)) if node in home else 0)
    streams: dict[Node, int] = {}
    for node in nodes:
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
        owned = {node: at for at, node in enumerate(draft.nodes)}
        writer = Writer(owned, stream_of, joined)
        for node in draft.nodes:
            writer.need_ports(node)
        steps: list[Step] = []
        count = [len(writer.port_streams)]
        for node in draft.nodes:
            inputs = tuple(writer.slot(given, steps, count) for given in node.inputs)
            writer.add(node, inputs, steps, count)
        exits = [node for node in draft.nodes if node in stream_of]
        slots = [writer.slot(node, steps, count) for node in exits]
        program = make_program(len(writer.port_streams), count[0], steps, slots)
        name = draft.name
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
                stateful=ordered and any(map(stateful, writer.handlers)),
            )
        )
        plans.append(
            PoolPlan(
                name,
                tuple(node.name for node in draft.shown),
                tuple(writer.handlers),
                draft.needs.workers,
                ordered,
                draft.barrier,
                tuple(writer.port_names),
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
            loose.append(SinkPlan(sink, False, stream_of[origin], "ordered=False: as answers arrive"))
        else:
            tail.append(SinkPlan(sink, False, None, "in order, on the thread that called run"))
    return tail, loose
