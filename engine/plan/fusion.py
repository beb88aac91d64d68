"""Fusion: which handlers share a pool.

Decides that a handler joins the pool of the node before it if both have the same needs and no barrier is between them,
and that a durable one is alone in its pool, so that an answer of the pool is its own;
a join of streams that one worker has costs nothing; other joins are made where they are read. Does not know what else
is in a plan, nor how a step is written down.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field

from ...graphs.builder.spec import Node
from ...nodes.program.hardware import Hardware
from ...nodes.program.kinds import NodeKind
from .key_expansion import Expansion, WorkerCount
from .program_writer import origin_of


class _Needs(Struct, frozen=True):
    workers: int
    ordered: bool
    hardware: Hardware | None = None
    durable: str | None = None  #: the node that keeps its answers, which shares its pool with no other handler


class PoolDraft(Struct, eq=False):
    """A pool while it is put together."""

    needs: _Needs
    nodes: list[Node] = field(default_factory=list)
    barrier: bool = False
    why: str = ""
    part: tuple[int, int] | None = None  #: the index of its part of the keys, and the number of parts

    @property
    def name(self) -> str:
        """The name of the pool, from its nodes and its part."""
        name = "+".join(dict.fromkeys(node.name for node in self.shown))
        return name if self.part is None else f"{name} {self.part[0] + 1}/{self.part[1]}"

    @property
    def shown(self) -> list[Node]:
        """The nodes without those that only prepare others; a pool of nothing else, such as a clock, shows all."""
        return [node for node in self.nodes if not node.kind.traits.beside_key] or self.nodes


def fuse(nodes: Sequence[Node], workers: WorkerCount, keyed: dict[Node, Expansion]) -> list[PoolDraft]:
    """Put every handler into a pool: that of its producer where the needs are equal, else a new one.

    `workers` is the number of workers by the options of a node.
    """
    drafts: list[PoolDraft] = []
    home: dict[Node, PoolDraft | None] = {}
    by_source: dict[_Needs, PoolDraft] = {}
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
            # It reads the events in the pool where their keys are computed.
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
            needs = _Needs(1, True, node.options.hardware)
            home[node] = draft = PoolDraft(needs, [node], barrier=True, part=keyed[node].part_of(node))
            draft.why = "by key: each worker has a part of the keys, numbers in order"
            drafts.append(draft)
        elif node.kind.traits.built:
            home[node] = _pool_of(node, workers, home, drafts, by_source)
    return drafts


def _pool_of(
    node: Node,
    workers: WorkerCount,
    home: dict[Node, PoolDraft | None],
    drafts: list[PoolDraft],
    by_source: dict[_Needs, PoolDraft],
) -> PoolDraft:
    options = node.options
    needs = _Needs(
        1 if options.ordered else workers(options),
        options.ordered,
        options.hardware,
        node.name if options.durable else None,
    )
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
    draft = PoolDraft(needs, [node], barrier=fenced or options.ordered)
    if options.ordered:
        draft.why = node.kind.traits.why_ordered or "ordered=True: one worker, numbers in order"
    elif options.durable:
        draft.why = f"durable: its answers are kept beside the checkpoints; {needs.workers} workers on demand"
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
