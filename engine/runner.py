"""Running: `run`, `iterate`, `imap` and `compile`, on the caller's thread.

Decides how a run is driven, ended and reported to its caller: what is raised, when sinks are closed or aborted, what
leaving early means. Placement is the compiler's, everything between processes the hub's.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from itertools import chain
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from ..graphs.checks import check_words, claim_iterators
from ..graphs.graph import HANDLER_WORDS, Graph, HandlerOptions, Stream
from ..nodes.errors import GraphError, HandlerError, LostEvents, PenstockError
from ..nodes.handlers import Handler
from ..nodes.sources import size_hint
from . import inbox
from .compiler import compile_graph
from .delivery import Delivery
from .effects import Deliver, DeliverLoose, Finish
from .hub import Hub, Outcome
from .inline import InlineRun
from .options import RUN_WORDS, RunOptions, RunWords, check_run_options
from .plan import Plan
from .progress import make_progress
from .report import RunReport, report_of
from .ship import ship
from .signals import Interrupts

T = TypeVar("T")
U = TypeVar("U")
T_co = TypeVar("T_co", covariant=True)
#: Progress is shown about so often, in seconds.
PROGRESS_S = 1.0
#: How long the caller's thread waits at a time, in seconds, so that progress is shown also when nothing comes.
_WAIT_S = 0.5


class ProcessRun:
    """One run of a plan in processes; iterate `batches` to drive it."""

    def __init__(self, plan: Plan, options: RunOptions) -> None:
        self._plan = plan
        self._delivery = Delivery(plan)
        self._hub = Hub(plan, options)
        self._drain_s = options.drain_s
        self._progress = make_progress(options.progress)
        self._progress_at = monotonic() + PROGRESS_S
        self._outcome: Outcome | None = None
        self._ended_s: float | None = None
        self.error: BaseException | None = None
        self._expected = expected_events(plan, options.limit)

    def interrupt(self) -> None:
        """End the reading and release what is in flight, within the deadline."""
        self._hub.interrupt(monotonic() + self._drain_s)

    def report(self) -> RunReport:
        """Give the report as of now."""
        hub, delivery = self._hub, self._delivery
        wall = (self._ended_s or monotonic()) - hub.began
        ended = "" if self._outcome is None else self._outcome.ended_by
        report = report_of(
            hub.core,
            graph=self._plan.name,
            events_out=delivery.events_out,
            wall_s=wall,
            read_s=hub.read_s or wall,
            ended_by="error" if self.error is not None else ended,
            expected=self._expected,
        )
        report.unmatched += delivery.unmatched
        if self._outcome is not None:
            report.children = self._outcome.children
        return report

    def batches(self) -> Generator[list[Any], None, None]:
        """Run to the end; yields the consumer's events in lists. Raises what ended the run."""
        delivery = self._delivery
        failed = True
        try:
            delivery.open()
            self._hub.start()
            try:
                yield from self._deliver_all()
            except BaseException as error:
                self._hub.abort("closed" if isinstance(error, GeneratorExit) else "error")
                raise
            finally:
                self._finish()
            assert self._outcome is not None
            error_ = self._error_of(self._outcome)
            if error_ is not None:
                raise error_
            failed = self._outcome.ended_by == "interrupt"
        except BaseException as error:
            self.error = None if isinstance(error, GeneratorExit) else error
            raise
        finally:
            if self._progress is not None:
                self._progress(self.report())
            broken = delivery.close(failed)
            if broken is not None and not failed:
                self.error = broken
                raise broken

    def _deliver_all(self) -> Iterator[list[Any]]:
        deliveries, delivery, hub = self._hub.deliveries, self._delivery, self._hub
        while True:
            if self._progress is not None and monotonic() >= self._progress_at:
                self._progress_at = monotonic() + PROGRESS_S
                self._progress(self.report())
            try:
                effect = deliveries.get(timeout=_WAIT_S)
            except queue.Empty:
                continue
            if isinstance(effect, Deliver):
                yield from delivery.deliver(effect, hub.consume)
            elif isinstance(effect, DeliverLoose):
                yield from delivery.loose(effect)
                hub.consume_loose(effect.stream, effect.lo, effect.hi)
            else:
                self._outcome = effect
                return

    def _finish(self) -> None:
        """Wait until hub and children are gone."""
        while not self._hub.join(_WAIT_S):
            continue
        self._ended_s = monotonic()
        while self._outcome is None:
            effect = self._hub.deliveries.get()
            if isinstance(effect, Outcome):
                self._outcome = effect

    def _error_of(self, outcome: Outcome) -> BaseException | None:
        if outcome.error is not None:
            return outcome.error
        finish: Finish | None = outcome.finish
        if finish is None:
            return None
        if finish.failure is not None:
            return inbox.handler_error(finish.failure)
        if finish.source_error is not None:
            error: BaseException = finish.source_error
            return error
        if finish.start_up is not None:
            pool, worker, cause = finish.start_up
            return HandlerError(
                f"the workers of {pool!r} die at their start, before any event: worker {worker} {cause}; look at what"
                " the handlers import or build",
                node=pool,
            )
        core = self._hub.core
        if self._delivery.delivered < core.sequencer.next:
            return LostEvents(
                f"numbers {self._delivery.delivered} to {core.sequencer.next - 1} were read and never released; this"
                " is a fault of penstock, report it"
            )
        return None


class Results(chain[T_co]):  # type: ignore[type-var]  # chain only gives events: it is covariant in effect
    """The events of a stream, in order, while the graph runs: an iterator, an async iterator and a context manager.

    `report` is the run's report, complete once the run has ended. Leaving early stops the run. It is a `chain` over
    the lists that the run delivers, so that an event costs its consumer no Python call.
    """

    _run: ProcessRun | InlineRun
    _batches: Generator[list[T_co], None, None]

    @staticmethod
    def of(run: ProcessRun | InlineRun) -> Results[Any]:
        """Give the results of a run that has not begun."""
        batches = _reported(run)
        results = Results.from_iterable(batches)
        assert isinstance(results, Results)
        results._run, results._batches = run, batches
        return results

    @property
    def report(self) -> RunReport:
        """The report as of now."""
        return self._run.report()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        event = await asyncio.to_thread(next, self, _END)
        if event is _END:
            raise StopAsyncIteration
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the run, unless it has ended, and wait until its processes are gone."""
        self._batches.close()

    def __del__(self) -> None:
        batches = getattr(self, "_batches", None)
        if batches is not None:
            batches.close()


def _reported(run: ProcessRun | InlineRun) -> Generator[list[Any], None, None]:
    """Pass a run's lists on, and give its errors their report."""
    try:
        yield from run.batches()
    except PenstockError as error:
        error.report = run.report()
        raise


_END: Any = object()


class ImapWords(RunWords, HandlerOptions, total=False):
    """The keyword arguments of `imap`: those of `run` and those of `Stream.map`."""


def compile_(graph: Graph, /, *, workers: int | None = None) -> Plan:
    """Check a graph and place its nodes into processes without starting anything.

    `workers` is the number of processes of each pool that sets none itself. Raises `GraphError` for a graph that
    cannot run, also for a handler that cannot be sent to a worker.
    """
    options = check_run_options({"workers": workers}, "ps.compile")
    plan = compile_graph(_checked_graph(graph, "ps.compile"), workers=options.workers)
    ship(plan)
    return plan


def run(graph: Graph, /, **words: Unpack[RunWords]) -> RunReport:
    """Run a graph to its end and give the report.

    Sinks run in the calling thread. Raises `GraphError` before anything starts, `HandlerError`, `SourceError`,
    `SinkError` for user code that failed, `KeyboardInterrupt` after a Ctrl-C; each `PenstockError` carries `report`.
    """
    options = check_run_options(words, "ps.run")
    plan = compile_graph(_checked_graph(graph, "ps.run"), workers=options.workers)
    running = _make_run(graph, plan, options)
    interrupts = Interrupts(running)
    with interrupts:
        try:
            for _ in running.batches():
                continue
        except PenstockError as error:
            error.report = running.report()
            raise
    interrupts.settle()
    return running.report()


def iterate(stream: Stream[T], /, *, ordered: bool = True, **words: Unpack[RunWords]) -> Results[T]:
    """Run a stream's graph and give its events, in order, in the calling process.

    With `ordered=False` they come as they are ready. Nothing is started before the first event is asked for.
    """
    options = check_run_options(words, "ps.iterate")
    if not isinstance(stream, Stream):
        raise GraphError(
            f"ps.iterate takes a stream, got a {type(stream).__name__}; pass what graph.source(...) or a method of it"
            " returned"
        )
    plan = compile_graph(stream.graph, workers=options.workers, outlet=stream.node, outlet_ordered=ordered)
    return Results.of(_make_run(stream.graph, plan, options))


@overload
def imap(fn: type[Handler[T, U]], iterable: Iterable[T], /, **words: Unpack[ImapWords]) -> Results[U]: ...
@overload
def imap(
    fn: Callable[[T], Coroutine[Any, Any, U]], iterable: Iterable[T], /, **words: Unpack[ImapWords]
) -> Results[U]: ...
@overload
def imap(fn: Callable[[T], U], iterable: Iterable[T], /, **words: Unpack[ImapWords]) -> Results[U]: ...
def imap(fn: Any, iterable: Iterable[Any], /, **words: Any) -> Results[Any]:
    """Give `fn(event)` for every event of `iterable`, in order, worked out by several processes.

    Takes the options of `run` and of `Stream.map`; `ordered=False` gives results as they are ready. Endless
    iterables work. Under `on_error="dead_letter"` the `DeadLetter` stands in its result's place.
    """
    check_words(words, RUN_WORDS.union(HANDLER_WORDS), call="ps.imap")
    ordered = words.pop("ordered", True)
    options = check_run_options({k: v for k, v in words.items() if k in RUN_WORDS}, "ps.imap")
    graph = Graph("imap")
    handler_words = {k: v for k, v in words.items() if k in HANDLER_WORDS and k != "workers"}
    stream = graph.source(iterable).map(fn, **handler_words)
    letters = graph.dead_letters() if handler_words.get("on_error") == "dead_letter" else None
    plan = compile_graph(
        graph,
        workers=options.workers,
        outlet=stream.node,
        outlet_ordered=bool(ordered),
        letters_outlet=None if letters is None else letters.node,
    )
    return Results.of(_make_run(graph, plan, options))


def expected_events(plan: Plan, limit: int | None) -> int | None:
    """Give how many events are to be expected, where the sources can tell."""
    hints = [size_hint(source.node.subject) for source in plan.sources]
    known = [hint for hint in hints if hint is not None]
    total = sum(known) if len(known) == len(hints) else None
    if limit is None:
        return total
    return limit if total is None else min(limit, total)


def _checked_graph(graph: Graph, call: str) -> Graph:
    if not isinstance(graph, Graph):
        raise GraphError(f"{call} takes a Graph, got a {type(graph).__name__}; for a stream use ps.iterate")
    return graph


def _make_run(graph: Graph, plan: Plan, options: RunOptions) -> ProcessRun | InlineRun:
    if options.runner == "inline":
        claim_iterators(graph, [source.node for source in plan.sources])
        return InlineRun(plan, options)
    plan.shipped = ship(plan)
    claim_iterators(graph, [source.node for source in plan.sources])
    return ProcessRun(plan, options)
