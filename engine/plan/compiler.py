"""The compiler: places the nodes of a graph into pools, the caller and source processes.

Decides which outputs become streams, where sources are read and where sinks are called, and joins the parts of a plan:
pools (`fusion`), keyed nodes (`key_expansion`), programs (`program_writer`). Does not know how anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from ...graphs.builder.checks import check_graph
from ...graphs.builder.spec import GraphSpec, Node
from ...nodes.program.hardware import Hardware
from ...nodes.program.kinds import NodeKind
from ...nodes.program.options import Options
from ...nodes.sources import is_source
from ..core.topology import SOURCE_STREAM, PoolWiring, Wiring
from .fusion import PoolDraft, fuse
from .key_expansion import ExpandedNodes, Expansion, is_stateful
from .plan import Outlet, Plan, PoolPlan, ProgramPlan, SinkPlan, SourcePlan
from .program_writer import origin_of, write_program


def compile_graph(
    graph: GraphSpec,
    *,
    workers: int,
    seats: Callable[[Hardware], int | None] = lambda hardware: hardware.seats,
    outlet: Node | None = None,
    outlet_ordered: bool = True,
    letters_outlet: Node | None = None,
) -> Plan:
    """Check a graph and place its nodes; raises `GraphError` for one that cannot run.

    `workers` is the number of workers of each pool whose nodes set none, unless `seats` gives one by what they need of a
    machine. `outlet` is a node whose events the caller
    consumes itself (`iterate`), as if it had a sink; `letters_outlet` likewise for dead letters.
    """
    nodes = check_graph(
        graph,
        outlets=[node for node in (outlet, letters_outlet) if node is not None],
        letters_read=letters_outlet is not None,
    )

    def count(options: Options) -> int:
        needed = options.hardware
        return options.workers or (needed is not None and seats(needed)) or workers

    outlets, free_id = (outlet, letters_outlet), len(graph.nodes)
    split = _Layout.of(ExpandedNodes(nodes, count), outlets, outlet_ordered, free_id)
    whole = _Layout.of(ExpandedNodes(nodes, None), outlets, outlet_ordered, free_id)
    drafts = fuse(split.nodes, count, split.expansions)
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


class _Layout(Struct):
    """The nodes of a plan after the expansion of the keyed ones, divided into those before and those behind the dead letters."""

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


def _streams(layout: _Layout, drafts: list[PoolDraft]) -> dict[Node, int]:
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
    drafts: list[PoolDraft], stream_of: dict[Node, int], joined: set[Node]
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
                durable=draft.needs.durable,
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
                draft.needs.hardware,
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
