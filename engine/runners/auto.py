"""A run without `workers=`: handles events in the calling thread at once, and in processes as soon as those pay.

Decides how a run moves over without a break in the order: the calling thread delivers what it has handled, then what
the processes release from the next number on. When processes pay is decided in `placement`. They begin with a sample of
what the calling thread has handled last; where they give something else for it (`sample`), the run stays here. Only plain
functions are handled so; a graph with anything that needs isolation starts in processes.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from time import monotonic, perf_counter
from typing import Any

from msgspec.structs import replace

from ...nodes.errors import SluicewayError, describe
from ...nodes.execution.batch_split import BatchSplitter
from ...nodes.execution.executor import Executor
from ...nodes.program.column import Column
from ...nodes.program.program import Answer
from ..codec.copying import safe_copies
from ..codec.errors import CodecError
from ..delivery.delivery import Refuted
from ..local.site import LocalSite
from ..options import RunOptions
from ..plan.plan import Plan
from ..plan.shipping import changed_since, pack_handlers
from ..reporting.failures import source_error
from ..reporting.figures import add_earlier
from ..reporting.live import MAX_LETTERS, LiveRun
from ..reporting.report import RunReport
from ..sources.feed import POLL_S, Feed, make_feed
from ..sources.held_feed import HeldFeed
from ..sources.slice_feed import FeedBatch, SliceFeed
from .caller import CallerRun, TurnSize
from .placement import LONG_CALL_S, Placement, sample_size
from .processes import ProcessRun, default_workers
from .sample import MAX_SAMPLE, Proof, Sample

_LOG = logging.getLogger("sluiceway")

#: A turn takes about this long, in seconds, and at most this many events.
_TURN_S = 0.002
_MAX_TURN = 8192
#: The largest event, in bytes, that is kept for a sample before processes are wanted.
_MAX_EARLY_BYTES = 1 << 20


class AutoRun(CallerRun):
    """One run that begins in the calling thread and may go on in processes."""

    def __init__(self, plan: Plan, options: RunOptions) -> None:
        super().__init__(plan, options, None, None)
        node = plan.sources[0].node
        self._feed: Feed | SliceFeed = make_feed(
            node.subject, key=None, name=node.name, limit=options.limit
        )
        marking = getattr(self._feed, "marking", None)
        #: Splits a turn in which one event takes long. A source whose positions count reads is never read again.
        self._splitter = None if marking is not None and marking.positions else BatchSplitter()
        #: Whether events are the caller's own, so that handlers get copies.
        self._lent = isinstance(self._feed, SliceFeed) and type(node.subject) is not range
        self._placement = Placement(default_workers())
        self._processes: ProcessRun | None = None
        self._delivering: ProcessRun | None = None  #: the processes, once this thread delivers what they release
        #: Guards the feed, `_next`, `_handed_over` and `_processes`: both threads use them.
        self._lock = threading.Lock()
        #: Wakes the calling thread: the feed has something, or there is nothing to wait for.
        self._wake = threading.Event()
        self._over = threading.Event()
        self._wanted = threading.Event()  #: set when processes are to be started
        self._turn_began: float | None = None  #: `None` between two turns
        self._next = 0
        self._handed_over = False
        self._turn = TurnSize(_TURN_S, _MAX_TURN)
        #: Events with numbers that are read again here: split off a turn when processes had already begun with those
        #: behind them, or taken back from the processes.
        self._unbegun: list[Any] = []
        self._sample: Sample | None = None  #: of the turn that was taken last
        self._sampled = threading.Event()  #: set when there is a sample, or the run is over
        self._settled = False  #: whether nothing more is to be decided: processes have taken over, or never will
        self._proof: Proof | None = None
        self._event_bytes = 0.0

    @property
    def cut_short(self) -> bool:
        """Whether the run ended before its end without an error, so that what was written is not the whole."""
        if self._stopped in ("interrupt", "closed"):
            return True
        return self._handed_over and self._processes is not None and self._processes.cut_short

    @property
    def works_in_caller(self) -> bool:
        """Whether the thread that drives the run does more than take results."""
        return self._delivering is None or self._delivering.works_in_caller

    @property
    def has_results(self) -> bool:
        """Whether the next step of a part that does not wait gives something."""
        return self._delivering is None or self._delivering.has_results

    def listen(self, notify: Callable[[], None]) -> None:
        """Have `notify` called, in another thread, when there are results again."""
        if self._delivering is not None:
            self._delivering.listen(notify)

    def set_waits(self, waits: bool) -> None:
        """Set whether a part in processes waits for what it delivers."""
        super().set_waits(waits)
        if self._delivering is not None:
            self._delivering.set_waits(waits)

    def stop(self) -> None:
        """End the run soon, as `closed`; for any thread."""
        super().stop()
        self._wake.set()
        if self._handed_over and self._processes is not None:
            self._processes.stop()

    def interrupt(self) -> None:
        """End the reading and release what is in flight, within the deadline."""
        # No lock: this runs in a signal handler, possibly of the thread that holds it.
        self._stopped = self._stopped or "interrupt"
        self._wake.set()
        if self._handed_over and self._processes is not None:
            self._processes.interrupt()

    def report(self) -> RunReport:
        """Return the report as of now."""
        report = self._report(read=self._next, fraction=self._feed.fraction, runner="processes")
        report.placement = self._placement.text
        if self._handed_over and self._processes is not None:
            return add_earlier(self._processes.report(), report)
        return report

    def live(self) -> LiveRun:
        """Return what the run is doing now; for any thread."""
        here = super().live()
        if not self._handed_over or self._processes is None:
            return here
        there = self._processes.live()
        return replace(there, report=here.report, letters=(*here.letters, *there.letters)[-MAX_LETTERS:])

    def _work(self) -> Iterator[list[Any]]:
        # What `setup` has changed in the handlers, it changes in every worker too.
        setup = self._options.setup
        self._handlers_before = self._plan.shipped if setup is None else pack_handlers(self._plan, setup)
        starter = threading.Thread(target=self._start_processes, name="sluiceway-starter", daemon=True)
        self._feed.start(self._wake.set)
        starter.start()
        try:
            yield from self._turns()
            if self._handed_over and self._processes is not None and self._stopped != "closed":
                yield from self._deliver(self._processes)
        finally:
            self._finish(starter)

    def _finish(self, starter: threading.Thread) -> None:
        if self.is_forked():
            return
        with self._lock:
            self._over.set()
        self._wanted.set()
        self._sampled.set()
        self._feed.stop()
        starter.join()
        if self._processes is not None:
            self._processes.abandon()

    def _deliver(self, processes: ProcessRun) -> Iterator[list[Any]]:
        """Deliver what the processes release; if they give something else than this thread, go on here."""
        assert self._proof is not None
        if self._stopped == "interrupt":
            processes.interrupt()
        processes.set_waits(self.waits)
        self._delivering = processes
        for kept in self._proof.sample.answers:
            self._pipeline.uncount(kept.tallies, kept.skipped, len(kept.failures))
        try:
            yield from processes.work()
            return
        except Refuted as refuted:
            why = str(refuted)
        for kept in self._proof.sample.answers:
            self._pipeline.count(kept.tallies, kept.skipped, len(kept.failures))
        with self._lock:
            self._delivering, self._handed_over = None, False
            limit = self._options.limit
            self._unbegun = self._proof.taken_back[: None if limit is None else limit - self._next]
            self._next += len(self._unbegun)
            self._feed.attach(self._wake.set)
        self._stay(why)
        yield from self._turns()

    def _stay(self, why: str) -> None:
        """Handle all that is to come in the calling thread, and say why once."""
        self._settled, self._sample = True, None
        self._placement.record_stay(why)
        _LOG.warning(
            "%s: %s; the run goes on in the calling process. Workers begin as clean interpreters: give them what the program"
            " has set since its imports by setup=, or say workers= if each may be different",
            self._plan.name,
            self._placement.text,
        )

    def _turns(self) -> Iterator[list[Any]]:
        """Handle events in this thread until the source ends or processes have taken over."""
        placement = self._placement
        executor = Executor(self._plan.whole.program, self._plan.whole.handlers, safe_copies, splitter=self._splitter)
        while (taken := self._next_events()) is not None:
            events = list(taken.events)
            if events:
                lo = self._next - len(self._unbegun) - len(events)
                self._begin_sample(lo, events)
                weighed = placement.handled_s >= placement.due_s and not self._wanted.is_set()
                sample = safe_copies(events[: sample_size(self._event_bytes)]) if weighed else []
                started = perf_counter()
                size = len(events)
                answer = executor.run([Column(lo, size, safe_copies(events) if self._lent else events)])
                seconds = perf_counter() - started
                self._turn_began = None
                placement.handled_s += seconds
                self._turn.adapt(seconds, grow=answer.size == self._turn.size)
                if sample and answer.size == size:
                    outputs = [column.events for column in answer.exits]
                    if placement.weigh(sample, outputs, size, done=self._next, left=self._remaining()):
                        self._wanted.set()
                self._record_in_sample(answer)
                yield from self._pipeline.deliver(answer)
                done = answer.size
                del events, answer  # nothing handled is kept while the next events are waited for
                taken.events = ()
                outputs = sample = []
                self._progress.show_if_due(self.report)
                if done < size:
                    with self._lock:
                        self._put_back(executor.removed)
                    continue  # if that was the end, it comes again with the events that were put back
            if taken.error is not None:
                name = self._plan.sources[0].node.name
                position = repr(self._feed.position)
                raise source_error(name, describe(taken.error), position, self._feed.count, taken.error)
            if taken.ended:
                return

    def _next_events(self) -> FeedBatch | None:
        """Return the next events, or `None` when processes have taken over or reading has ended."""
        limit = self._options.limit
        while True:
            self._owner.refuse_if_forked(self.name)
            if self._stopped == "closed":
                return None
            with self._lock:
                size = self._turn.size
                if self._unbegun:
                    events, self._unbegun = self._unbegun[:size], self._unbegun[size:]
                    return FeedBatch(events, None, False)
                if self._handed_over:
                    return None
                if self._wanted.is_set() and not self._settled:
                    size = min(size, MAX_SAMPLE, sample_size(self._event_bytes))  # as small as a sample
                left = size if limit is None else min(size, limit - self._next)
                if left == 0:
                    self._stopped = self._stopped or "limit"
                    return None
                self._wake.clear()
                taken = self._feed.stop() if self._stopped else self._feed.read(left, self._event_bytes)
                if taken is not None:
                    if taken.events:
                        # The shallow size; it only bounds how far the source is read ahead.
                        self._event_bytes = float(sys.getsizeof(taken.events[-1]))
                        self._sample = None  # until this turn has one, nobody may take over
                    self._next += len(taken.events)
                    self._turn_began = monotonic()
                    return taken
            self._wake.wait(POLL_S if self._feed.bulk else None)

    def _put_back(self, events: list[Any]) -> None:
        """Put back the last events, which nobody has begun, to be read again; the caller holds the lock."""
        self._turn.size = 1
        if self._handed_over:
            self._unbegun = events  # processes have begun with the events after these
            return
        self._next -= len(events)
        self._feed.put_back(events)

    def _remaining(self) -> int | None:
        """Return how many events are still to come, or `None` if the source cannot tell."""
        hint = self._feed.size_hint
        return None if hint is None else max(0, hint - self._next)

    # -- the thread that starts processes -----------------------------------------------------------------------

    def _start_processes(self) -> None:
        """Wait until processes pay or one call takes long; start them, and hand over once they are up."""
        while not self._wanted.wait(LONG_CALL_S):
            if self._split_long_turn() and self._remaining() != 0 and self._placement.cores > 1:
                self._placement.record_long_call()
                self._wanted.set()
                break
        if self._over.is_set() or self._placement.cores < 2:
            return
        processes = ProcessRun(self._plan, self._options, LocalSite(self._options.transport), paused=True)
        with self._lock:
            if self._over.is_set():
                return
            self._processes = processes
            try:
                processes.start()
            except SluicewayError as error:
                self._stay(str(error))
                return
        while not processes.wait_until_up(LONG_CALL_S):
            self._split_long_turn()
        changed = changed_since(self._plan, self._options.setup, self._handlers_before)
        if changed is not None:
            self._stay(changed)
            processes.abandon()
            return
        while not self._hand_over(processes):
            while not self._sampled.wait(LONG_CALL_S):
                self._split_long_turn()

    def _hand_over(self, processes: ProcessRun) -> bool:
        """Let processes begin with the sample of the current turn and what is behind it; return whether that is settled."""
        with self._lock:
            if self._over.is_set() or self._settled:
                return True
            if self._sample is None:
                self._sampled.clear()
                return False
            self._split_turn()  # they take what is not begun
            sample = self._sample
            sample.trim(self._next)
            self._proof = Proof(sample, HeldFeed(sample.events, self._feed))
            self._handed_over = self._settled = True
            self._placement.record_start(self._next)
            processes.begin(sample.start, self._proof.feed, self._proof)
        self._wake.set()
        return True

    # -- the sample that both handle ----------------------------------------------------------------------------

    def _begin_sample(self, lo: int, events: list[Any]) -> None:
        """Keep the events of a turn behind which processes may take over: of all turns, once processes are wanted."""
        if self._settled or self._placement.cores < 2:
            return
        wanted = self._wanted.is_set()
        if not wanted and (len(events) > 1 or sys.getsizeof(events[0]) > _MAX_EARLY_BYTES):
            return
        try:
            self._sample = Sample(lo, events)
        except CodecError:
            if wanted:
                self._cannot_send("events")
        self._sampled.set()

    def _record_in_sample(self, answer: Answer) -> None:
        """Keep what has become of events of the sample."""
        if self._sample is None:
            return
        try:
            self._sample.record(answer)
        except CodecError:
            if self._proof is None and self._wanted.is_set():
                self._cannot_send("results")

    def _cannot_send(self, what: str) -> None:
        """Handle everything here: what is there cannot be sent."""
        with self._lock:
            if self._handed_over:
                return
            self._settled, self._sample = True, None
            self._placement.record_unsendable(what)

    def _split_long_turn(self) -> bool:
        """Whether the current turn takes long; if so, split it."""
        since = self._turn_began
        if since is None or monotonic() - since <= LONG_CALL_S:
            return False
        with self._lock:
            self._split_turn()
        return True

    def _split_turn(self) -> None:
        """Split the current turn, if there is one, and put back what is not begun.

        The caller holds the lock: the turn may end meanwhile, and nothing may be read before its rest is put back.
        """
        if self._splitter is not None:
            self._splitter.split()
            self._put_back(self._splitter.take_rest())
