"""Graph: where a graph begins to be written down. Building starts nothing.

Each call adds one node to `Graph.nodes` and returns a stream of its events; what follows is called on the streams.
Whether a call makes sense is decided in `checks`, what the node means in the engine.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from os import PathLike
from typing import Any, Literal, Never, TypeVar, overload

from ...nodes.events import DeadLetter
from ...nodes.program.kinds import NodeKind
from ...nodes.sources import Source
from . import checks
from .spec import GraphSpec
from .streams import Stream, add_stream
from .wiring import check_streams

T = TypeVar("T")


class Graph(GraphSpec):
    """A graph of sources, handlers, barriers and sinks, to be run, iterated or compiled as often as one likes.

    `nodes` holds the nodes in the order in which they were added; a node's id is its index there. Raises `GraphError`
    for a name that is empty or cannot be printed.
    """

    def __init__(self, name: str = "graph") -> None:
        checks.check_graph_name(name)
        super().__init__(name)

    def __repr__(self) -> str:
        return f"<Graph {self.name!r}, {len(self.nodes)} nodes>"

    @overload
    def source(
        self, source: str | bytes | PathLike[str], *, name: str | None = None, journal: bool = False
    ) -> Never: ...
    @overload
    def source(
        self,
        source: Source[T] | Iterable[T] | Callable[[], Iterator[T] | AsyncIterator[T]],
        *,
        name: str | None = None,
        journal: bool = False,
    ) -> Stream[T]: ...
    def source(self, source: Any, *, name: str | None = None, journal: bool = False) -> Any:
        """Read events from a `Source`, a generator function (sync or async) or an iterable.

        A generator function runs in the source's process, an iterable is read in a thread of the calling process. Either
        may fill one object again and again: what it gives is copied before it runs on, unless it cannot change or is fresh.
        `journal=True` is for sources that deliver an event only once, such as a webhook, standard input or a socket: a
        run with `checkpoint=` stores each event beside its checkpoints before the event gets a number, and a run that
        is resumed reads the same ones before it opens the source again. Without `checkpoint=` it has no effect.

        Raises `GraphError` for a path, text, bytes or a dict: give `sw.lines(path)` for the lines of a file; and for
        `journal=True` with what can be read again.
        """
        return add_stream(self, NodeKind.SOURCE, (), source, name=name, journal=journal)

    def sequence(
        self,
        *streams: Stream[T],
        order: Literal["arrival", "round_robin"] = "arrival",
        key: Callable[[T], Any] | None = None,
    ) -> Stream[T]:
        """Put several sources under the graph's one sequencer.

        `streams` are as `source` returned them, not yet used. `order` decides which source's event is numbered next:
        that of any source that has one, or each source's in turn. `key` merges sources that are each sorted by it instead;
        a key of `None` repeats the one before. Raises `GraphError` for anything else, and for a second sequence.
        """
        check_streams("graph.sequence", streams, least=1, graph=self)
        return add_stream(self, NodeKind.SEQUENCE, [stream.node for stream in streams], order=order, key=key)

    def dead_letters(self) -> Stream[DeadLetter]:
        """Return the stream of events that handlers with `on_error="dead_letter"` gave up on, in order.

        Handlers on it run in order beside the sinks. It is the same stream each time.
        """
        for node in self.nodes:
            if node.kind is NodeKind.LETTERS:
                return Stream(self, node)
        return add_stream(self, NodeKind.LETTERS, ())
