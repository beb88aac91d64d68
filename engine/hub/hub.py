"""The hub: the thread of the calling process that tells the core what happens and carries out its effects.

Decides nothing about order or recovery; workers are behind a `Backend`. It never waits for a sink or a consumer:
deliveries go through a queue, acknowledgements return as commands.
"""

from __future__ import annotations

import atexit
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from time import monotonic
from typing import TYPE_CHECKING

from ...nodes.ordering.budget import Budget
from ..core.core import Core
from ..core.effects import (
    Acknowledge,
    Commit,
    Deliver,
    DeliverLoose,
    Effect,
    Finish,
    Keep,
    Pull,
    Recall,
    SendTask,
    StopSource,
    Warn,
)
from ..interpreter.forks import OwnerProcess
from ..options import RunOptions
from ..plan.plan import Plan
from ..reporting import failures
from ..reporting.live import BackendView, FlowView, flow_of
from ..sources.feed import POLL_S
from ..sources.held_feed import HeldFeed
from .backend import Backend, RunHandle
from .feeds import EventPacking, Feeds
from .outcome import Outcome
from .restarts import Restarts
from .wakeup import Wakeup

if TYPE_CHECKING:
    from ..checkpoints.checkpoints import Checkpoints
    from .keeping_link import KeepingLink

#: The longest wait, in seconds: how often the time limit and the stop signal are checked while nothing happens.
_TICK_S = 0.25

#: Is told what the run is doing, or `None` where it has ended.
Look = Callable[[tuple[FlowView, BackendView] | None], None]


class Hub:
    """Runs a plan over a backend. Made and commanded by the caller's thread; works in a thread of its own.

    With `paused` the workers are started and nothing is read until `begin`.
    """

    def __init__(
        self,
        plan: Plan,
        options: RunOptions,
        backend: Backend,
        *,
        paused: bool = False,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._plan = plan
        self._options = options
        self._paused = paused
        self.backend = backend
        self._repeats = checkpoints is not None and checkpoints.repeats
        self.core = Core(
            plan.wiring,
            EventPacking(),
            budget=Budget(options.window_bytes, options.window_numbers),
            limit=options.limit,
            max_deaths=options.max_deaths,
            max_events=options.max_events_per_worker,
            commits=plan.commits,
            log=checkpoints.order_log if checkpoints is not None else None,
            repeats=self._repeats,
        )
        if checkpoints is not None:
            saved = checkpoints.saved
            kept = {
                at: checkpoints.answered.get(pool.durable, ())
                for at, pool in enumerate(plan.wiring.pools)
                if pool.durable is not None
            }
            if saved is not None:
                self.core.resume(saved.n, checkpoints.places, saved.turn, checkpoints.packed())
            self.core.keeping.resume(self.core.first, kept)
        self._keeping: KeepingLink | None = None
        if checkpoints is not None and checkpoints.kept is not None:
            from .keeping_link import KeepingLink  # few runs keep answers, and it takes the stores with it

            self._keeping = KeepingLink(checkpoints.kept, self.core, self._command, self._fail)
        self.feeds = Feeds(plan, self.core, backend.keep)
        self._cut_at = 0.0  #: when the next cut is due
        #: What the caller's thread is to deliver; the last entry is the `Outcome`.
        self.deliveries: queue.SimpleQueue[Deliver | DeliverLoose | Commit | Outcome] = queue.SimpleQueue()
        #: Called when something was added to `deliveries`, where the caller's thread does not wait for that.
        self.listener: Callable[[], None] | None = None
        #: Set when the first worker takes work, or the run is over.
        self.up = threading.Event()
        self.began = monotonic()
        self.restarts = Restarts()
        self._commands: deque[Callable[[], None]] = deque()
        self._looks: deque[Look] = deque()
        self._over = False
        self._reads = False
        self._consumed = 0  #: the sinks are done with all numbers below it; set by the caller's thread
        self._waits_for_sinks = True
        self._deadline: float | None = None
        self._hurry = False
        self._outcome: Outcome | None = None
        self._wakeup: Wakeup | None = None
        self._owner = OwnerProcess()
        self._thread = threading.Thread(target=self._run, name="sluiceway-hub", daemon=True)

    @property
    def read_s(self) -> float:
        """Seconds in which the sources were not held back, as far as they have reported it."""
        return self.feeds.read_s

    @property
    def fraction(self) -> float | None:
        """How much of its one source is read, 0..1; `None` if that is unknown or there are several."""
        return self.feeds.fractions.get(0) if len(self._plan.sources) == 1 else None

    @property
    def reads(self) -> bool:
        """Whether the sources may be read: the hub runs, and is not paused."""
        return self._reads

    # -- commands, from any thread ------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the backend and start the thread. Raises `SluicewayError` if the system has no room for it."""
        try:
            with ExitStack() as undo:
                wakeup = Wakeup()
                undo.callback(wakeup.close)
                run = RunHandle(
                    self.core, self.feeds, self.restarts, wakeup.descriptor, self.wake, record_up=self.up.set, fail=self._fail
                )
                self.backend.open(run)
                undo.callback(self.backend.close)
                self._wakeup = wakeup
                atexit.register(self._abort_at_exit)
                undo.callback(atexit.unregister, self._abort_at_exit)
                self._thread.start()
                undo.pop_all()
        except BaseException as error:
            self._wakeup = None
            self._fail(error)
            assert self._outcome is not None
            self._over = True
            self.up.set()
            self.deliveries.put(self._outcome)
            failed = self._outcome.error
            assert failed is not None
            raise failed from failed.__cause__

    def begin(self, number: int, feed: HeldFeed) -> None:
        """Begin a paused run: number from `number` on, and read its one source from `feed`."""

        def command() -> None:
            self._paused, self._reads = False, True
            self.core.begin_at(number)
            self.feeds.add(0, feed)
            feed.attach(self.wake)

        self._command(command)

    def record_consumed(self, upto: int) -> None:
        """Record that the sinks are done with every number below `upto`; wake the hub only if it waits for that."""
        self._consumed = upto
        if self._waits_for_sinks:
            self.wake()

    def record_commit(self, n: int) -> None:
        """Record that the sinks have committed the cut below `n`."""

        def command() -> None:
            self.core.record_commit(n)
            if self._keeping is not None and not self._repeats:
                self._keeping.trim(n)

        self._command(command)

    def record_loose_consumed(self, stream: int, lo: int, hi: int) -> None:
        """Record that the unordered sinks of a stream are done with `lo .. hi - 1`."""
        self._command(lambda: self.core.record_loose_consumed(stream, lo, hi))

    def interrupt(self, deadline: float) -> None:
        """Stop reading; end the run at `deadline` (monotonic seconds) with whatever is released by then."""

        def command() -> None:
            self._deadline = deadline
            self.core.stop_reading("interrupt")

        self._command(command)

    def abort(self, why: str) -> None:
        """End the run now; nothing more is delivered."""
        self._command(lambda: self._end(Outcome(why)))

    def look(self, show: Look) -> None:
        """Have `show` called in the hub's thread with what the run is doing; with `None` once the hub has ended."""
        self._looks.append(show)
        self._command(lambda: self._show((flow_of(self.core), self.backend.view(monotonic()))))
        if self._over:  # what is added from now on, nobody else would answer
            self._show(None)

    def _show(self, seen: tuple[FlowView, BackendView] | None) -> None:
        with suppress(IndexError):
            while True:
                self._looks.popleft()(seen)

    def hurry(self) -> None:
        """Kill what still runs instead of waiting for it."""
        self._hurry = True
        self.wake()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the hub has ended and its backend is closed; return whether it has."""
        if self._thread.ident is None:
            return True  # it could not be started
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def wake(self) -> None:
        """Make the hub check its commands and feeds; for any thread."""
        if self._wakeup is not None:
            self._wakeup.notify()

    def _command(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        self.wake()

    def _abort_at_exit(self) -> None:
        """End a run that is open when the interpreter ends, while its threads still run."""
        if self._owner.is_forked():
            return  # a fork of the caller: the run is not its own
        self.abort("closed")
        self._thread.join()

    # -- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self.backend.start()
            if self._keeping is not None:
                self._keeping.start()
            if not self._paused:
                self.feeds.start(self.wake)
                self._reads = True
            self.core.start()
            self._serve()
        except BaseException as error:
            self._fail(error)
        outcome = self._outcome
        assert outcome is not None
        self.up.set()
        self._over = True
        self._show(None)
        for step in (
            self.feeds.stop,
            self._stop_backend,
            self._stop_keeping,
            self.core.clear,
            self.backend.close,
            self._close,
        ):
            try:
                step()
            except BaseException as error:  # the other steps are taken all the same
                outcome.error = outcome.error or failures.engine_error(error)
        self.deliveries.put(outcome)
        if self.listener is not None:
            self.listener()

    def _stop_backend(self) -> None:
        outcome = self._outcome
        assert outcome is not None
        outcome.children = self.backend.stop(orderly=outcome.orderly, hurried=lambda: self._hurry)

    def _stop_keeping(self) -> None:
        if self._keeping is not None:
            self._keeping.close()

    def _close(self) -> None:
        atexit.unregister(self._abort_at_exit)
        if self._wakeup is not None:
            self._wakeup.close()

    def _serve(self) -> None:
        assert self._wakeup is not None
        while self._outcome is None:
            may_be_more = self._gather()
            self._cycle()
            if self._outcome is None and not may_be_more:
                self._wait(self._wakeup)

    def _wait(self, wakeup: Wakeup) -> None:
        """Wait until the backend has something, a command arrives, or something is due."""
        wakeup.prepare()
        self._waits_for_sinks = self.core.waits_for_sinks
        # Checked once more after `prepare`: a command that came before it notified nobody.
        if self._commands or (self._waits_for_sinks and self._consumed > self.core.consumed):
            wakeup.clear(readable=False)
        else:
            wakeup.clear(readable=self.backend.wait(self._wait_s()))

    def _wait_s(self) -> float:
        wait_s = POLL_S if self.feeds.must_poll else _TICK_S
        return min(wait_s, max(0.0, self._cut_at - monotonic())) if self.core.cuts.enabled else wait_s

    def _gather(self) -> bool:
        """Tell the core what has happened, a bounded amount at a time; return whether there may be more."""
        now = monotonic()
        may_be_more = self.backend.poll(now)
        while self._commands:
            self._commands.popleft()()
        self.core.record_consumed(self._consumed)
        self.feeds.retry_pulls()
        self._check_ends(now)
        return may_be_more

    def _check_ends(self, now: float) -> None:
        options = self._options
        if now >= self._cut_at or (self._keeping is not None and self._keeping.is_filling and not self._repeats):
            self._cut_at = now + options.checkpoint_interval_s
            self.core.cuts.request()
        if self._deadline is not None and now >= self._deadline:
            self._end(Outcome("interrupt"))
        if options.time_limit_s is not None and now - self.began >= options.time_limit_s:
            self.core.stop_reading("time_limit")
        if options.stop is not None and options.stop.is_set():
            self.core.stop_reading("stop")

    def _end(self, outcome: Outcome) -> None:
        if self._outcome is None:
            self._outcome = outcome

    def _fail(self, error: BaseException) -> None:
        """End the run with an error: an error of the system or a library is wrapped in one that explains it."""
        self._end(Outcome("error", error=failures.engine_error(error)))

    # -- effects ------------------------------------------------------------------------------------------------

    def _cycle(self) -> None:
        may_follow = True
        while may_follow and self._outcome is None:
            # A paused run numbers nothing yet; it only starts its workers.
            effects = self.core.take_effects() if self._paused else self.core.cycle(monotonic())
            may_follow = False
            for effect in effects:
                may_follow |= self._do(effect)

    def _do(self, effect: Effect) -> bool:
        """Carry out an effect; return whether that has made an input of the core, so that more may follow."""
        if isinstance(effect, SendTask):
            return self.backend.do(effect)
        if isinstance(effect, (Deliver, DeliverLoose, Commit)):
            self.deliveries.put(effect)
            if self.listener is not None:
                self.listener()
        elif isinstance(effect, (Keep, Recall)):
            assert self._keeping is not None, "answers are kept only where there is a place for them"
            return self._keeping.do(effect)
        elif isinstance(effect, (Pull, StopSource, Acknowledge)):
            return self.feeds.do(effect) if effect.source in self.feeds else self.backend.do(effect)
        elif isinstance(effect, Warn):
            failures.warn_skipped(effect.failure)
        elif isinstance(effect, Finish):
            self._end(Outcome(effect.ended_by, effect))
        else:
            return self.backend.do(effect)
        return False
