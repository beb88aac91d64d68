"""Running: `run`, `iterate`, `imap` and `compile`, on the caller's thread.

Decides which runner drives a graph, what is raised to its caller, and what leaving early means. The compiler decides
which node runs where; the hub and its core decide what passes between processes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Coroutine, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from ..graphs.builder.checks import claim_iterators
from ..graphs.builder.graph import Graph
from ..graphs.builder.option_names import RUN_OPTION_NAMES, check_option_names
from ..graphs.builder.spec import GraphSpec
from ..graphs.builder.streams import Stream
from ..nodes.errors import GraphError, SluicewayError, kind_of
from ..nodes.handlers import Handler
from ..nodes.meanings import explain_options, means
from ..nodes.program.options import HANDLER_OPTION_NAMES, HandlerOptions, NodeNaming, Options
from .delivery.run_lock import AcquiredLock
from .interpreter.surroundings import refuse_surroundings
from .local.site import LocalSite, Site
from .options import RunKeywords, Runner, RunOptions, check_run_options
from .plan.compiler import compile_graph
from .plan.end_checks import check_apart, missing_input
from .plan.plan import Plan
from .plan.shipping import refuse_inside_import, ship
from .ray_runner import RayRunner
from .reporting.report import RunReport
from .runners.auto import AutoRun
from .runners.inline import InlineRun
from .runners.placement import may_start_in_caller
from .runners.processes import ProcessRun
from .runners.processes import default_workers as default_workers  # also for the command line
from .runners.results import Results, Run
from .runners.signals import AfterRun as AfterRun
from .runners.signals import Interrupts

if TYPE_CHECKING:
    from .checkpoints.checkpoints import Checkpoints
    from .page.serving import Serving

_LOG = logging.getLogger("sluiceway")

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultOptions:
    """What `imap` has beside the options of `run` and `Stream.map`, or with another default."""

    ordered: bool = field(default=True, metadata=means("`False`: results come as they are ready"))


class ImapKeywords(RunKeywords, HandlerOptions, total=False):
    """The keyword arguments of `imap`: those of `run` and those of `Stream.map`."""


def compile(graph: Graph, /, *, workers: int | None = None, runner: Runner = "processes") -> Plan:
    """Check a graph and place its nodes into processes without starting anything.

    `workers` is the number of processes of each pool that sets none itself; for `runner="ray"` this asks the cluster
    what it has. Raises `GraphError` for a graph that cannot run, also for a handler that cannot be sent to a worker.
    """
    options = check_run_options({"workers": workers, "runner": runner}, "sw.compile")
    site = _site_of(options)
    try:
        plan = _compile(_checked_graph(graph, "sw.compile"), options, site)
        ship(plan)
    finally:
        site.close()
    return plan


def run(graph: Graph, /, **options: Unpack[RunKeywords]) -> RunReport:
    """Run a graph to its end and return the report.

    Sinks run in the calling thread. Raises `GraphError` before anything starts, `HandlerError`, `SourceError`,
    `SinkError` for user code that failed, `KeyboardInterrupt` after a Ctrl-C; each `SluicewayError` carries `report`.
    """
    return _run(*_make_run(_checked_graph(graph, "sw.run"), check_run_options(options, "sw.run")))


def _run(running: Run, shown: AbstractContextManager[object]) -> RunReport:
    """Drive a run to its end, inside of what is to be entered around it, and return its report."""
    with shown:
        interrupts = Interrupts(running)
        with interrupts:
            try:
                for _ in running.batches():
                    continue
            except SluicewayError as error:
                error.report = running.report()
                raise
        interrupts.reraise()
    return running.report()


def mend(
    graph: Graph, /, *, numbers: Collection[int] | None = None, **options: Unpack[RunKeywords]
) -> RunReport:
    """Handle again what failed in a run with `checkpoint=` and `keep="all"`, and write its files anew; return the report.

    Correct the handler, or the data in its place, and make the call of the run with `mend`: durable handlers are called for
    the numbers that they skipped or made dead letters of, or for those of `numbers`, and for nothing else. Each result stands
    at its place, what is still bad stays a dead letter. The new files replace the old ones at once. Raises `GraphError` for
    sinks that are no files, or that are appended to, and `CheckpointError` where not all answers were kept.
    """
    checked = replace(check_run_options(options, "sw.mend"), keep="all")
    if checked.checkpoint is None or checked.resume != "auto":
        raise GraphError("sw.mend needs checkpoint=, the one of the run that is to be mended, and no resume=; name it")
    return _run(*_make_run(_checked_graph(graph, "sw.mend"), checked, mends=True, numbers=numbers))


def iterate(stream: Stream[T], /, *, ordered: bool = True, **options: Unpack[RunKeywords]) -> Results[T]:
    """Run a stream's graph and return its events as an iterator, in order, in the calling process.

    With `ordered=False` they come as they are ready. Nothing starts before the first event is requested. With `checkpoint`
    the same call, made again, gives all events again from the first; durable handlers are not called for what is kept.
    """
    checked = check_run_options(options, "sw.iterate")
    if not isinstance(stream, Stream):
        raise GraphError(
            f"sw.iterate takes a stream, got {kind_of(stream)}; pass what graph.source(...) or a method of it"
            " returned"
        )
    return Results.of(*_make_run(stream.graph, checked, outlet=stream.node, outlet_ordered=ordered))


@overload
def imap(fn: type[Handler[T, U]], iterable: Iterable[T], /, **options: Unpack[ImapKeywords]) -> Results[U]: ...
@overload
def imap(
    fn: Callable[[T], Coroutine[Any, Any, U]], iterable: Iterable[T], /, **options: Unpack[ImapKeywords]
) -> Results[U]: ...
@overload
def imap(fn: Callable[[T], U], iterable: Iterable[T], /, **options: Unpack[ImapKeywords]) -> Results[U]: ...
def imap(fn: Any, iterable: Iterable[Any], /, *more: Any, **options: Any) -> Results[Any]:
    """Return `fn(event)` for every event of `iterable`, in order, computed by several processes.

    Takes the options of `run` and of `Stream.map`; `ordered=False` returns results as they are ready. Endless
    iterables work. Under `on_error="dead_letter"` the `DeadLetter` takes the place of the result. With `checkpoint` `fn` is
    durable: the same call, made again after a crash or its end, gives all results again without a call for what is kept.
    """
    if more:
        raise TypeError(
            "sw.imap takes one iterable; for several give it zip(a, b) and lambda event: fn(*event), and options by name"
        )
    check_option_names(options, dict.fromkeys((*RUN_OPTION_NAMES, *HANDLER_OPTION_NAMES)), call="sw.imap")
    ordered = options.pop("ordered", True)
    of_run = check_run_options({k: v for k, v in options.items() if k in RUN_OPTION_NAMES}, "sw.imap")
    graph = Graph("imap")
    of_handler = {k: v for k, v in options.items() if k in HANDLER_OPTION_NAMES and k != "workers"}
    if of_run.checkpoint is not None:
        of_handler.setdefault("durable", True)
    stream = graph.source(iterable).map(fn, **of_handler)
    letters = graph.dead_letters() if of_handler.get("on_error") == "dead_letter" else None
    return Results.of(
        *_make_run(
            graph,
            of_run,
            outlet=stream.node,
            outlet_ordered=bool(ordered),
            letters_outlet=None if letters is None else letters.node,
        )
    )


explain_options(run, RunOptions)
explain_options(mend, RunOptions)
explain_options(iterate, RunOptions)
explain_options(imap, ResultOptions, RunOptions, NodeNaming, Options)


def _checked_graph(graph: Graph, call: str) -> Graph:
    if not isinstance(graph, Graph):
        raise GraphError(f"{call} takes a Graph, got {kind_of(graph)}; for a stream use sw.iterate")
    return graph


def _compile(graph: GraphSpec, options: RunOptions, site: Site, **outlets: Any) -> Plan:
    """Return the plan of a graph for the workers of the options; `outlets` are for the compiler."""
    workers = options.workers if options.workers is not None else site.default_workers()
    plan = compile_graph(graph, workers=workers, seats=site.seats, **outlets)
    if options.runner != "inline":
        site.check_hardware(plan)
    plan.joined_by = site.describe(plan)
    return plan


def _site_of(options: RunOptions) -> Site:
    """Return where the children of a run are; connects to Ray for a run on it."""
    if not isinstance(options.runner, RayRunner):
        return LocalSite(options.transport)
    from .cluster.site import RaySite  # few runs are on a cluster

    return RaySite(options.runner)


def _make_run(
    graph: GraphSpec,
    options: RunOptions,
    *,
    mends: bool = False,
    numbers: Collection[int] | None = None,
    **outlets: Any,
) -> tuple[Run, AbstractContextManager[object]]:
    """Compile a graph and return a run of it, and what is to be entered around it; `outlets` are for the compiler."""
    refuse_inside_import()
    with ExitStack() as undo:
        site = _site_of(options)
        undo.callback(site.close)
        plan = _compile(graph, options, site, **outlets)
        sources = [source.node for source in plan.sources]
        inline = options.runner == "inline"
        if not inline:
            refuse_surroundings()
        in_caller = not inline and isinstance(site, LocalSite) and may_start_in_caller(plan, options)
        serving = _make_serving(options)
        if serving is not None:
            undo.callback(serving.close)
        acquired = None
        if options.lock is not None and options.checkpoint is not None:
            # A standby waits here: checkpoints are read once the previous run has ended.
            acquired = AcquiredLock(options.lock)
            undo.callback(acquired.release)
            options = replace(options, lock=acquired)
        missing = missing_input(plan)
        if missing is not None and not _may_be_resumed(options):
            raise missing
        check_apart(plan, [options.checkpoint, getattr(options.lock, "path", None)])
        checkpoints = None
        if options.checkpoint is not None:
            checkpoints = _open_checkpoints(
                plan, graph, options, inline=inline, repeats=bool(outlets), mends=mends, numbers=numbers
            )
            undo.callback(checkpoints.store.close)
        if missing is not None and (checkpoints is None or checkpoints.saved is None):
            raise missing  # a resumed run opens its sources at their positions, a finished one none
        if checkpoints is not None:
            _log_resumed(plan.name, checkpoints)
        if acquired is not None and checkpoints is not None:
            acquired.close_first(checkpoints.store.close)
        if not inline:
            plan.shipped = ship(plan, options.setup, in_caller=in_caller)
        claim_iterators(graph, sources)
        undo.pop_all()
    run: Run
    if inline:
        run = InlineRun(plan, options, checkpoints)
    elif in_caller:
        run = AutoRun(plan, options)
    else:
        run = ProcessRun(plan, options, site, checkpoints=checkpoints)
    return run, nullcontext() if serving is None else serving.of(run)


def _make_serving(options: RunOptions) -> Serving | None:
    """Return what serves the page of a run, if that is wanted; its port is taken then."""
    if options.serve is None:
        return None
    from .page.serving import Serving  # few runs have a page

    return Serving(options.serve, options.stall_warning_s)


def _may_be_resumed(options: RunOptions) -> bool:
    if options.checkpoint is None:
        return False
    from .checkpoints.open_store import may_be_resumed  # as below

    return may_be_resumed(options.checkpoint, options.resume)


def _open_checkpoints(plan: Plan, graph: GraphSpec, options: RunOptions, **how: Any) -> Checkpoints:
    from .checkpoints.checkpoints import open_checkpoints  # sqlite3 and much else comes with it, which few runs need

    assert options.checkpoint is not None
    return open_checkpoints(
        plan,
        graph.nodes,
        checkpoint=options.checkpoint,
        resume=options.resume,
        locked=options.lock is not None,
        limit=options.limit,
        kept_bytes=options.kept_bytes,
        keeps_all=options.keep == "all",
        **how,
    )


def _log_resumed(graph: str, checkpoints: Checkpoints) -> None:
    saved, place = checkpoints.saved, checkpoints.store.place
    if saved is not None and checkpoints.finished:
        _LOG.info("graph %r has finished before, by %s: nothing is read", graph, place)
    elif saved is not None:
        _LOG.info("graph %r goes on at number %d, by %s", graph, saved.n, place)
    for node, runs in checkpoints.answered.items():
        if runs:
            _LOG.info("node %r was answered for %d numbers, by %s", node, sum(hi - lo for lo, hi in runs), place)
