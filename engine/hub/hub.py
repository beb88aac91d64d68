"""The hub: the thread in the calling process that feeds the core with what happens and carries out what follows.

Decides nothing about order or recovery; it turns messages, exits and commands into the core's inputs. It never waits
for a sink or a consumer: what they are given goes into a queue, what they are done with comes back as a command.
"""

from __future__ import annotations

import atexit
import logging
import queue
import selectors
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from ...nodes.errors import SluicewayError
from ...nodes.ordering.budget import Window
from ..checkpoints.checkpoints import Checkpoints
from ..core.core import Core
from ..core.effects import (
    Acknowledge,
    AskState,
    Commit,
    Deliver,
    DeliverLoose,
    Effect,
    Finish,
    Pull,
    Restore,
    SendTask,
    Spawn,
    StopSource,
    Warn,
)
from ..local.grants import Grants
from ..local.inbox import Mail
from ..local.processes.nursery import ChildExited, SpawnFailed, ZygoteDied
from ..local.restarts import Restarts
from ..local.supervisor import Crew, describe_exit
from ..local.transport import messages as wire
from ..local.transport.arena import Arena
from ..local.transport.router import Port
from ..local.transport.run_dir import RunDir, arena_path
from ..options import RunOptions
from ..plan.plan import Plan
from ..reporting import failures as inbox
from ..sources.feed import POLL_S, Feed
from ..sources.slice_feed import SliceFeed
from .feeds import EventPacking, Intake
from .outcome import Outcome
from .wakeup import Bell

_LOG = logging.getLogger("sluiceway")
#: A busy hub asks what became of the children so often, in seconds; one that sleeps is woken by it.
_CREW_S = 0.02


class Hub:
    """Runs a plan in processes. Made and commanded by the caller's thread; works in a thread of its own.

    With `held` the workers are started and nothing is read until `begin`.
    """

    def __init__(
        self, plan: Plan, options: RunOptions, *, held: bool = False, checkpoints: Checkpoints | None = None
    ) -> None:
        self._plan = plan
        self._options = options
        self._held = held
        self.core = Core(
            plan.wiring,
            EventPacking(),
            window=Window(options.window_bytes, options.window_numbers),
            limit=options.limit,
            max_deaths=options.max_deaths,
            commits=plan.commits,
            log=checkpoints.order_log if checkpoints is not None else None,
        )
        if checkpoints is not None and checkpoints.saved is not None:
            saved = checkpoints.saved
            self.core.resume(saved.n, checkpoints.places, saved.turn, checkpoints.packed())
        self._cut_at = 0.0
        #: What the caller's thread has to deliver, ending with the `Outcome`.
        self.deliveries: queue.SimpleQueue[Deliver | DeliverLoose | Commit | Outcome] = queue.SimpleQueue()
        #: Set when the first worker takes work, or the run is over.
        self.up = threading.Event()
        self.began = monotonic()
        self.restarts = Restarts()
        self._commands: deque[Callable[[], None]] = deque()
        self._consumed = 0  #: below which number the sinks are done, by the caller's thread
        self._waits_for_sinks = True
        self._crew_at = 0.0  #: when to ask next what became of the children
        self._deadline: float | None = None
        self._hurry = False
        self._outcome: Outcome | None = None
        self._again = False
        self._bell: Bell | None = None
        self._thread = threading.Thread(target=self._run, name="sluiceway-hub", daemon=True)

    @property
    def read_s(self) -> float:
        """Seconds in which reading was not held back, as far as the sources have told."""
        return self.intake.read_s if self._bell is not None else 0.0

    @property
    def fraction(self) -> float | None:
        """How much of its one source is read, 0..1, where that can be told."""
        return self.intake.fractions.get(0) if self._bell is not None and len(self._plan.sources) == 1 else None

    # -- commands, from any thread ------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the run's folder and start the thread."""
        self.dir = RunDir()
        try:
            self._arena = Arena(arena_path(self.dir.path), self._options.window_bytes)
            self._grants = Grants(self._arena)
            self.intake = Intake(self._plan, self.core, self._arena)
            self.crew = Crew(self._plan, self.core, self.dir.path, self._options, self.restarts, held=self._held)
        except BaseException:
            self.dir.close()
            raise
        self._bell = Bell()
        atexit.register(self._leave_at_exit)
        self._thread.start()

    def begin(self, number: int, feed: Feed | SliceFeed) -> None:
        """Let a held run go: it numbers from `number` on and reads its one source from `feed`."""

        def command() -> None:
            self._held = False
            self.core.begin_at(number)
            self.intake.add(0, feed)
            feed.attach(self.wake)

        self._command(command)

    def consume(self, upto: int) -> None:
        """Say that the sinks are done with every number below `upto`; wakes the hub only where it waits for that."""
        self._consumed = upto
        if self._waits_for_sinks:
            self.wake()

    def committed(self, n: int) -> None:
        """Say that the sinks have committed the cut below `n`."""
        self._command(lambda: self.core.committed(n))

    def consume_loose(self, stream: int, lo: int, hi: int) -> None:
        """Say that the unordered sinks of a stream are done with `lo .. hi - 1`."""
        self._command(lambda: self.core.consume_loose(stream, lo, hi))

    def interrupt(self, deadline: float) -> None:
        """End the reading, and the run at `deadline` (monotonic seconds) with whatever is released by then."""

        def command() -> None:
            self._deadline = deadline
            self.core.stop_reading("interrupt")

        self._command(command)

    def abort(self, why: str) -> None:
        """End the run now; nothing more is delivered."""
        self._command(lambda: self._end(Outcome(why)))

    def hurry(self) -> None:
        """Kill what is left instead of waiting for it."""
        self._hurry = True
        self.wake()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the hub and all its children are gone; gives whether they are."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def wake(self) -> None:
        """Make the hub look at its commands and feeds."""
        if self._bell is not None:
            self._bell.ring()

    def _command(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        self.wake()

    def _leave_at_exit(self) -> None:
        """End a run that is open when the interpreter ends, while its threads still run."""
        self.abort("closed")
        self._thread.join()

    # -- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self.port = Port()
        self._mail = Mail(
            self._plan, self.core, self.port, self.crew, self.intake, self._grants, up=self.up.set, end=self._end
        )
        try:
            self.port.open(self.dir.path, self._options.transport)
            self.crew.start(self.port)
            if not self._held:
                self.intake.start(self.port, self.wake, self.crew.bear)
            self.core.start()
            self._serve()
        except BaseException as error:
            self._end(Outcome("error", error=error))
        outcome = self._outcome
        assert outcome is not None
        self.up.set()
        try:
            self.intake.stop_feeds()
            outcome.children = self.crew.close(outcome.orderly, self._mail.listen, lambda: self._hurry)
        finally:
            self._close()
            self.deliveries.put(outcome)

    def _close(self) -> None:
        self.port.close()
        self.crew.forget()
        self.core.forget()
        self._grants.forget()
        self._arena.close()
        self.dir.close()
        atexit.unregister(self._leave_at_exit)
        if self._bell is not None:
            self._bell.close()

    def _serve(self) -> None:
        assert self._bell is not None
        with selectors.DefaultSelector() as self._selector:
            self._selector.register(self._bell.descriptor, selectors.EVENT_READ)
            self._selector.register(self.port.descriptor, selectors.EVENT_READ)
            self._watched = -1
            while self._outcome is None:
                self._take_in()
                self._carry_out()
                if self._outcome is None and not self._again:
                    self._sleep(self._bell)

    def _sleep(self, bell: Bell) -> None:
        """Wait for a message, an exit, a command, or the next thing that is due."""
        bell.arm()
        self._waits_for_sinks = self.core.waits_for_sinks
        # Looked at once more after that; the socket's descriptor tells of changes only.
        is_told = self._waits_for_sinks and self._consumed > self.core.consumed
        if self._commands or self.port.waiting or is_told:
            bell.answer(rung=False)
            return
        self._watch_crew()
        ready = [key.fd for key, _ in self._selector.select(self._wait_s(monotonic()))]
        bell.answer(rung=bell.descriptor in ready)
        if self._watched in ready:
            self._crew_at = 0.0

    def _wait_s(self, now: float) -> float:
        wait_s = self.crew.wait_s(now)
        if self.intake.polls:
            wait_s = min(wait_s, POLL_S)
        return min(wait_s, max(0.0, self._cut_at - now)) if self.core.cuts.enabled else wait_s

    def _watch_crew(self) -> None:
        descriptor = self.crew.descriptor
        if descriptor != self._watched:
            if self._watched >= 0:
                self._selector.unregister(self._watched)
            if descriptor >= 0:
                self._selector.register(descriptor, selectors.EVENT_READ)
            self._watched = descriptor

    def _take_in(self) -> None:
        """Take in messages, exits and commands, a bounded number at a time, and what is due."""
        self._again = self._mail.take_some()
        now = monotonic()
        if now >= self._crew_at:
            self._crew_at = now + _CREW_S
            for event in self.crew.events():
                self._child(event)
        while self._commands:
            self._commands.popleft()()
        self.core.consume(self._consumed)
        self.intake.take_waiting()
        self.crew.bear_due(now)
        self._check_ends(now)
        self.crew.look(now)

    def _check_ends(self, now: float) -> None:
        options = self._options
        if now >= self._cut_at:
            self._cut_at = now + options.checkpoint_interval_s
            self.core.cuts.want()
        if self._deadline is not None and now >= self._deadline:
            self._end(Outcome("interrupt"))
        if options.time_limit_s is not None and now - self.began >= options.time_limit_s:
            self.core.stop_reading("time_limit")
        if options.stop is not None and options.stop.is_set():
            self.core.stop_reading("stop")

    def _end(self, outcome: Outcome) -> None:
        if self._outcome is None:
            self._outcome = outcome

    # -- children -----------------------------------------------------------------------------------------------

    def _child(self, event: object) -> None:
        if isinstance(event, ChildExited):
            self._mail.take_all()
            self._gone(event.child, event.code)
        elif isinstance(event, SpawnFailed):
            self._end(Outcome("error", error=SluicewayError(f"cannot start process {event.child}: {event.error}")))
        elif isinstance(event, ZygoteDied):
            if not event.was_ready:
                self._end(Outcome("error", error=SluicewayError(event.reason)))
                return
            _LOG.warning("%s; all of them are started again", event.reason)
            self._mail.take_all()
            self.crew.start_again()
            for child in event.children:
                self._gone(child, None)

    def _gone(self, child: str, code: int | None) -> None:
        self.port.strike(child)
        if self.intake.is_source(child):
            self.intake.gone(child, describe_exit(code))
            return
        if code is not None:  # without its exit code nobody has seen it dead, and it may still write
            self._grants.gone(child)
        self.crew.gone(child, code)

    # -- effects ------------------------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        told = True
        while told and self._outcome is None:
            # A held run numbers nothing yet; all it has to do is to start its workers.
            effects = self.core.spawned() if self._held else self.core.cycle(monotonic())
            told = False
            for effect in effects:
                told |= self._do(effect)

    def _do(self, effect: Effect) -> bool:
        """Carry an effect out; gives whether the core was told something by it, so that more may follow."""
        if isinstance(effect, SendTask):
            task = effect.task
            room = self._grants.give(effect.worker, task.id, task.stop - task.start)
            parts = wire.pack_task(task.id, task.start, task.stop, effect.cut, task.orders, effect.inputs, room)
            self.port.send(effect.worker, parts)
        elif isinstance(effect, (Deliver, DeliverLoose, Commit)):
            self.deliveries.put(effect)
        elif isinstance(effect, Pull):
            return self.intake.pull(effect)
        elif isinstance(effect, StopSource):
            return self.intake.stop(effect.source)
        elif isinstance(effect, Acknowledge):
            self.intake.acknowledge(effect.source, effect.position)
        elif isinstance(effect, AskState):
            self.port.send(effect.worker, wire.pack(wire.Kind.STATE, effect.n))
        elif isinstance(effect, Restore):
            self.port.send(effect.worker, wire.pack(wire.Kind.RESTORE, frames=[effect.packed]))
        elif isinstance(effect, Spawn):
            self.crew.want(effect)
            self._again = True
        elif isinstance(effect, Warn):
            inbox.warn_skipped(effect.failure)
        elif isinstance(effect, Finish):
            self._end(Outcome(effect.ended_by, effect))
        else:
            self.crew.dismiss(effect.worker)
        return False
