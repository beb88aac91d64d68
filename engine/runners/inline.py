"""The inline runner: the whole graph in the calling thread, without sockets or processes; its results are the reference.

Decides only how much is read at once; numbering, steps, failures and delivery are the same code that processes use.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

from ...nodes.execution.executor import Executor
from ...nodes.execution.kept_steps import KeptSteps
from ...nodes.handlers import build_all
from ...nodes.ordering.cuts import Cut
from ...nodes.ordering.sequencer import Chunk, Sequencer
from ...nodes.program.column import Column
from ...nodes.program.program import NO_ORDERS, Answer, Orders
from ..codec.copying import safe_copies
from ..codec.pickling import dumps
from ..codec.stored_values import restore_stored
from ..core.topology import PAUSES, closes
from ..options import RunOptions
from ..plan.plan import Plan
from ..reporting.report import RunReport
from ..sources.direct import DirectSource
from ..sources.resumed import too_short
from .caller import CallerRun, TurnSize
from .loop_thread import LoopThread

if TYPE_CHECKING:
    from ...nodes.execution.async_executor import AsyncExecutor
    from ..checkpoints.checkpoints import Checkpoints
    from .kept_calls import KeptCalls

_LOG = logging.getLogger("sluiceway")
#: A turn reads, handles and delivers as many events as take about this long, in seconds.
_TURN_S = 0.005
_MAX_TURN = 4096


class InlineRun(CallerRun):
    """One run of a plan in the calling thread."""

    def __init__(self, plan: Plan, options: RunOptions, checkpoints: Checkpoints | None = None) -> None:
        super().__init__(plan, options, options.lock, checkpoints)
        self._checkpoints = checkpoints
        self._goes_on = checkpoints is not None and not checkpoints.repeats  #: from the last checkpoint, when it is begun again
        self._commits = plan.commits or self._goes_on
        self._sequencer = Sequencer(
            len(plan.sources), plan.order, options.limit, checkpoints.order_log if checkpoints is not None else None
        )
        self._sources = [DirectSource(source, plan.key if self._sequencer.merges else None) for source in plan.sources]
        self._turn = TurnSize(_TURN_S, _MAX_TURN)
        #: The source that was read last, where sources take turns.
        self._source = 0
        self._commit_at = self._began + options.checkpoint_interval_s
        self._kept: KeptCalls | None = None
        self._kept_steps: KeptSteps | None = None
        if checkpoints is not None and checkpoints.kept is not None and not checkpoints.finished:
            from .kept_calls import KeptCalls  # few runs keep answers, and it takes the stores with it

            self._kept = KeptCalls(checkpoints.kept, checkpoints.answered, lambda: self._sequencer.positions)
            self._kept_steps = KeptSteps(self._kept)
        #: The number that carries no event and means the end of the input, once it is assigned.
        self._end: int | None = None

    @property
    def cut_short(self) -> bool:
        """Whether the run ended before its end without an error, so that what was written is not the whole."""
        return self._stopped in ("interrupt", "closed") or (self._goes_on and self._stopped in PAUSES)

    def interrupt(self) -> None:
        """End the reading; what was read is still delivered."""
        self._stop_reading("interrupt")

    def report(self) -> RunReport:
        """Return the report as of now."""
        read = self._sequencer.next - self._pipeline.delivery.sinks.first - (self._end is not None)
        fraction = self._sources[0].fraction if len(self._sources) == 1 else None
        report = self._report(read=max(0, read), fraction=fraction, runner="inline")
        report.recalled = self._kept.recalled if self._kept is not None else 0
        return report

    def _work(self) -> Iterator[list[Any]]:
        closers: list[Callable[[], Any]] = []
        with LoopThread() as loop:
            try:
                if self._kept is not None:
                    self._kept.start()
                if self._checkpoints is None or not self._checkpoints.finished:
                    yield from self._turns(self._executor(loop, closers))
            finally:
                if not self.is_forked():
                    if self._kept is not None:
                        self._kept.close()
                    _close_handlers(loop, closers)
                    for source in self._sources:
                        source.close()

    def _executor(
        self, loop: LoopThread, closers: list[Callable[[], Any]]
    ) -> Callable[[list[Column], Orders], Answer]:
        program = self._plan.whole.program
        nodes = [step.node for step in program.steps]

        if not program.needs_loop:
            handlers = build_all(self._plan.whole.handlers, closers, nodes=nodes)
            plain = Executor(program, handlers, safe_copies, kept=self._kept_steps)
            self._resume(plain)
            return plain.run

        from ...nodes.execution.async_executor import AsyncExecutor  # brings asyncio along; most graphs await nothing

        ordered = any(pool.ordered for pool in self._plan.pools)

        async def make_inside() -> AsyncExecutor:
            handlers = build_all(self._plan.whole.handlers, closers, nodes=nodes)
            return AsyncExecutor(
                program, handlers, safe_copies, ordered=ordered, is_ending=lambda: loop.cancelled, kept=self._kept_steps
            )

        executor = loop.run(make_inside())
        self._resume(executor)
        self._turn.size = max(step.options.concurrency for step in program.steps)
        return lambda ports, orders: loop.run(executor.run(ports, orders))

    def _resume(self, executor: Executor | AsyncExecutor) -> None:
        """Continue at the cut that the previous run committed."""
        self._executed = executor
        if self._checkpoints is None or self._checkpoints.saved is None:
            return
        saved = self._checkpoints.saved
        self._sequencer.resume(saved.n, self._checkpoints.places, saved.turn)
        for packed in self._checkpoints.packed().values():
            restore_stored(executor.states.restore, packed, f"a state of graph {self._plan.name!r}")

    def _turns(self, run: Callable[[list[Column], Orders], Answer]) -> Iterator[list[Any]]:
        shrink = not self._plan.whole.program.needs_loop
        while not self._sequencer.finished:
            started = monotonic()
            self._owner.refuse_if_forked(self.name)
            if self._stopped == "closed":
                return
            self._check_ends(started)
            self._pipeline.delivery.sinks.lock.check_if_due(started)
            if self._stopped is None:
                self._read()
            if self._commits and monotonic() >= self._commit_at:
                self._commit()
            chunk = self._sequencer.number_next(self._turn.size)
            if chunk is None:
                if self._stopped is not None:
                    break
                continue
            assert chunk.items is not None
            self._pipeline.delivery.sinks.log(self._sequencer.take_log())
            lo = self._sequencer.next - chunk.size
            answer = run([Column(lo, chunk.size, chunk.items)], NO_ORDERS)
            if self._kept is not None:
                self._kept.wait()  # nothing is released that does not follow from durable answers
            yield from self._pipeline.deliver(answer)
            del chunk, answer  # nothing handled is kept while the next events are waited for
            self._progress.show_if_due(self.report)
            self._turn.adapt(monotonic() - started, shrink=shrink)
        if self._sequencer.limited:
            self._stop_reading("limit")
        for source in self._sources:
            if source.error is not None:
                raise source.error
        if self._plan.wiring.needs_end and closes(self._stopped, resumes=self._goes_on):
            self._end = self._sequencer.next
            self._sequencer.skip_to(self._end + 1)
            yield from self._pipeline.deliver(run([Column(self._end, 1, [], [0])], Orders(end=self._end)))
        if self._commits:
            self._commit(final=True)

    def _commit(self, final: bool = False) -> None:
        """Commit what is delivered, which is every number so far, and acknowledge it to the sources."""
        sequencer = self._sequencer
        cut = Cut(sequencer.next, sequencer.positions, sequencer.turn, final, self._stopped)
        if self._goes_on and self._executed.states:
            cut.states[0] = dumps(self._executed.states.snapshot())
        self._pipeline.delivery.sinks.commit_cut(cut)
        if self._kept is not None and self._goes_on:
            self._kept.trim(cut.n)
        for source, place in zip(self._sources, self._sequencer.positions, strict=True):
            if place.position is not None and source.listens:
                source.acknowledge(place.position)
        self._commit_at = monotonic() + self._options.checkpoint_interval_s

    def _check_ends(self, now: float) -> None:
        options = self._options
        if options.time_limit_s is not None and now - self._began >= options.time_limit_s:
            self._stop_reading("time_limit")
        if options.stop is not None and options.stop.is_set():
            self._stop_reading("stop")

    def _read(self) -> None:
        """Read from the sources: in turn where they are numbered by arrival, else wherever an event is missing."""
        live = [at for at in range(len(self._sources)) if not self._sequencer.has_ended(at)]
        if not self._sequencer.merges and live:
            self._source = next((at for at in live if at > self._source), live[0])
            live = [self._source]
        for at in live:
            if not self._sequencer.buffered(at):
                self._read_from(at)
        if any(source.error is not None for source in self._sources):
            for at in range(len(self._sources)):
                if not self._sequencer.has_ended(at):
                    self._sequencer.record_end(at, early=True)

    def _read_from(self, at: int) -> None:
        remaining = self._sequencer.remaining  # what is behind the limit may be wanted by whoever owns the iterator
        size = self._turn.size if remaining is None else max(1, min(self._turn.size, remaining))
        events, keys, ended = self._sources[at].read(size)
        marks = self._sources[at].marks(len(events))
        self._sequencer.offer(at, Chunk(len(events), payload=None, items=events, keys=keys, marks=marks))
        if ended:
            self._sequencer.record_end(at, early=self._sources[at].error is not None)
            if self._stopped is None and self._sources[at].error is None and self._sequencer.lacks(at):
                self._sources[at].error = too_short(self._plan.sources[at].node.name)


def _close_handlers(loop: LoopThread, closers: list[Callable[[], Any]]) -> None:
    """Close the handlers, the last built first; what they raise is logged, as in a worker."""
    for close in reversed(closers):
        try:
            loop.close_with(close)
        except Exception:
            _LOG.warning("the close() of a handler raised", exc_info=True)
