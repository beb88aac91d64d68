"""Streams: the calls by which a graph is written down, on events, on events with keys and on windows of them.

Each call adds one node and returns a stream of its events. Whether the call makes sense is decided in `checks` and
`subjects`, what the node becomes in a run by the compiler.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeAlias, TypeGuard, TypeVar, Unpack, overload

from ...nodes.checks import check_flag
from ...nodes.errors import GraphError, kind_of
from ...nodes.handlers import Handler
from ...nodes.meanings import explain_options
from ...nodes.program.kinds import NodeKind
from ...nodes.program.options import HandlerOptions, NodeNaming, Options
from ...nodes.sinks import Sink
from ...nodes.state.folds import FoldRecipe
from ...nodes.state.key_steps import KeyRecipe
from ...nodes.state.stateful import ScanRecipe
from ...nodes.state.times import Span, Time, check_span
from ...nodes.state.window_state import Aggregate
from ...nodes.state.windows import AnyWindow, Session, Sliding, Tumbling, Window, length_of
from . import checks, subjects
from .building import add_node
from .option_names import check_handler_option_names
from .spec import GraphSpec, Node, Windowing
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

#: What the handlers of flat_map and map_batches may return.
_Outputs: TypeAlias = Iterable[U] | AsyncIterable[U] | Coroutine[Any, Any, Iterable[U]]
_Equal: TypeAlias = Sequence[U] | Coroutine[Any, Any, Sequence[U]]


@dataclass(frozen=True, slots=True, repr=False)
class Stream(Generic[T_co]):
    """The events that one node puts out. Using a stream twice branches it; each branch gets its own copy of an event.

    The options of the handlers are listed at `map`; those of `filter`, `flat_map` and `map_batches` are the same. Wrong
    values raise `GraphError`, unknown options `TypeError`.
    """

    graph: GraphSpec
    node: Node

    def __repr__(self) -> str:
        return f"<Stream of {checks.node_label(self.graph.name, self.node)}>"

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
        return self._handle(NodeKind.MAP, fn, options)

    @overload
    def filter(self, fn: type[Handler[T_co, object]], **options: Unpack[HandlerOptions]) -> Stream[T_co]: ...
    @overload
    def filter(self, fn: Callable[[T_co], TypeGuard[U]], **options: Unpack[HandlerOptions]) -> Stream[U]: ...
    @overload
    def filter(self, fn: Callable[[T_co], object], **options: Unpack[HandlerOptions]) -> Stream[T_co]: ...
    def filter(self, fn: Any, **options: Any) -> Stream[Any]:
        """Keep the events for which `fn(event)` is true."""
        return self._handle(NodeKind.FILTER, fn, options)

    @overload
    def flat_map(self, fn: type[Handler[T_co, _Outputs[U]]], **options: Unpack[HandlerOptions]) -> Stream[U]: ...
    @overload
    def flat_map(self, fn: Callable[[T_co], _Outputs[U]], **options: Unpack[HandlerOptions]) -> Stream[U]: ...
    def flat_map(self, fn: Any, **options: Any) -> Stream[Any]:
        """Turn each event into the events that `fn(event)` returns: none, one or many, as an iterable or a generator.

        Each of them is handled, retried, skipped and dead-lettered by itself from there on.
        """
        return self._handle(NodeKind.FLAT_MAP, fn, options)

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
        return self._handle(NodeKind.MAP_BATCHES, fn, {**options}, batch_size=batch_size)

    def scan(self, fn: Callable[[S, T_co], tuple[S, U]], initial: S, *, name: str | None = None) -> Stream[U]:
        """Turn each event into one with a state that goes from event to event: `fn(state, event)` returns `(state, output)`.

        The events come one after the other in the order of their numbers, in one worker; the first state is a copy
        of `initial`. A function that raises ends the run, as under `on_error="fail"`. Raises `GraphError` for what is
        not a plain function of two, and for an `initial` that cannot be copied.
        """
        where = f"{NodeKind.SCAN.value} of graph {self.graph.name!r}"
        subjects.check_function(where, fn, "state, event")
        subjects.check_copyable(where, initial)
        recipe = ScanRecipe(fn, initial)
        return add_stream(self.graph, NodeKind.SCAN, [self.node], recipe, name=name, options={"ordered": True})

    def key_by(
        self,
        fn: Callable[[T_co], K],
        *,
        ttl: Span | None = None,
        time: Callable[[T_co], Time] | None = None,
        name: str | None = None,
    ) -> KeyedStream[K, T_co]:
        """Compute a key for each event, so that what follows has a state for each key, on several workers.

        `fn(event)` returns a str, bytes, a number, None, a date or time, a UUID, an Enum, or a tuple or frozenset of
        these. A key that is idle for longer than `ttl` of event time, `time(event)`, is forgotten, and counted in the
        report; `ttl` is in the unit of the times, a `timedelta` where they are datetimes. Raises `GraphError` for one
        of the two without the other, and for what is not a plain function.
        """
        where = f"{NodeKind.KEY_BY.value} of graph {self.graph.name!r}"
        subjects.check_function(where, fn, "event")
        subjects.check_ttl(where, ttl, time)
        return KeyedStream(self.graph, add_node(self.graph, NodeKind.KEY_BY, [self.node], KeyRecipe(fn, ttl, time), name=name))

    def barrier(self) -> Stream[T_co]:
        """Ask for an ordering point: what comes after it is handed out in the order of the numbers."""
        return add_stream(self.graph, NodeKind.BARRIER, [self.node])

    def sink(
        self, sink: Sink[T_co] | Callable[[T_co], object], *, name: str | None = None, ordered: bool = True
    ) -> None:
        """End the stream in a function that is called with each event, or in a `Sink`, which is called with batches.

        Sinks run in the thread that runs the graph, in the order in which they were added. With `ordered=False`
        it gets the events as they are ready, and none waits for another. Raises `GraphError` for what is neither.
        """
        add_stream(self.graph, NodeKind.SINK, [self.node], sink, name=name, ordered=ordered)

    def _handle(self, kind: NodeKind, fn: Any, options: dict[str, Any], **more: Any) -> Stream[Any]:
        check_handler_option_names(options, call=f"Stream.{kind.value}")
        name = options.pop("name", None)
        return add_stream(self.graph, kind, [self.node], fn, name=name, options={**options, **more})


@dataclass(frozen=True, slots=True, repr=False)
class KeyedStream(Generic[K, T_co]):
    """The events of a stream with their keys: what follows has a state for each key.

    Each key's events come in the order of the numbers, on several workers together. Outputs are in the one global
    order, the same for any number of workers.
    """

    graph: GraphSpec
    key: Node

    def __repr__(self) -> str:
        return f"<KeyedStream of {checks.node_label(self.graph.name, self.key)}>"

    @overload
    def map(self, fn: type[Handler[T_co, Coroutine[Any, Any, U]]], **options: Unpack[HandlerOptions]) -> Stream[U]: ...
    @overload
    def map(self, fn: type[Handler[T_co, U]], **options: Unpack[HandlerOptions]) -> Stream[U]: ...
    @overload
    def map(self, fn: Callable[[T_co], Coroutine[Any, Any, U]], **options: Unpack[HandlerOptions]) -> Stream[U]: ...
    @overload
    def map(self, fn: Callable[[T_co], U], **options: Unpack[HandlerOptions]) -> Stream[U]: ...
    def map(self, fn: Any, **options: Any) -> Stream[Any]:
        """Turn each event into one, `fn(event)`, all events of a key by the same worker, in order.

        Takes the options of `Stream.map`; `workers` is the number of workers that share the keys.
        """
        check_handler_option_names(options, call="KeyedStream.map")
        self._without_ttl(NodeKind.KEYED_MAP, "a map has no state of ours that could be forgotten")
        name = options.pop("name", None)
        return add_stream(self.graph, NodeKind.KEYED_MAP, [self.key], fn, name=name, options=options)

    def scan(self, fn: Callable[[S, T_co], tuple[S, U]], initial: S, *, name: str | None = None) -> Stream[U]:
        """Turn each event into one with the state of its key: `fn(state, event)` returns `(state, output)`.

        Each key begins with a copy of `initial`. A function that raises ends the run. Raises `GraphError` for what is
        not a plain function of two, and for an `initial` that cannot be copied.
        """
        where = self._where(NodeKind.KEYED_SCAN)
        subjects.check_function(where, fn, "state, event")
        subjects.check_copyable(where, initial)
        return add_stream(self.graph, NodeKind.KEYED_SCAN, [self.key], FoldRecipe("scan", fn, initial), name=name)

    def reduce(
        self, fn: Callable[[T_co, T_co], T_co], *, final: bool = False, name: str | None = None
    ) -> Stream[tuple[K, T_co]]:
        """Fold each key's events into one value: `fn(value, event)`; the first event is the first value.

        Puts out `(key, value)` for each event, or with `final=True` once for each key at the end of the input, by the
        keys' first appearance.
        """
        where = self._where(NodeKind.REDUCE)
        subjects.check_function(where, fn, "value, event")
        check_flag(where, "final", final)
        return add_stream(self.graph, NodeKind.REDUCE, [self.key], FoldRecipe("reduce", fn, final=final), name=name)

    def count(self, *, final: bool = False, name: str | None = None) -> Stream[tuple[K, int]]:
        """Count each key's events: `(key, count)` for each event, or with `final=True` once for each key at the end."""
        check_flag(self._where(NodeKind.COUNT), "final", final)
        return add_stream(self.graph, NodeKind.COUNT, [self.key], FoldRecipe("count", final=final), name=name)

    def window(
        self, window: AnyWindow, *, time: Callable[[T_co], Time], allowed_lateness: Span = 0
    ) -> WindowedStream[K, T_co]:
        """Put each key's events into windows of event time, `time(event)`; follow it with `count` and its like.

        `window` is `sw.tumbling(size)`, `sw.sliding(size, slide)` or `sw.session(gap)`. A window closes when the
        highest time so far (the watermark) is `allowed_lateness` past its end, or the input ends; events that come
        later than that are dropped and counted as `late` in the report. Raises `GraphError` for what is not a window
        or not a function, and for a lateness that is negative or in another unit.
        """
        where = self._where(NodeKind.WINDOW)
        if not isinstance(window, Tumbling | Sliding | Session):
            raise GraphError(
                f"{where}: {kind_of(window)} is no window; give it sw.tumbling(size), sw.sliding(size, slide)"
                " or sw.session(gap)"
            )
        subjects.check_function(f"{where}, time=", time, "event")
        clock = isinstance(length_of(window), timedelta)
        lateness: Any = check_span(f"{where}, allowed_lateness=", allowed_lateness, zero=True)
        if clock and lateness == 0:
            lateness = timedelta(0)
        if isinstance(lateness, timedelta) != clock:
            raise GraphError(f"{where}: allowed_lateness= is in another unit than the window; give both in that of the times")
        self._without_ttl(NodeKind.WINDOW, "windows are forgotten when they close")
        return WindowedStream(self, window, time, lateness)

    def _where(self, kind: NodeKind) -> str:
        return f"{kind.value} behind {checks.node_label(self.graph.name, self.key)}"

    def _without_ttl(self, kind: NodeKind, why: str) -> None:
        if self.key.subject.ttl is not None:
            raise GraphError(f"{self._where(kind)}: ttl= has no place here, for {why}; leave it out of key_by")


@dataclass(frozen=True, slots=True, repr=False)
class WindowedStream(Generic[K, T_co]):
    """The windows of the keys of a stream; each aggregate returns a stream of `Window(key, start, end, value)`.

    A window is an output of the number that closed it; several are in the order of their ends, then of their first
    events.
    """

    keyed: KeyedStream[K, T_co]
    window: AnyWindow
    time: Callable[[Any], Any]
    lateness: Any

    def count(self, *, name: str | None = None) -> Stream[Window[K, int]]:
        """Count the events of each window."""
        return self._add(Aggregate("count"), name)

    def collect(self, *, name: str | None = None) -> Stream[Window[K, list[T_co]]]:
        """Collect each window's events into a list, in the order of their numbers.

        Where an event joined two sessions, those of the earlier one come first.
        """
        return self._add(Aggregate("collect"), name)

    def reduce(self, fn: Callable[[T_co, T_co], T_co], *, name: str | None = None) -> Stream[Window[K, T_co]]:
        """Fold each window's events into one value: `fn(value, event)`; the first event is the first value.

        Where an event joins two sessions, `fn(earlier, later)` makes one value of theirs.
        """
        subjects.check_function(self._where(), fn, "value, event")
        return self._add(Aggregate("reduce", fn), name)

    def aggregate(
        self,
        fn: Callable[[S, T_co], S],
        initial: S,
        *,
        merge: Callable[[S, S], S] | None = None,
        name: str | None = None,
    ) -> Stream[Window[K, S]]:
        """Fold each window's events into a value that begins with a copy of `initial`: `fn(value, event)`.

        Sessions need `merge(earlier, later)` as well, which makes one value of two where an event joins two sessions.
        """
        where = self._where()
        subjects.check_function(where, fn, "value, event")
        subjects.check_copyable(where, initial)
        if isinstance(self.window, Session) and merge is None:
            raise GraphError(
                f"{where}: an event may join two sessions into one, but nothing says how their values become one; give"
                " it merge=, a function of (earlier, later)"
            )
        if merge is not None:
            subjects.check_function(f"{where}, merge=", merge, "earlier, later")
        return self._add(Aggregate("aggregate", fn, initial, merge), name)

    def _where(self) -> str:
        return self.keyed._where(NodeKind.WINDOW)

    def _add(self, aggregate: Aggregate, name: str | None) -> Stream[Any]:
        subject = Windowing(self.window, self.time, self.lateness, aggregate)
        return add_stream(self.keyed.graph, NodeKind.WINDOW, [self.keyed.key], subject, name=name)


def add_stream(graph: GraphSpec, kind: NodeKind, inputs: Iterable[Node], subject: Any = None, **more: Any) -> Stream[Any]:
    """Add a node to `graph`, as `add_node` does, and return the stream of its events."""
    return Stream(graph, add_node(graph, kind, inputs, subject, **more))


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
    return add_stream(streams[0].graph, NodeKind.ZIP, [stream.node for stream in streams])


def merge(*streams: Stream[T]) -> Stream[T]:
    """Join branches by number: for each number, the first stream's events, then the second's, and so on.

    Raises `GraphError` for fewer than two streams and for streams of several graphs.
    """
    check_streams("sw.merge", streams, least=2)
    return add_stream(streams[0].graph, NodeKind.MERGE, [stream.node for stream in streams])


for _takes_options in (Stream.map, Stream.filter, Stream.flat_map, Stream.map_batches, KeyedStream.map):
    explain_options(_takes_options, NodeNaming, Options)
