"""Programs: the steps of a pool, of the caller's tail, of the dead letters and of the whole graph, written as plain data.

Decides which slot every step reads and writes, and that joins of several pools are made where they are read. What
belongs together is decided by the compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...graphs.builder.spec import Node
from ...nodes.handlers import is_async
from ...nodes.program.kinds import NodeKind
from ...nodes.program.program import Program, Step, make_program
from ..core.topology import SOURCE_STREAM
from .key_expansion import widths
from .plan import SinkPlan


def origin_of(node: Node) -> Node:
    """Look through barriers and the sequence to the node that makes the events."""
    while node.kind is NodeKind.BARRIER:
        node = node.inputs[0]
    return node


class Writer:
    """Writes one program: gives slots to ports, joins and handlers as they are needed."""

    def __init__(self, owned: dict[Node, int], stream_of: dict[Node, int], joined: set[Node]) -> None:
        self._owned = owned
        self._joined = joined  #: the joins that some program of this plan makes already
        self._stream_of = stream_of
        self._slots: dict[Node, int] = {}
        self._port_slots: dict[int, int] = {}
        self.port_streams: list[int] = []
        self.port_names: list[str] = []
        self.handlers: list[Any] = []  #: one for each step, `None` for joins

    def need_ports(self, node: Node) -> None:
        """Note every stream that `node` reads from outside, through joins that are made here."""
        for given in node.inputs:
            origin = origin_of(given)
            if origin in self._owned:
                continue
            if origin.kind.traits.joins and origin not in self._stream_of:
                self.need_ports(origin)
                continue
            stream = self._stream_of[origin]
            if stream not in self._port_slots:
                self._port_slots[stream] = len(self.port_streams)
                self.port_streams.append(stream)
                self.port_names.append("sequencer" if stream == SOURCE_STREAM else origin.name)

    def slot(self, given: Node, steps: list[Step], count: list[int]) -> int:
        """Give the slot that holds a stream, writing joins on the way."""
        origin = origin_of(given)
        if origin in self._slots:
            return self._slots[origin]
        if origin not in self._owned and origin in self._stream_of:
            return self._port_slots[self._stream_of[origin]]
        assert origin.kind.traits.joins, f"stream of {origin.name} is not at hand"
        inputs = tuple(self.slot(each, steps, count) for each in origin.inputs)
        return self.add(origin, inputs, steps, count)

    def add(self, node: Node, inputs: tuple[int, ...], steps: list[Step], count: list[int]) -> int:
        """Write one step and give its output slot."""
        output = count[0]
        count[0] += 1
        steps.append(make_step(node, inputs, output, counted=node not in self._joined))
        self.handlers.append(node.subject if node.kind.traits.built else None)
        if node.kind.traits.joins:
            self._joined.add(node)
        self._slots[node] = output
        return output


def tail_program(
    sinks: list[SinkPlan], stream_of: dict[Node, int], joined: set[Node]
) -> tuple[Program, list[int]]:
    """Write the program of the caller: joins before sinks, one exit per sink; no user code."""
    writer = Writer({}, stream_of, joined)
    for sink in sinks:
        writer.need_ports(sink.node)
    steps: list[Step] = []
    count = [len(writer.port_streams)]
    exits = [writer.slot(sink.node.inputs[0], steps, count) for sink in sinks]
    return make_program(len(writer.port_streams), count[0], steps, exits), writer.port_streams


def letters_program(node: Node | None, behind: list[Node], sinks: list[Node]) -> tuple[Program | None, list[Any]]:
    if node is None or not sinks:
        return None, []
    steps: list[Step] = []
    handlers = []
    slots = {node: 0}
    for handler in behind:
        if handler.kind.traits.has_handler:
            slots[handler] = len(steps) + 1
            steps.append(make_step(handler, (slots[origin_of(handler.inputs[0])],), slots[handler]))
            handlers.append(handler.subject)
    exits = [slots[origin_of(sink.inputs[0])] for sink in sinks]
    return make_program(1, len(steps) + 1, steps, exits), handlers


def whole_program(
    nodes: Sequence[Node], sinks: Sequence[Node]
) -> tuple[Program, list[Any]]:
    """Write the whole graph as one program with an exit for each sink; gives it with its handlers."""
    steps: list[Step] = []
    handlers: list[Any] = []
    slots: dict[Node, int] = {}
    for node in nodes:
        if node.kind in (NodeKind.SOURCE, NodeKind.SEQUENCE):
            slots[node] = 0
        elif node.kind is not NodeKind.BARRIER and node.kind is not NodeKind.SINK:
            inputs = tuple(slots[origin_of(given)] for given in node.inputs)
            slots[node] = len(steps) + 1
            steps.append(make_step(node, inputs, slots[node]))
            handlers.append(node.subject if node.kind.traits.built else None)
    program = make_program(1, len(steps) + 1, steps, [slots[origin_of(sink.inputs[0])] for sink in sinks])
    return program, handlers


def make_step(node: Node, inputs: tuple[int, ...], output: int, *, counted: bool = True) -> Step:
    """Return the step of a node, with its options as they are."""
    width, width_out = widths(node)
    return Step(
        kind=node.kind,
        node=node.name,
        node_id=node.id,
        inputs=inputs,
        output=output,
        options=node.options,
        is_async=node.kind.traits.has_handler and is_async(node.subject),
        counted=counted,
        width=width,
        width_out=width_out,
        spec=node.spec,
    )
