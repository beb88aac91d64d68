"""Writes programs as plain data: the steps of a pool, of the caller's tail, of the dead letters, of the whole graph.

Decides which slot every step reads and writes, and that a join of several pools is made where it is read. Which nodes
belong together is decided by the compiler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from ...graphs.builder.spec import Node
from ...nodes.handlers import is_async
from ...nodes.program.kinds import NodeKind
from ...nodes.program.program import Program, Step, make_program
from ..core.topology import SOURCE_STREAM
from .key_expansion import widths


def origin_of(node: Node) -> Node:
    """Return the node that makes the events of a stream: barriers only pass them on."""
    while node.kind is NodeKind.BARRIER:
        node = node.inputs[0]
    return node


class WrittenProgram(Struct, frozen=True):
    """A program with the handler of each step (`None` for joins) and the streams that its ports read."""

    program: Program
    handlers: list[Any]
    port_streams: list[int]
    port_names: list[str]


def write_program(
    nodes: Sequence[Node], exits: Sequence[Node], stream_of: Mapping[Node, int], joined: set[Node]
) -> WrittenProgram:
    """Write the steps of `nodes` in their order, and before them or the exits the joins that these read.

    `exits` are the nodes whose outputs leave the program, `stream_of` numbers the streams that come from outside.
    `joined` holds the joins that another program of the plan makes and counts; those made here are added.
    """
    writer = _Writer(nodes, stream_of, joined)
    for given in [*(given for node in nodes for given in node.inputs), *exits]:
        writer.need_ports(given)
    for node in nodes:
        writer.write(node)
    slots = [writer.slot(node) for node in exits]
    ports = len(writer.port_streams)
    program = make_program(ports, ports + len(writer.steps), writer.steps, slots)
    return WrittenProgram(program, writer.handlers, writer.port_streams, writer.port_names)


class _Writer:
    """Assigns slots: first to the ports, which must be known before the first step, then one to each step."""

    def __init__(self, nodes: Sequence[Node], stream_of: Mapping[Node, int], joined: set[Node]) -> None:
        self._own = frozenset(nodes)
        self._stream_of = stream_of
        self._joined = joined
        self._slots: dict[Node, int] = {}
        self._port_slots: dict[int, int] = {}
        self.port_streams: list[int] = []
        self.port_names: list[str] = []
        self.steps: list[Step] = []
        self.handlers: list[Any] = []

    def need_ports(self, given: Node) -> None:
        """Add a port for every stream from outside that `given` needs, also through joins that are made here."""
        origin = origin_of(given)
        if origin in self._own:
            return
        if origin.kind.traits.joins and origin not in self._stream_of:
            for each in origin.inputs:
                self.need_ports(each)
            return
        stream = self._stream_of[origin]
        if stream not in self._port_slots:
            self._port_slots[stream] = len(self.port_streams)
            self.port_streams.append(stream)
            self.port_names.append("sequencer" if stream == SOURCE_STREAM else origin.name)

    def slot(self, given: Node) -> int:
        """Return the slot that holds a stream; a join that is made here is written first."""
        origin = origin_of(given)
        if origin in self._slots:
            return self._slots[origin]
        if origin not in self._own and origin in self._stream_of:
            return self._port_slots[self._stream_of[origin]]
        assert origin.kind.traits.joins, f"the stream of {origin.name} is not available here"
        return self.write(origin)

    def write(self, node: Node) -> int:
        """Write one step and return its output slot."""
        inputs = tuple(map(self.slot, node.inputs))
        output = self._slots[node] = len(self.port_streams) + len(self.steps)
        self.steps.append(_step(node, inputs, output, counted=node not in self._joined))
        self.handlers.append(node.subject if node.kind.traits.built else None)
        if node.kind.traits.joins:
            self._joined.add(node)
        return output


def _step(node: Node, inputs: tuple[int, ...], output: int, *, counted: bool) -> Step:
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
