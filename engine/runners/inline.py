"""The inline runner: the whole graph in the calling thread, without sockets or processes. What it gives is the reference.

Decides only how much is read at once; numbering, steps, failures and delivery are the same code that processes use.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

from ...nodes.execution.executor import Executor
from ...nodes.handlers import build_all
from ...nodes.ordering.cuts import Cut
from ...nodes.ordering.sequencer import Chunk, Sequencer
from ...nodes.program.column import Column
from ...nodes.program.program import NO_ORDERS, Answer, Orders
from ..checkpoints.checkpoints import PAUSES, Checkpoints
from ..codec.copying import safe_copies
from ..codec.pickling import dumps
from ..codec.stored_values import restore_stored
from ..core.topology import closes
from ..delivery.sinks import opened
from ..options import RunOptions
from ..plan.plan import Plan
from ..reporting.progress import Clock
from ..reporting.report import RunReport
from ..sources.direct import DirectSource
from ..sources.resumed import shorter
from .caller import Here
from .loop_thread import LoopThread

if TYPE_CHECKING:
    from ...nodes.execution.async_executor import AsyncExecutor

_LOG = logging.getLogger("sluiceway")
#: A turn reads, handles and delivers so many events that it takes about this long, in seconds.
_TURN_S = 0.005
_MOST = 4096


class InlineRun:
    """One run of a plan in this thread; iterate `batches` to drive it."""

    def __init__(self, plan: Plan, options: RunOptions, checkpoints: Checkpoints | None = None) -> None:
        self._checkpoints = checkpoints
        self._commits = plan.commits or checkpoints is not None
        self._plan = plan
        self._options = options
        self._here = Here(plan, options.lock, checkpoints)
        self._sequencer = Sequencer(
            len(plan.sources), plan.order, options.limit, checkpoints.order_log if checkpoints is not None else None
        )
        self._sources = [DirectSource(source, plan.key if self._sequencer.merges else None) for source in plan.sources]
        self._clock = Clock(options.progress)
        self._turn = 0
        self._most = 1
        self._began = monotonic()
        self._ended_s: float | None = None
        self._stopped: str | None = None
        self._commit_at = self._began + options.checkpoint_interval_s
        #: The number that carries no event and stands for the end of the input, once it is given.
        self._end: int | None = None
        self.error: BaseException | None = None

    @property
    def cut_short(self) -> bool:
        """Whether the run ended before its end without an error, so that what was written is not the whole."""
        return self._stopped == "interrupt" or (self._checkpoints is not None and self._stopped in PAUSES)

    def interrupt(self) -> None:
        """End the reading; what was read is still delivered."""
        self._stop_reading("interrupt")

    def _stop_reading(self, why: str) -> None:
        self._stopped = self._stopped or why

    def report(self) -> RunReport:
        """Give the report as of now."""
        return self._here.report(
            read=max(0, self._sequencer.next - self._here.delivery.sinks.first - (self._end is not None)),
            wall_s=(self._ended_s or monotonic()) - self._began,
            ended_by="error" if self.error is not None else self._stopped or "source",
            runner="inline",
        )

    def batches(self) -> Generator[list[Any], None, None]:
        """Run to the end; yields the consumer's events in lists. Raises what ended the run."""
        closers: list[Callable[[], Any]] = []
        try:
            with opened(self._here.delivery.sinks, self), LoopThread() as loop:
                try:
                    if self._checkpoints is None or not self._checkpoints.finished:
                        yield from self._turns(self._executor(loop, closers))
                finally:
                    _close_handlers(loop, closers)
                    for source in self._sources:
                        source.close()
        except GeneratorExit:
            self._stopped = "closed"
            raise
        finally:
            self._ended_s = monotonic()
            self._clock.show(self.report)

    def _executor(
        self, loop: LoopThread, closers: list[Callable[[], Any]]
    ) -> Callable[[list[Column], Orders], Answer]:
        program = self._plan.whole

        if not program.needs_loop:
            plain = Executor(program, build_all(self._plan.whole_handlers, closers), safe_copies)
            self._resume(plain)
            return plain.run

        from ...nodes.execution.async_executor import AsyncExecutor  # brings asyncio along; most graphs await nothing

        ordered = any(pool.ordered for pool in self._plan.pools)

        async def make_inside() -> AsyncExecutor:
            return AsyncExecutor(program, build_all(self._plan.whole_handlers, closers), safe_copies, ordered=ordered)

        executor = loop.run(make_inside())
        self._resume(executor)
        self._most = max(step.options.concurrency for step in program.steps)
        return lambda ports, orders: loop.run(executor.run(ports, orders))

    def _resume(self, executor: Executor | AsyncExecutor) -> None:
        """Go on where the run before has committed a cut."""
        self._executed = executor
        if self._checkpoints is None or self._checkpoints.saved is None:
            return
        saved = self._checkpoints.saved
        self._sequencer.resume(saved.n, self._checkpoints.places, saved.turn)
        for packed in self._checkpoints.packed().values():
            restore_stored(executor.states.restore, packed, f"a state of graph {self._plan.name!r}")

    def _turns(self, run: Callable[[list[Column], Orders], Answer]) -> Iterator[list[Any]]:
        while not self._sequencer.finished:
            started = monotonic()
            self._check_ends(started)
            self._here.delivery.sinks.lock.check_if_due(started)
            if self._stopped is None:
                self._read()
            if self._commits and monotonic() >= self._commit_at:
                self._commit()
            chunk = self._sequencer.take(self._most)
            if chunk is None:
                if self._stopped is not None:
                    break
                continue
            assert chunk.items is not None
            self._here.delivery.sinks.log(self._sequencer.unlogged())
            lo = self._sequencer.next - chunk.size
            answer = run([Column(lo, chunk.size, chunk.items)], NO_ORDERS)
            yield from self._here.settle(answer)
            self._clock.tick(self.report)
            self._adapt(monotonic() - started)
        if self._sequencer.limited:
            self._stop_reading("limit")
        for source in self._sources:
            if source.error is not None:
                raise source.error
        if self._plan.wiring.needs_end and closes(self._stopped, resumes=self._checkpoints is not None):
            self._end = self._sequencer.next
            self._sequencer.skip(self._end + 1)
            yield from self._here.settle(run([Column(self._end, 1, [], [0])], Orders(end=self._end)))
        if self._commits:
            self._commit(final=True)

    def _commit(self, final: bool = False) -> None:
        """Commit what is delivered, which is everything that has a number, and tell the sources."""
        sequencer = self._sequencer
        cut = Cut(sequencer.next, sequencer.positions, sequencer.turn, final, self._stopped)
        if self._checkpoints is not None and self._executed.states:
            cut.states[0] = dumps(self._executed.states.snapshot())
        self._here.delivery.sinks.commit_cut(cut)
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

    def _adapt(self, seconds: float) -> None:
        if seconds < _TURN_S / 2:
            self._most = min(_MOST, self._most * 2)
        elif seconds > 2 * _TURN_S and not self._plan.whole.needs_loop:
            self._most = max(1, self._most // 2)

    def _read(self) -> None:
        """Read from the sources: in turn where they are numbered by arrival, else wherever an event is missing."""
        live = [at for at in range(len(self._sources)) if not self._sequencer.ended(at)]
        if not self._sequencer.merges and live:
            self._turn = next((at for at in live if at > self._turn), live[0])
            live = [self._turn]
        for at in live:
            if not self._sequencer.buffered(at):
                self._read_from(at)
        if any(source.error is not None for source in self._sources):
            for at in range(len(self._sources)):
                if not self._sequencer.ended(at):
                    self._sequencer.end(at, early=True)

    def _read_from(self, at: int) -> None:
        events, keys, ended = self._sources[at].read(self._most)
        marks = self._sources[at].marks(len(events))
        self._sequencer.offer(at, Chunk(len(events), payload=None, items=events, keys=keys, marks=marks))
        if ended:
            self._sequencer.end(at, early=self._sources[at].error is not None)
            if self._stopped is None and self._sources[at].error is None and self._sequencer.lacks(at):
                self._sources[at].error = shorter(self._plan.sources[at].node.name)


def _close_handlers(loop: LoopThread, closers: list[Callable[[], Any]]) -> None:
    """Close the handlers, the last built first; what they raise is logged, as in a worker."""
    for close in reversed(closers):
        try:
            loop.close_with(close)
        except Exception:
            _LOG.warning("the close() of a handler raised", exc_info=True)
