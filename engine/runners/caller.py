"""What runs in the calling thread share: the whole graph as one program, its delivery, its end and its report.

Decides what becomes of an answer and its failures, how a run ends, and how large its turns are. Knows nothing of
reading and numbering: that is the inline runner's, or that of a run that begins in the calling thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from ...nodes.events import DeadLetter, Failure
from ...nodes.locks import Lock
from ...nodes.program.program import Answer, Tally
from ...nodes.sources import size_hint
from ..core.effects import MAX_SKIP_WARNINGS
from ..delivery.delivery import Delivery
from ..delivery.sinks import opened
from ..interpreter.forks import OwnerProcess
from ..options import RunOptions
from ..plan.plan import Plan
from ..plan.shipping import set_up_caller
from ..reporting.expected import ExpectedEvents
from ..reporting.failures import failure_error, warn_skipped
from ..reporting.figures import add_tallies, is_reported, node_report
from ..reporting.life import RunLife
from ..reporting.live import FlowView, LetterLog, LiveRun
from ..reporting.progress import ProgressTimer
from ..reporting.report import RunReport

if TYPE_CHECKING:
    from ..checkpoints.checkpoints import Checkpoints


class CallerRun(ABC):
    """One run in the calling thread; iterate `batches` to drive it. Subclasses read, number and handle in `_work`."""

    def __init__(self, plan: Plan, options: RunOptions, lock: Lock | None, checkpoints: Checkpoints | None) -> None:
        self._plan = plan
        self._options = options
        self._pipeline = CallerPipeline(plan, lock, checkpoints)
        self._progress = ProgressTimer(options.progress)
        self._life = RunLife(plan.name)
        self._open = False  #: whether the sinks are open and the sources are read
        self._log = LetterLog(show_events=options.serve.show_events) if options.serve is not None else None
        self._pipeline.delivery.letter_log = self._log
        hints = [size_hint(source.node.subject) for source in plan.sources]
        self._expected = ExpectedEvents(hints, options.limit, self._pipeline.delivery.sinks.first)
        self._began = monotonic()
        self._ended_s: float | None = None
        #: Why reading ended before the end of the sources, if it did.
        self._stopped: str | None = None
        self.error: BaseException | None = None
        #: Whether a part in processes waits for what it delivers; else it yields an empty list.
        self.waits = True
        self._owner = OwnerProcess()

    @property
    def name(self) -> str:
        """The name of the graph."""
        return self._plan.name

    @property
    def plan(self) -> Plan:
        """The plan that is run."""
        return self._plan

    def live(self) -> LiveRun:
        """Return what the run is doing now; for any thread."""
        report, delivery = self.report(), self._pipeline.delivery
        read = max(0, report.events_in - report.released)
        head = report.released + delivery.sinks.first
        return LiveRun(
            report,
            open=self._open and not self._life.over,
            flow=FlowView(
                head=head,
                in_flight=read,
                limit_bytes=self._options.window_bytes,
                limit_numbers=self._options.window_numbers,
            ),
            letters=self._log.last if self._log is not None else (),
            committed=delivery.sinks.committed,
        )

    @property
    def works_in_caller(self) -> bool:
        """Whether the thread that drives the run does more than take results."""
        return True

    @property
    def has_results(self) -> bool:
        """Whether the next step of a part that does not wait gives something."""
        return True

    def set_waits(self, waits: bool) -> None:
        """Set whether a part in processes waits for what it delivers."""
        self.waits = waits

    def listen(self, notify: Callable[[], None]) -> None:  # noqa: B027  # only for a part in processes
        """Have `notify` called, in another thread, when there are results again."""

    def stop(self) -> None:
        """End the run soon, as `closed`; for any thread."""
        self._stopped = "closed"

    def abandon(self) -> None:  # noqa: B027  # what drives the run has ended it
        """End what is left of a run whose `batches` have ended."""

    def is_forked(self) -> bool:
        """Whether this is a fork of the process that runs, which leaves the run alone."""
        return self._owner.is_forked()

    @property
    @abstractmethod
    def cut_short(self) -> bool:
        """Whether the run ended before its end without an error, so that what was written is not the whole."""

    @abstractmethod
    def interrupt(self) -> None:
        """End the reading; what was read is still delivered."""

    @abstractmethod
    def report(self) -> RunReport:
        """Return the report as of now."""

    @abstractmethod
    def _work(self) -> Iterator[list[Any]]:
        """Handle all events and yield those for the consumer, in lists."""

    def batches(self) -> Generator[list[Any], None, None]:
        """Run to the end; yields the consumer's events in lists. Raises what ended the run."""
        self._began = monotonic()
        try:
            with self._life.logged(self.report, self.is_forked):
                set_up_caller(self._plan, self._options.setup)
                try:
                    with opened(self._pipeline.delivery.sinks, self):
                        self._open = True
                        yield from self._work()
                except GeneratorExit:
                    self._stopped = "closed"
                    raise
        finally:
            self._ended_s = monotonic()
            if not self.is_forked():
                self._progress.show_last(self.report)

    @property
    def _ended_by(self) -> str:
        if not self._life.over:
            return ""
        return "error" if self.error is not None or self._life.failed else self._stopped or "source"

    def _stop_reading(self, why: str) -> None:
        self._stopped = self._stopped or why

    def _report(self, *, read: int, fraction: float | None, runner: str) -> RunReport:
        """Return the report of a run that has read `read` events, `fraction` (0 to 1) of its input if that is known."""
        report = self._pipeline.report(
            read=read,
            wall_s=(self._ended_s or monotonic()) - self._began,
            ended_by=self._ended_by,
            runner=runner,
        )
        report.expected = self._expected.estimate(read, fraction)
        return self._life.stamp(report)


class TurnSize:
    """How many events one turn takes: `size`, doubled and halved so that a turn lasts about `turn_s` seconds."""

    def __init__(self, turn_s: float, most: int) -> None:
        self.size = 1
        self._turn_s = turn_s
        self._most = most

    def adapt(self, seconds: float, *, grow: bool = True, shrink: bool = True) -> None:
        """Adapt the size to a turn that took this long; `grow` and `shrink` say what this turn is evidence for."""
        if seconds < self._turn_s / 2 and grow:
            self.size = min(self._most, self.size * 2)
        elif seconds > 2 * self._turn_s and shrink:
            self.size = max(1, self.size // 2)


class CallerPipeline:
    """Delivers the answers of the whole program, and counts for the report."""

    def __init__(self, plan: Plan, lock: Lock | None = None, checkpoints: Checkpoints | None = None) -> None:
        self.delivery = Delivery(plan, inline=True, lock=lock, checkpoints=checkpoints)
        self._plan = plan
        self._ordered = any(pool.ordered for pool in plan.pools)
        self._tallies = [Tally() for _ in plan.whole.program.steps]
        self._ids = {step.node: step.node_id for step in plan.whole.program.steps}
        self._skipped = 0
        self._dead = 0

    def deliver(self, answer: Answer) -> Iterator[list[Any]]:
        """Deliver an answer; raises `HandlerError` at the lowest number that failed under `fail`."""
        for total, tally in zip(self._tallies, answer.tallies, strict=True):
            total.add(tally.as_list())
        if not answer.failures:
            yield from self.delivery.columns(answer.start, answer.start + answer.size, answer.exits, [])
            return
        failures = sorted(answer.failures, key=lambda f: (f.seq, self._ids[f.node], f.index))
        fatal = next((f for f in failures if f.on_error == "fail"), None)
        hi = fatal.seq if fatal is not None else answer.start + answer.size
        letters = []
        for failed in failures:
            if failed.on_error == "skip":
                self._skipped += 1
                if self._skipped <= MAX_SKIP_WARNINGS:
                    warn_skipped(failed)
            elif failed.on_error == "dead_letter":
                letters.append(_letter(failed))
        self._dead += len(letters)
        if hi > answer.start:
            columns = [column.slice(answer.start, hi) for column in answer.exits]
            yield from self.delivery.columns(answer.start, hi, columns, letters)
        if fatal is not None:
            raise failure_error(fatal, fatal.event, fatal.cause)

    def uncount(self, tallies: Sequence[Tally], skipped: int, dead: int) -> None:
        """Take what was counted for some numbers off: they are counted where they are handled once more."""
        for total, tally in zip(self._tallies, tallies, strict=True):
            total.add([-value for value in tally.as_list()])
        self._skipped -= skipped
        self._dead -= dead

    def count(self, tallies: Sequence[Tally], skipped: int, dead: int) -> None:
        """Add to what was counted."""
        for total, tally in zip(self._tallies, tallies, strict=True):
            total.add(tally.as_list())
        self._skipped += skipped
        self._dead += dead

    def report(self, *, read: int, wall_s: float, ended_by: str, runner: str) -> RunReport:
        """Return the report of what was handled in the calling thread."""
        nodes = {
            step.node: node_report(
                step,
                tally,
                pool="calling process",
                workers=1,
                ordered=self._ordered,
                rate=tally.events_in / wall_s if wall_s else 0.0,
                wall_s=wall_s,
            )
            for step, tally in zip(self._plan.whole.program.steps, self._tallies, strict=True)
            if is_reported(step)
        }
        report = RunReport(
            graph=self._plan.name,
            runner=runner,
            events_in=read,
            events_out=self.delivery.events_out,
            unmatched=self.delivery.unmatched,
            skipped=self._skipped,
            dead_letters=self._dead,
            released=self.delivery.delivered - self.delivery.sinks.first,
            in_caller=read,
            wall_s=wall_s,
            ended_by=ended_by,
            nodes=nodes,
        )
        add_tallies(report, self._tallies)
        return report


def _letter(failed: Failure) -> DeadLetter:
    return DeadLetter(
        failed.seq, failed.index, failed.node, failed.event, failed.error, failed.traceback, failed.attempts
    )
