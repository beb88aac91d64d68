"""A run in processes, in its caller's thread: starts the hub, delivers what it releases, raises how it ended.

Decides which error a run raises, and that no call returns before the hub and its children are gone.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Generator, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

from ...nodes.errors import describe
from ...nodes.sources import size_hint
from ..core.effects import Commit, Deliver, DeliverLoose
from ..core.topology import PAUSES
from ..delivery.delivery import Comparison, Delivery
from ..delivery.sinks import opened
from ..hub.hub import Hub
from ..hub.outcome import Outcome, error_of
from ..interpreter.forks import OwnerProcess
from ..local.backend import ChildBackend
from ..local.site import LocalSite, Site
from ..options import RunOptions
from ..plan.plan import Plan
from ..plan.shipping import set_up_caller
from ..reporting.expected import ExpectedEvents
from ..reporting.figures import report_of
from ..reporting.life import RunLife
from ..reporting.live import BackendView, FlowView, LetterLog, LiveRun
from ..reporting.progress import ProgressTimer
from ..reporting.report import RunReport
from ..sources.held_feed import HeldFeed

if TYPE_CHECKING:
    from ..checkpoints.checkpoints import Checkpoints

#: How long the caller's thread waits at a time, in seconds, so that progress is also shown when nothing arrives.
_WAIT_S = 0.5
#: How long the hub may take to answer who watches the run, in seconds: it answers in the time of one message.
_LOOK_S = 1.0


def default_workers() -> int:
    """Return the number of workers of a pool on this machine where neither the graph nor the run sets one."""
    return LocalSite().default_workers()


class ProcessRun:
    """One run of a plan in processes; iterate `batches` to drive it.

    The children are at `site`, which the run closes. With `paused` the workers start and nothing is read until `begin`;
    `work` then delivers from that number on.
    """

    def __init__(
        self,
        plan: Plan,
        options: RunOptions,
        site: Site,
        *,
        paused: bool = False,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._plan = plan
        self._setup = options.setup
        self._delivery = Delivery(plan, lock=options.lock, checkpoints=checkpoints)
        self._delivery.letter_log = LetterLog(show_events=options.serve.show_events) if options.serve is not None else None
        self._site = site
        backend = ChildBackend(plan, options, site, paused=paused)
        self._hub = Hub(plan, options, backend, paused=paused, checkpoints=checkpoints)
        self._checkpoints = checkpoints
        self._drain_s = options.drain_s
        self._progress = ProgressTimer(options.progress)
        self._life = RunLife(plan.name)
        self._outcome: Outcome | None = None
        self._ended_s: float | None = None
        self._finished = False
        self.error: BaseException | None = None
        #: Whether `work` waits for what is delivered; else it yields an empty list where nothing is there.
        self.waits = True
        self._owner = OwnerProcess()
        self._begun = False
        hints = [size_hint(source.node.subject) for source in plan.sources]
        self._expected = ExpectedEvents(hints, options.limit, self._delivery.sinks.first)

    @property
    def cut_short(self) -> bool:
        """Whether the run ended before its end without an error, so that what was written is not the whole."""
        ended_by = "" if self._outcome is None else self._outcome.ended_by
        paused = self._checkpoints is not None and not self._checkpoints.repeats and ended_by in PAUSES
        return paused or ended_by in ("interrupt", "closed")

    @property
    def name(self) -> str:
        """The name of the graph."""
        return self._plan.name

    @property
    def works_in_caller(self) -> bool:
        """Whether the thread that drives the run does more than take results: sinks, steps, commits."""
        return not self._delivery.only_consumer or self._checkpoints is not None

    @property
    def has_results(self) -> bool:
        """Whether the next step of a run that does not wait gives something."""
        return not self._begun or not self._hub.deliveries.empty()

    def set_waits(self, waits: bool) -> None:
        """Set whether `work` waits for what is delivered."""
        self.waits = waits

    def listen(self, notify: Callable[[], None]) -> None:
        """Have `notify` called, in another thread, when there are results again."""
        self._hub.listener = notify

    def stop(self) -> None:
        """End the run soon, as `closed`; for any thread."""
        if not self._finished:
            self._hub.abort("closed")

    def interrupt(self) -> None:
        """End the reading and release what is in flight, within the deadline."""
        self._hub.interrupt(monotonic() + self._drain_s)

    def report(self) -> RunReport:
        """Return the report as of now."""
        hub, delivery = self._hub, self._delivery
        wall = (self._ended_s or monotonic()) - hub.began
        ended = "" if self._outcome is None else self._outcome.ended_by
        report = report_of(
            hub.core,
            graph=self._plan.name,
            events_out=delivery.events_out,
            wall_s=wall,
            read_s=hub.read_s or wall,
            ended_by="error" if self.error is not None or self._life.failed else ended,
            expected=self._expected.estimate(hub.core.events_in, hub.fraction),
        )
        report.runner = self._site.name
        hub.backend.complete(report)
        report.unmatched += delivery.unmatched
        report.restart_p50_s, report.restart_p99_s = hub.restarts.quantile_s(0.5), hub.restarts.quantile_s(0.99)
        if self._outcome is not None:
            report.children = self._outcome.children
        return self._life.stamp(report)

    @property
    def plan(self) -> Plan:
        """The plan that is run."""
        return self._plan

    def live(self) -> LiveRun:
        """Return what the run is doing now; for any thread. Waits for the hub, but not for long."""
        seen: queue.SimpleQueue[tuple[FlowView, BackendView] | None] = queue.SimpleQueue()
        looked, answers = None, True
        if self._begun and not self._finished:
            self._hub.look(seen.put)
            try:
                looked = seen.get(timeout=_LOOK_S)
            except queue.Empty:
                answers = False
        flow, backend = looked if looked is not None else (FlowView(), BackendView())
        log = self._delivery.letter_log
        return LiveRun(
            self.report(),
            open=looked is not None and self._hub.reads and flow.workers_ready and backend.sources_open,
            flow=flow,
            workers=backend.workers,
            letters=log.last if log is not None else (),
            committed=self._delivery.sinks.committed,
            answers=answers,
        )

    def batches(self) -> Generator[list[Any], None, None]:
        """Run to the end; yields the consumer's events in lists. Raises what ended the run."""
        try:
            with self._life.logged(self.report, self._owner.is_forked):
                set_up_caller(self._plan, self._setup)
                with opened(self._delivery.sinks, self):
                    if self._checkpoints is not None and self._checkpoints.finished:
                        self._outcome, self._finished = Outcome("source"), True
                        return
                    self._begun = True
                    self._hub.start()
                    yield from self.work()
        finally:
            if not self._owner.is_forked():
                self._progress.show_last(self.report)
                self._site.close()

    def work(self) -> Iterator[list[Any]]:
        """Deliver what the started hub releases until it ends, and raise the error that ended it."""
        self._begun = True
        why = "error"
        try:
            yield from self._deliver_all()
        except GeneratorExit:
            why = "closed"
            raise
        finally:
            if not self._owner.is_forked():  # a fork of the caller leaves the run alone
                self._finish(why)
        assert self._outcome is not None
        ended = error_of(self._outcome, self._delivery.delivered, self._hub.core.sequencer.next)
        if ended is not None:
            if self._delivery.comparison is not None:
                self._delivery.comparison.refute(f"workers fail where it did not fail here: {describe(ended)}")
            raise ended

    # -- for a run that begins in the calling thread ------------------------------------------------------------

    def start(self) -> None:
        """Start the workers of a paused run."""
        self._hub.start()

    def wait_until_up(self, seconds: float) -> bool:
        """Wait until the first worker is ready or the run is over; return whether that happened in time."""
        return self._hub.up.wait(seconds)

    def begin(self, number: int, feed: HeldFeed, comparison: Comparison) -> None:
        """Start reading from `feed`, whose next event is `number`, in a paused run.

        What it gives is delivered once `comparison` is complete; until then `work` raises `Refuted` for any difference
        and any failure, and has ended the processes.
        """
        self._delivery.delivered = number
        self._delivery.comparison = comparison
        self._hub.begin(number, feed)

    def abandon(self) -> None:
        """End a run whose `work` was never called, or has ended; no effect if it is over."""
        if not self._finished:
            self._finish("closed")

    # -- parts of `work` ----------------------------------------------------------------------------------------

    def _deliver_all(self) -> Iterator[list[Any]]:
        deliveries, delivery, hub = self._hub.deliveries, self._delivery, self._hub
        while True:
            self._owner.refuse_if_forked(self._plan.name)
            self._progress.show_if_due(self.report)
            delivery.sinks.lock.check_if_due(monotonic())
            try:
                effect = deliveries.get(timeout=_WAIT_S) if self.waits else deliveries.get_nowait()
            except queue.Empty:
                if not self.waits:
                    yield []
                continue
            if isinstance(effect, Deliver):
                yield from delivery.deliver(effect, hub.record_consumed)
            elif isinstance(effect, Commit):
                delivery.sinks.commit_cut(effect.cut)
                hub.record_commit(effect.cut.n)
            elif isinstance(effect, DeliverLoose):
                yield from delivery.loose(effect)
                hub.record_loose_consumed(effect.stream, effect.lo, effect.hi)
            else:
                self._outcome = effect
                return
            del effect  # and the events in it, while the next one is waited for

    def _finish(self, why: str) -> None:
        """End the run if it has not ended, and wait until the hub and its children are gone.

        A Ctrl-C meanwhile, at whatever line, shortens this and is raised afterwards.
        """
        interrupted: KeyboardInterrupt | None = None
        while not self._finished:
            try:
                self._hub.abort(why)
                if self._hub.join(_WAIT_S):
                    self._take_outcome(why)
                    self._finished = True
            except KeyboardInterrupt as error:
                interrupted = error
                self._hub.hurry()
        self._ended_s = self._ended_s or monotonic()
        if interrupted is not None:
            raise interrupted

    def _take_outcome(self, why: str) -> None:
        """Drop what the ended hub still delivers, up to how the run ended."""
        while self._outcome is None:
            try:
                effect = self._hub.deliveries.get_nowait()
            except queue.Empty:
                effect = Outcome(why)  # its thread was never started
            if isinstance(effect, Outcome):
                self._outcome = effect
