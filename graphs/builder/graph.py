"""Graph and Stream: how people write a graph down. Building starts nothing.

Each call adds one node to `Graph.nodes` and gives a stream of its events. Whether the call makes sense is decided in
`checks`, what the node is called in `names`, what it means in the engine.
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from datetime import datetime
from os import PathLike
from typing import Any, Generic, Literal, Never, TypeAlias, TypedDict, TypeGuard, TypeVar, Unpack, overload

from ...nodes.events import DeadLetter, OnError
from ...nodes.handlers import Handler
from ...nodes.sinks import Sink
from ...nodes.sources import Source
from ...nodes.state.folds import KeyRecipe
from ...nodes.state.stateful import ScanRecipe
from ...nodes.state.windows import Span
from . import checks, subjects
from .keyed_streams import KeyedStream, check_ttl
from .names import name_of, settle
from .spec import Kind, Node
from .wiring import check_streams

T = TypeVar("T")
U = TypeVar("U")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
S = TypeVar("S")
K = TypeVar("K")
T_co = TypeVar("T_co", covariant=True)

#: What a flat_map and a map_batches may give.
_Outputs: TypeAlias = Iterable[U] | AsyncIterable[U] | Coroutine[Any, Any, Iterable[U]]
_Equal: TypeAlias = Sequence[U] | Coroutine[Any, Any, Sequence[U]]


class Workers(TypedDict, total=False):
    """The option that handlers and runs share."""

    workers: int | None


class HandlerOptions(Workers, total=False):
    """The options of `map`, `filter`, `flat_map` and `map_batches`."""

    name: str
    ordered: bool
    retries: int
    backoff_s: float
    timeout_s: float | None
    concurrency: int
    on_error: OnError


#: The names of the options of a handler, for calls that pass them on.
HANDLER_WORDS = ("name", "workers", "ordered", "retries", "backoff_s", "timeout_s", "concurrency", "on_error")


class Graph:
    """A graph of sources, handlers, barriers and sinks, to be run, iterated or compiled as often as one likes.

    `nodes` holds the nodes in the order in which they were added; a node's id is its place there. Raises `GraphError`
    for a name that is empty or cannot be printed.
    """

    def __init__(self, name: str = "graph") -> None:
        checks.check_graph_name(name)
        self.name = name
        self.nodes: list[Node] = []

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

        A generator function runs in the source's process, an iterable is read in a thread of the calling process.
        `journal=True` is for sources that give an event only once, such as a webhook, standard input or a socket: a
        run with `checkpoint=` stores each event beside its checkpoints before the event gets a number, and a run that
        goes on is given the same ones before it opens the source again. Without `checkpoint=` it has no effect.

        Raises `GraphError` for a path, text, bytes or a dict: give `sw.lines(path)` for the lines of a file; and for
        `journal=True` with what can be read again.
        """
        return self._add(Kind.SOURCE, (), source, name=name, journal=journal)

    def sequence(
        self,
        *streams: Stream[T],
        order: Literal["arrival", "round_robin"] = "arrival",
        key: Callable[[T], Any] | None = None,
    ) -> Stream[T]:
        """Put several sources under the graph's one sequencer.

        `streams` are as `source` returned them, not yet used. `order` says whose event is numbered next: that of
        whoever has one, or each source's in turn. `key` merges sources that are each sorted by it instead; a key of
        `None` repeats the one before. Raises `GraphError` for anything else, and for a second sequence.
        """
        check_streams("graph.sequence", streams, least=1, graph=self)
        return self._add(Kind.SEQUENCE, [stream.node for stream in streams], order=order, key=key)

    def dead_letters(self) -> Stream[DeadLetter]:
        """Give the stream of events that handlers with `on_error="dead_letter"` gave up on, in order.

        Handlers on it run in order beside the sinks. It is the same stream each time.
        """
        for node in self.nodes:
            if node.kind is Kind.LETTERS:
                return Stream(self, node)
        return self._add(Kind.LETTERS, ())

    def _add(
        self,
        kind: Kind,
        inputs: Iterable[Node],
        subject: Any = None,
        *,
        name: str | None = None,
        options: Mapping[str, Any] | None = None,
        **parts: Any,
    ) -> Stream[Any]:
        """Check a node, name it and add it."""
        called = name_of(kind, subject) if name is None else name
        node = Node(len(self.nodes), kind, called, tuple(inputs), subject, named=name is not None, **parts)
        if options is not None:
            node.options = checks.check_options(checks.place(self.name, node), options)
        checks.check_node(self, node)
        settle(self.nodes, node)
        self.nodes.append(node)
        return Stream(self, node)


@dataclass(frozen=True, slots=True, repr=False)
class Stream(Generic[T_co]):
    """The events that one node gives. Using a stream twice branches it; each branch gets its own copy of an event.

    The options of the handlers: `name`; `workers`, processes of the handler's pool; `ordered=True`, one worker that
    sees the numbers in order; `retries` after a failure, with a pause of `backoff_s` seconds that doubles up to 60;
    `timeout_s` seconds for one call; `concurrency`, events in flight in each worker of an async handler;
    `on_error="fail" | "skip" | "dead_letter"` when all attempts failed. Wrong values raise `GraphError`, unknown
    options `TypeError`.
    """

    graph: Graph
    node: Node

    def __repr__(self) -> str:
        return f"<Stream of {checks.place(self.graph.name, self.node)}>"

    @overload
    def map(self, fn: type[Handler[T_co, Coroutine[Any, Any, U]]], **options: Unpack[HandlerOptions]) -> Stream[U]: ...
    @overload
    def map(self, fn: type[Handler[T_co, U]], **options: Unpack[HandlerOptions]) -> Stream[U]: ...
    @overload
    def map(self, fn: Callable[[T_co], Coroutine[Any, Any, U]], **options: Unpack[HandlerOptions]) -> Stream[U]: ...
    @overload
    def map(self, fn: Callable[[T_co], U], **options: Unpack[HandlerOptions]) -> Stream[U]: ...
    def map(self, fn: Any, **options: Any) -> Stream[Any]:
        """Turn each event into one: `fn(event)`. `fn` is a function, `async` or not, or a handler class."""
        return self._handle(Kind.MAP, fn, options)

    @overload
    def filter(self, fn: type[Handler[T_co, object]], **options: Unpack[HandlerOptions]) -> Stream[T_co]: ...
    @overload
    def filter(self, fn: Callable[[T_co], TypeGuard[U]], **options: Unpack[HandlerOptions]) -> Stream[U]: ...
    @overload
    def filter(self, fn: Callable[[T_co], object], **options: Unpack[HandlerOptions]) -> Stream[T_co]: ...
    def filter(self, fn: Any, **options: Any) -> Stream[Any]:
        """Keep the events for which `fn(event)` is true."""
        return self._handle(Kind.FILTER, fn, options)

    @overload
    def flat_map(self, fn: type[Handler[T_co, _Outputs[U]]], **options: Unpack[HandlerOptions]) -> Stream[U]: ...
    @overload
    def flat_map(self, fn: Callable[[T_co], _Outputs[U]], **options: Unpack[HandlerOptions]) -> Stream[U]: ...
    def flat_map(self, fn: Any, **options: Any) -> Stream[Any]:
        """Turn each event into the events that `fn(event)` gives: none, one or many, as an iterable or a generator.

        Each of them is handled, retried, skipped and dead-lettered by itself from there on.
        """
        return self._handle(Kind.FLAT_MAP, fn, options)

    def map_batches(
        self,
        fn: Callable[[list[T_co]], _Equal[U]] | type[Handler[list[T_co], _Equal[U]]],
        *,
        batch_size: int | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Stream[U]:
        """Turn lists of 1 to `batch_size` events into equally long sequences: `fn(events)`.

        A list that fails under `skip` or `dead_letter` is run again event by event, so only the culprit is lost.
        """
        return self._handle(Kind.MAP_BATCHES, fn, {**options}, batch_size=batch_size)

    def scan(self, fn: Callable[[S, T_co], tuple[S, U]], initial: S, *, name: str | None = None) -> Stream[U]:
        """Turn each event into one with a state that goes from event to event: `fn(state, event)` gives `(state, output)`.

        The events come one after the other in the order of their numbers, in one worker; the first state is a copy
        of `initial`. A function that raises ends the run, as under `on_error="fail"`. Raises `GraphError` for what is
        no plain function of two, and for an `initial` that cannot be copied.
        """
        where = f"{Kind.SCAN.value} of graph {self.graph.name!r}"
        subjects.check_function(where, fn, "state, event")
        subjects.check_copyable(where, initial)
        return self.graph._add(
            Kind.SCAN, [self.node], ScanRecipe(fn, initial), name=name, options={"ordered": True}
        )

    def key_by(
        self,
        fn: Callable[[T_co], K],
        *,
        ttl: Span | None = None,
        time: Callable[[T_co], float | datetime] | None = None,
        name: str | None = None,
    ) -> KeyedStream[K, T_co]:
        """Give each event a key, so that what follows keeps a state for each key, on several workers.

        `fn(event)` gives a str, bytes, a number, None, a date or time, a UUID, an Enum, or a tuple or frozenset of
        these. A key that is idle for longer than `ttl` of event time, `time(event)`, is forgotten, and counted in the
        report; `ttl` is in the unit of the times, a `timedelta` where they are datetimes. Raises `GraphError` for one
        of the two without the other, and for what is no plain function.
        """
        where = f"{Kind.KEY_BY.value} of graph {self.graph.name!r}"
        subjects.check_function(where, fn, "event")
        check_ttl(where, ttl, time)
        keyed = self.graph._add(Kind.KEY_BY, [self.node], KeyRecipe(fn, ttl, time), name=name)
        return KeyedStream(self.graph, keyed.node)

    def barrier(self) -> Stream[T_co]:
        """Ask for an ordering point: what comes after it is handed out in the order of the numbers."""
        return self.graph._add(Kind.BARRIER, [self.node])

    def sink(
        self, sink: Sink[T_co] | Callable[[T_co], object], *, name: str | None = None, ordered: bool = True
    ) -> None:
        """End the stream in a function that is called with each event, or in a `Sink` that is given batches.

        Sinks run in the thread that runs the graph, in the order in which they were added. `ordered=False` gives
        the events as they come, which holds nothing back. Raises `GraphError` for what is neither.
        """
        self.graph._add(Kind.SINK, [self.node], sink, name=name, ordered=ordered)

    def _handle(self, kind: Kind, fn: Any, options: dict[str, Any], **more: Any) -> Stream[Any]:
        checks.check_words(options, HANDLER_WORDS, call=f"Stream.{kind.value}")
        name = options.pop("name", None)
        return self.graph._add(kind, [self.node], fn, name=name, options={**options, **more})


@overload
def zip(a: Stream[A], b: Stream[B], /) -> Stream[tuple[A, B]]: ...
@overload
def zip(a: Stream[A], b: Stream[B], c: Stream[C], /) -> Stream[tuple[A, B, C]]: ...
@overload
def zip(a: Stream[A], b: Stream[B], c: Stream[C], d: Stream[D], /) -> Stream[tuple[A, B, C, D]]: ...
@overload
def zip(*streams: Stream[T]) -> Stream[tuple[T, ...]]: ...
def zip(*streams: Stream[Any]) -> Stream[Any]:
    """Join branches by number: one tuple for each number, none for a number that a branch filtered or failed.

    Raises `GraphError` for fewer than two streams, for streams of several graphs, and behind a `flat_map` or a
    `merge`, where a number may have several events.
    """
    check_streams("sw.zip", streams, least=2)
    return streams[0].graph._add(Kind.ZIP, [stream.node for stream in streams])


def merge(*streams: Stream[T]) -> Stream[T]:
    """Join branches by number: for each number, the first stream's events, then the second's, and so on.

    Raises `GraphError` for fewer than two streams and for streams of several graphs.
    """
    check_streams("sw.merge", streams, least=2)
    return streams[0].graph._add(Kind.MERGE, [stream.node for stream in streams])
