"""KeyedStream and WindowedStream: what is done for each key of a stream.

Each call adds one node behind the node of the keys. What the node becomes in a run is decided by the compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack, overload

from ...nodes.errors import GraphError
from ...nodes.handlers import Handler, Recipe
from ...nodes.state.folds import FoldRecipe
from ...nodes.state.sessions import SessionRecipe
from ...nodes.state.window_state import Aggregate, ClockRecipe, WindowRecipe
from ...nodes.state.windows import AnyWindow, Grid, Session, Sliding, Span, Tumbling, Window, check_span, length_of
from . import checks, subjects
from .spec import Kind, Node

if TYPE_CHECKING:
    from .graph import Graph, HandlerOptions, Stream

S = TypeVar("S")
T = TypeVar("T")
U = TypeVar("U")
K = TypeVar("K")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Windowing:
    """The subject of a window's node: the windows, the times, and what is made of a window's events."""

    window: AnyWindow
    time: Callable[[Any], Any]
    lateness: Any
    aggregate: Aggregate
    __name__ = "window"

    @property
    def form(self) -> str:
        """What must be as it was for windows that an earlier run has kept to mean the same."""
        return f"{self.window}, lateness {self.lateness}, {self.aggregate.form}"

    @property
    def clock(self) -> ClockRecipe:
        """Where the watermark is told: where a window of one size ends, or wherever it moves."""
        return ClockRecipe(None if isinstance(self.window, Session) else Grid.of(self.window, self.lateness))

    @property
    def recipe(self) -> Recipe:
        """What each part keeps."""
        if isinstance(self.window, Session):
            return SessionRecipe(self.window.gap, self.lateness, self.aggregate)
        return WindowRecipe(Grid.of(self.window, self.lateness), self.aggregate)


@dataclass(frozen=True, slots=True, repr=False)
class KeyedStream(Generic[K, T_co]):
    """The events of a stream with their keys: what follows keeps a state for each key.

    Each key's events come in the order of the numbers, on several workers together. Outputs are in the one global
    order, the same for any number of workers.
    """

    graph: Graph
    key: Node

    def __repr__(self) -> str:
        return f"<KeyedStream of {checks.place(self.graph.name, self.key)}>"

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
        from .graph import HANDLER_WORDS  # they import each other

        checks.check_words(options, HANDLER_WORDS, call="KeyedStream.map")
        self._without_ttl(Kind.KEYED_MAP, "a map has no state of ours that could be forgotten")
        name = options.pop("name", None)
        return self.graph._add(Kind.KEYED_MAP, [self.key], fn, name=name, options=options)

    def scan(self, fn: Callable[[S, T_co], tuple[S, U]], initial: S, *, name: str | None = None) -> Stream[U]:
        """Turn each event into one with the state of its key: `fn(state, event)` gives `(state, output)`.

        Each key begins with a copy of `initial`. A function that raises ends the run. Raises `GraphError` for what is
        no plain function of two, and for an `initial` that cannot be copied.
        """
        where = self._where(Kind.KEYED_SCAN)
        subjects.check_function(where, fn, "state, event")
        subjects.check_copyable(where, initial)
        return self.graph._add(Kind.KEYED_SCAN, [self.key], FoldRecipe("scan", fn, initial), name=name)

    def reduce(
        self, fn: Callable[[T_co, T_co], T_co], *, final: bool = False, name: str | None = None
    ) -> Stream[tuple[K, T_co]]:
        """Fold each key's events into one value: `fn(value, event)`; the first event is the first value.

        Gives `(key, value)` for each event, or with `final=True` once for each key at the end of the input, by the
        keys' first appearance.
        """
        where = self._where(Kind.REDUCE)
        subjects.check_function(where, fn, "value, event")
        checks._flag(where, "final", final)
        return self.graph._add(Kind.REDUCE, [self.key], FoldRecipe("reduce", fn, final=final), name=name)

    def count(self, *, final: bool = False, name: str | None = None) -> Stream[tuple[K, int]]:
        """Count each key's events: `(key, count)` for each event, or with `final=True` once for each key at the end."""
        checks._flag(self._where(Kind.COUNT), "final", final)
        return self.graph._add(Kind.COUNT, [self.key], FoldRecipe("count", final=final), name=name)

    def window(
        self, window: AnyWindow, *, time: Callable[[T_co], float | datetime], allowed_lateness: Span = 0
    ) -> WindowedStream[K, T_co]:
        """Put each key's events into windows of event time, `time(event)`; follow it with `count` and its like.

        `window` is `sw.tumbling(size)`, `sw.sliding(size, slide)` or `sw.session(gap)`. A window closes when the
        highest time so far (the watermark) is `allowed_lateness` past its end, or the input ends; events that come
        later than that are dropped and counted as `late` in the report. Raises `GraphError` for what is no window,
        no function, or a lateness that is negative or in another unit.
        """
        where = self._where(Kind.WINDOW)
        if not isinstance(window, Tumbling | Sliding | Session):
            raise GraphError(
                f"{where}: a {type(window).__name__} is no window; give it sw.tumbling(size), sw.sliding(size, slide)"
                " or sw.session(gap)"
            )
        subjects.check_function(f"{where}, time=", time, "event")
        clock = isinstance(length_of(window), timedelta)
        lateness: Any = check_span(f"{where}, allowed_lateness=", allowed_lateness, zero=True)
        if clock and lateness == 0:
            lateness = timedelta(0)
        if isinstance(lateness, timedelta) != clock:
            raise GraphError(f"{where}: allowed_lateness= is in another unit than the window; give both in that of the times")
        self._without_ttl(Kind.WINDOW, "windows are forgotten when they close")
        return WindowedStream(self, window, time, lateness)

    def _where(self, kind: Kind) -> str:
        return f"{kind.value} behind {checks.place(self.graph.name, self.key)}"

    def _without_ttl(self, kind: Kind, why: str) -> None:
        if self.key.subject.ttl is not None:
            raise GraphError(f"{self._where(kind)}: ttl= has no place here, for {why}; leave it out of key_by")


@dataclass(frozen=True, slots=True, repr=False)
class WindowedStream(Generic[K, T_co]):
    """The windows of the keys of a stream; each aggregate gives a stream of `Window(key, start, end, value)`.

    A window is an output of the number that closed it; several are in the order of their ends, then of their first
    events.
    """

    keyed: KeyedStream[K, T_co]
    window: AnyWindow
    time: Callable[[Any], Any]
    lateness: Any

    def count(self, *, name: str | None = None) -> Stream[Window[K, int]]:
        """Give how many events each window holds."""
        return self._add(Aggregate("count"), name)

    def collect(self, *, name: str | None = None) -> Stream[Window[K, list[T_co]]]:
        """Give each window's events in the order of their numbers.

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
        return self.keyed._where(Kind.WINDOW)

    def _add(self, aggregate: Aggregate, name: str | None) -> Stream[Any]:
        subject = Windowing(self.window, self.time, self.lateness, aggregate)
        return self.keyed.graph._add(Kind.WINDOW, [self.keyed.key], subject, name=name)


def check_ttl(where: str, ttl: Any, time: Any) -> None:
    """Check that a time to live and the times it is measured by go together."""
    if ttl is None and time is None:
        return
    if ttl is None or time is None:
        there, missing = ("time=", "ttl=") if ttl is None else ("ttl=", "time=")
        raise GraphError(f"{where}: {there} without {missing}, but a key is forgotten by both; give both, or none")
    check_span(f"{where}, ttl=", ttl)
    subjects.check_function(f"{where}, time=", time, "event")
