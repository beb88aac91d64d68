"""Expands every node behind a `key_by` into parts of the keys, each with a state of its own.

Decides the shape: in the pool of the `key_by` the key (and time) of every event is computed once, and the events are
flattened for each part; each part is a worker of its own that sees the numbers in order; the outputs of the parts are
joined by number, index and rank. A clock reads the times in order and sends every part the watermark. With one part
nothing is split. Knows nothing of pools and streams.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ...graphs.builder.spec import Node, Windowing
from ...nodes.handlers import PerWorker, Recipe
from ...nodes.program.kinds import NodeKind
from ...nodes.program.options import Options
from ...nodes.state.folds import FoldRecipe
from ...nodes.state.key_steps import KeyRecipe, PartitionRecipe, TimeRecipe
from ...nodes.state.keys import MAX_PARTITIONS
from ...nodes.state.partitions import Partition, Record
from ...nodes.state.times import TimeScale
from ...nodes.state.watermark import ClockRecipe


class Expansion(Struct, eq=False):
    """What one keyed node became: `key` is the node that computes its keys, `states` are its parts."""

    key: Node
    parts: int
    states: list[Node]
    needs_end: bool

    def part_of(self, node: Node) -> tuple[int, int]:
        """Return the index of a state and the number of parts."""
        return self.states.index(node), self.parts


#: Returns the number of workers by the options of a node.
WorkerCount = Callable[[Options], int]


class ExpandedNodes:
    """The nodes of a graph, with those behind a `key_by` in as many parts as `workers` says, or in one (`None`).

    The graph's own nodes stay as they are.
    """

    def __init__(self, nodes: Sequence[Node], workers: WorkerCount | None) -> None:
        self.nodes: list[Node] = []
        #: Under every node that was made: what it belongs to.
        self.expansions: dict[Node, Expansion] = {}
        self._workers = workers
        self._replaced: dict[Node, Node] = {}
        for node in nodes:
            if node.kind.traits.keyed:
                self._replaced[node] = self._expand(node)
                continue
            inputs = tuple(map(self.replacement, node.inputs))
            if inputs != node.inputs:
                self._replaced[node] = node = replace(node, inputs=inputs)
            self.nodes.append(node)

    def replacement(self, node: Node) -> Node:
        """Return the node that replaces a node of the graph, or the node itself where nothing does."""
        return self._replaced.get(node, node)

    def _add(self, like: Node, kind: NodeKind, inputs: Sequence[Node], subject: Any = None, **more: Any) -> Node:
        node = Node(like.id, kind, like.name, tuple(inputs), subject, named=True, **more)
        self.nodes.append(node)
        return node

    def _expand(self, node: Node) -> Node:
        key = self.replacement(node.inputs[0])
        events = key.inputs[0]
        made = _PartRecipe(node, key)
        parts = 1 if self._workers is None else min(MAX_PARTITIONS, self._workers(node.options))
        expansion = Expansion(key, parts, [], made.needs_end)
        columns, before = [], len(self.nodes)
        if made.with_key:
            columns.append(key)
        clock: list[Node] = []
        if made.time is not None:
            time = self._add(node, NodeKind.TIME, [events], made.time)
            columns.append(time)
            clock.append(self._add(node, NodeKind.CLOCK, [time], made.clock, options=Options(ordered=True)))
        if made.with_event:
            columns.append(events)
        codes = [self._add(node, NodeKind.CODES, [key], PartitionRecipe(parts))] if parts > 1 else []
        for at in range(parts):
            part = self._add(node, NodeKind.PARTITION, [*codes, *columns], spec=Partition(at, parts))
            state = self._add(
                node, made.kind, [part, *clock], made.subject, options=made.options, spec=made.widths(len(columns))
            )
            expansion.states.append(state)
        gather = self._add(node, NodeKind.MERGE_PARTITIONS, expansion.states, spec=made.record)
        for each in self.nodes[before:]:
            self.expansions[each] = expansion
        return gather


class _PartRecipe:
    """What every part of one keyed node is made from."""

    def __init__(self, node: Node, key: Node) -> None:
        subject = node.subject
        ttl, time = key.subject.ttl, key.subject.time
        self.kind, self.options = NodeKind.STATE, Options(ordered=True)
        self.subject: Any = subject
        self.record = Record.PLAIN
        self.with_key = self.with_event = True
        self.needs_end = False
        self.time: TimeRecipe | None = None
        self.clock: ClockRecipe | None = None
        if isinstance(subject, Windowing):
            self.subject, self.record, self.needs_end = subject.recipe, Record.WINDOW, True
            self.with_event = subject.aggregate.kind != "count"
            self.time, self.clock = TimeRecipe(subject.time, subject.scale), subject.clock
        elif isinstance(subject, FoldRecipe):
            self.subject, self.record = subject, subject.record
            self.with_event = subject.kind != "count"
            self.needs_end = subject.final or ttl is not None
            if ttl is not None:
                scale = TimeScale.of_distance(ttl, bounds=False)
                self.subject = subject.with_ttl(scale.length(ttl))
                self.time, self.clock = TimeRecipe(time, scale), ClockRecipe(None)
        else:
            self.kind, self.options = NodeKind.MAP, dataclasses.replace(node.options, ordered=True, workers=None)
            self.with_key = False

    def widths(self, width: int) -> tuple[int, int] | None:
        """Return how many list items an event takes in the input and in the output of a state."""
        return (width, self.record.value) if self.kind is NodeKind.STATE else None


def widths(node: Node) -> tuple[int, int]:
    """Return how many list items an event takes in the first input and in the output of a node."""
    return node.spec if node.kind is NodeKind.STATE else (1, 1)


def is_stateful(handler: Any) -> bool:
    """Whether what is built from a handler can snapshot and restore its state, as far as its class shows."""
    if isinstance(handler, PerWorker):
        handler = handler.cls
    if isinstance(handler, Recipe):
        return not isinstance(handler, KeyRecipe | TimeRecipe | PartitionRecipe)
    return callable(getattr(handler, "snapshot", None)) and callable(getattr(handler, "restore", None))
