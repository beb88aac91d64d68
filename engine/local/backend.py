"""The backend of child processes: joins children, the socket and shared memory behind `engine.hub.backend.Backend`.

Decides in which order messages and exits are recorded: what a process sent before it exited still counts.
"""

from __future__ import annotations

import logging
import selectors
from collections.abc import Callable
from contextlib import ExitStack
from time import monotonic

from ...nodes.errors import SluicewayError
from ..codec.codec import Payload
from ..core.effects import AskState, Restore, SendTask, Spawn, StopWorker
from ..hub.backend import BackendEffect, RunHandle
from ..options import RunOptions
from ..plan.plan import Plan
from ..reporting.live import BackendView
from ..reporting.report import RunReport
from .grants import Grants
from .inbox import Inbox
from .remote_sources import RemoteSources
from .site import Site, work_of
from .station import Broken, Exited, Restarted, StackTaken, StationEvent, describe_exit
from .supervisor import Supervisor
from .transport import messages
from .transport.arena import Arena
from .transport.router import Router
from .transport.run_dir import RunDir
from .watchdog import Overrun

_LOG = logging.getLogger("sluiceway")
#: How often a busy hub checks for exits, in seconds; one that sleeps is woken by them.
_EXITS_S = 0.02


class ChildBackend:
    """Runs the workers and remote sources of a plan as child processes at a site. With `paused` no source is started."""

    def __init__(self, plan: Plan, options: RunOptions, site: Site, *, paused: bool = False) -> None:
        self._plan = plan
        self._options = options
        self._site = site
        self._paused = paused
        self._receive_output: Callable[[], None] = lambda: None  #: until `start`
        self._complete: Callable[[RunReport], None] = lambda report: None  #: until `open`
        self._exits_at = 0.0  #: when to check for exits next
        self._watched = -1  #: the descriptor of the place that is registered with the selector

    def open(self, run: RunHandle) -> None:
        """Create the run's folder with what every child reads, and the arena; before that, see that there is room."""
        self._run = run
        self._site.check_room(self._plan)
        with ExitStack() as opened:
            self.folder = RunDir()
            opened.callback(self.folder.close)
            self._arena = Arena(self._site.arena(self.folder.path), self._options.window_bytes)
            opened.callback(self._arena.close)
            self._grants = Grants(self._arena)
            opened.callback(self._grants.clear)
            work = work_of(self._plan, self._options, paused=self._paused)
            self._place = self._site.make_place(self._plan, self.folder.path, work, run.core)
            opened.callback(self._place.close)
            self._complete = self._place.complete
            self.supervisor = Supervisor(run.core, self._place, self._options, run.restarts, self._plan.name)
            self._opened = opened.pop_all()

    def start(self) -> None:
        """Open the socket, start the process that starts the others, and the remote sources."""
        run = self._run
        self.router = Router()
        self._opened.callback(self.router.close)
        self._selector = self._opened.enter_context(selectors.DefaultSelector())
        self._sources = RemoteSources(self._plan, run.core, run.feeds, self.router)
        self._inbox = Inbox(self._plan, run, self.router, self.supervisor, self._sources, self._grants, self._place.record_answer)
        self._receive_output = self._inbox.receive_output
        self._site.bind(self.router, self.folder.path)
        self._selector.register(run.wakeup, selectors.EVENT_READ)
        self._selector.register(self.router.descriptor, selectors.EVENT_READ)
        if self._plan.processes:
            self._place.start()
        self.supervisor.start(self.router)
        if not self._paused:
            self._sources.start(self.supervisor.spawn)

    def view(self, now: float) -> BackendView:
        """Return what the processes do now; see `Backend.view`."""
        return BackendView(self.supervisor.views(now), self._sources.are_open)

    def keep(self, payload: Payload) -> Payload:
        """Return a payload with its large frames in shared memory, where there is room."""
        return self._arena.share(payload) if self._plan.processes else payload

    # -- effects ------------------------------------------------------------------------------------------------

    def do(self, effect: BackendEffect) -> bool:
        """Send a child what the core asks of it, or schedule its start; that makes no input of the core at once."""
        if isinstance(effect, SendTask):
            task = effect.task
            room = self._grants.allocate(effect.worker, task.id, task.stop - task.start)
            parts = messages.pack_task(task.id, task.start, task.stop, effect.answer_batch, task.orders, effect.inputs, room)
            self.router.send(effect.worker, parts)
        elif isinstance(effect, AskState):
            self.router.send(effect.worker, messages.pack(messages.Kind.STATE, effect.n))
        elif isinstance(effect, Restore):
            self.router.send(effect.worker, messages.pack(messages.Kind.RESTORE, frames=[effect.packed]))
        elif isinstance(effect, Spawn):
            self.supervisor.schedule(effect)
        elif isinstance(effect, StopWorker):
            self.supervisor.stop_worker(effect.worker)
        else:
            self._sources.do(effect)
        return False

    # -- what happens -------------------------------------------------------------------------------------------

    def poll(self, now: float) -> bool:
        """Record messages and exits, start the workers that are due, and check time limits; see `Backend.poll`."""
        may_be_more = self._inbox.receive_some()
        if now >= self._exits_at:
            self._exits_at = now + _EXITS_S
            for event in self._place.events(now):
                self._record(event)
        self.supervisor.spawn_due(now)
        self.supervisor.check(now)
        return may_be_more

    def wait(self, timeout_s: float) -> bool:
        """Wait for a message, an exit, the next worker that is due, or `wake`; see `Backend.wait`."""
        # The socket's descriptor is readable only after a change.
        if self.router.waiting:
            return False
        self._watch(self._place.descriptor)
        timeout_s = min(timeout_s, self.supervisor.wait_s(monotonic()))
        ready = [key.fd for key, _ in self._selector.select(timeout_s)]
        if self._watched in ready:
            self._exits_at = 0.0
        return self._run.wakeup in ready

    def _watch(self, descriptor: int) -> None:
        """Let `wait` see the exits that a descriptor tells; -1 for none."""
        if descriptor != self._watched:
            if self._watched >= 0:
                self._selector.unregister(self._watched)
            if descriptor >= 0:
                self._selector.register(descriptor, selectors.EVENT_READ)
            self._watched = descriptor

    def _record(self, event: StationEvent) -> None:
        if isinstance(event, Exited):
            self._inbox.receive_all()
            self._record_exit(event)
        elif isinstance(event, Overrun):
            self.supervisor.record_overrun(event)
        elif isinstance(event, StackTaken):
            self.supervisor.record_stack(event)
        elif isinstance(event, Restarted):
            self._watch(-1)  # the next one's descriptor may have the same number
            _LOG.warning("%s; all of them are started again", event.reason)
        elif isinstance(event, Broken):
            self._run.fail(SluicewayError(event.reason))

    def _record_exit(self, event: Exited) -> None:
        child = event.child
        self.router.deregister(child)
        if self._sources.is_source(child):
            self._sources.record_exit(child, event.cause or describe_exit(event.code))
            return
        if event.code is not None:  # without an exit code it may still run, and write
            self._grants.record_exit(child)
        self.supervisor.record_exit(event)

    # -- the end ------------------------------------------------------------------------------------------------

    def stop(self, *, orderly: bool, hurried: Callable[[], bool]) -> dict[str, str]:
        """Stop all children: STOP, wait, SIGTERM, SIGKILL; see `Backend.stop`."""
        if not self._plan.processes:
            return {}
        return self.supervisor.stop(orderly, self._receive_output, hurried, self._sources.stores)

    def close(self) -> None:
        """Close the socket, the arena and the run's folder; what was opened last is closed first."""
        self._opened.close()

    def complete(self, report: RunReport) -> None:
        """Add where numbers were answered, and what the run waits for."""
        self._complete(report)
