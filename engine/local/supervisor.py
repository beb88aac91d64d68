"""Supervises the child processes of a run.

Asks a `Place` for the workers that the core asks for, records their exits with the last status, replaces workers that are
past a limit, and shuts down: STOP, wait, SIGTERM, SIGKILL. Decides nothing about which numbers are handed out again, and
does not know on which machine a child is.
"""

from __future__ import annotations

import logging
import selectors
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Protocol

from ...nodes.dispatch.blame import LastSeen, Phase
from ...nodes.dispatch.worker_name import WorkerName
from ...nodes.program.program import Step
from ..core.core import Core
from ..core.effects import Spawn
from ..hub.restarts import Restarts
from ..options import RunOptions
from ..reporting.live import WorkerView
from . import child_output
from .station import KILLS, Broken, Exited, Restarted, StackTaken, StationEvent, describe_exit
from .transport import messages
from .transport.launch import ChildSettings
from .transport.router import Router
from .transport.status_page import StatusReading
from .watchdog import Overrun, Stalls, has_limits, steps_of

_LOG = logging.getLogger("sluiceway")
#: How often limits and stalls are checked, in seconds.
_TICK_S = 0.25
#: The same while calls are watched for a time limit.
_LIMIT_TICK_S = 0.02
#: How long to wait for what exited children have sent, in seconds; only a fork that a handler left behind takes so long.
_LAST_S = 2.0


#: What a worker does, in a word.
_WORDS = {
    Phase.START: "starts", Phase.IDLE: "waits", Phase.CODEC: "packs", Phase.BATCH: "batch", Phase.EVENT: "event",
    Phase.MANY: "several", Phase.CLOSE: "closes",
}  # fmt: skip


class Place(Protocol):
    """Where children run: the station of this machine, or those of other machines. Used by the hub's thread."""

    def spawn(self, child: str, spec: str, settings: ChildSettings) -> None:
        """Start a child, now or as soon as there is room; `spec` names what describes its work."""

    def kill(self, child: str) -> None:
        """Kill a child; its exit follows."""

    def ask_stack(self, worker: str, now: float) -> None:
        """Ask a worker for its stack; `StackTaken` follows, unless the worker exits before."""

    def status(self, worker: str) -> StatusReading | None:
        """Return what a worker shows on its status page, or `None` where that is not seen from here."""

    @property
    def descriptor(self) -> int:
        """The descriptor that is readable when there are events."""

    @property
    def alive(self) -> Mapping[str, int]:
        """The pids of the children that run, by name."""

    @property
    def names(self) -> Sequence[str]:
        """The children that run or are being started."""

    def events(self, now: float) -> Sequence[StationEvent]:
        """Return what happened since the last call, and do what is due."""

    def where(self, child: str, pid: int) -> str:
        """Return where a child runs, for a warning."""

    def shutdown(self, grace_s: float) -> dict[str, str]:
        """End every child: SIGTERM, after `grace_s` seconds SIGKILL; return how each one ended."""


class Supervisor:
    """The children of one run. Made in the caller's thread, used by the hub's."""

    def __init__(self, core: Core, place: Place, options: RunOptions, restarts: Restarts, name: str) -> None:
        self._core = core
        self._place = place
        self._options = options
        self._name = name
        self._router: Router | None = None
        self._workers: set[str] = set()
        self._due: list[tuple[float, Spawn]] = []
        self._leaving: set[str] = set()
        #: Workers killed for a limit; for a late list the status that makes its events suspects, else `None`.
        self._killed: dict[str, LastSeen | None] = {}
        #: Workers that are being replaced, with the time until which they may close their handlers.
        self._closing: dict[str, float] = {}
        self._limited = has_limits(core)
        self._stalls = Stalls(options.stall_warning_s, lambda worker: place.ask_stack(worker, monotonic()), monotonic())
        self._stalls_at = 0.0
        self._restarts = restarts

    # -- starts -------------------------------------------------------------------------------------------------

    def start(self, router: Router) -> None:
        """Let children be started: `router` is the socket that they are to talk to."""
        self._router = router

    def schedule(self, spawn: Spawn) -> None:
        """Start a worker later, when its pause is over."""
        self._due.append((monotonic() + spawn.pause_s, spawn))

    def spawn_due(self, now: float) -> None:
        """Start the workers whose pause is over."""
        for at, spawn in [pair for pair in self._due if pair[0] <= now]:
            self._due.remove((at, spawn))
            self._workers.add(spawn.worker)
            self.spawn(spawn.worker, f"pool{spawn.pool}")

    def spawn(self, child: str, spec: str) -> None:
        """Start a child; its work is described in a file of the run's folder."""
        assert self._router is not None, "a child without a socket"
        settings = ChildSettings(
            self._router.endpoint,
            child,
            self._router.register(child),
            child_output.logger_levels(),
            child_output.prints_are_captured(),
            self._router.curve,
            spec,
        )
        self._place.spawn(child, spec, settings)

    # -- watching -----------------------------------------------------------------------------------------------

    @property
    def alive(self) -> dict[str, int]:
        """The pids of the children that run, by name."""
        return dict(self._place.alive)

    def views(self, now: float) -> tuple[WorkerView, ...]:
        """Return what every worker does now."""
        views = []
        for child in self._place.names:
            if not self.is_worker(child):
                continue
            status = self._place.status(child)
            name, dispatcher = WorkerName.parse(child), self._core.dispatcher_of(child)
            load = dispatcher.workers.get(child) if dispatcher is not None else None
            doing, node, number, for_s = _shown(status, steps_of(self._core, child), now)
            views.append(
                WorkerView(
                    name=child,
                    pool=self._core.wiring.pools[name.pool].name,
                    pid=0 if status is None else self._place.alive.get(child, 0),
                    doing=doing,
                    node=node,
                    number=number,
                    for_s=for_s,
                    numbers=0 if load is None else load.load,
                    life=name.life,
                )
            )
        return tuple(views)

    def wait_s(self, now: float) -> float:
        """Return how many seconds may pass before something is due."""
        tick = _LIMIT_TICK_S if self._limited else _TICK_S
        return max(0.0, min([tick, *(at - now for at, _ in self._due)]))

    def is_worker(self, child: str) -> bool:
        """Whether a child is a worker that has not exited."""
        return child in self._workers

    def record_ready(self, child: str) -> None:
        """Record that a child takes work; a worker ends the gap that its predecessor left."""
        if self.is_worker(child):
            self._restarts.record_ready(child, monotonic())

    def record_leaving(self, worker: str, why: str) -> None:
        """Record that a worker asks to be replaced."""
        _LOG.debug("worker %s is replaced: %s", worker, why)
        self._leaving.add(worker)

    def stop_worker(self, worker: str) -> None:
        """Tell a worker that is being replaced to close its handlers and exit, within `close_s`."""
        assert self._router is not None
        self._closing[worker] = monotonic() + self._options.close_s
        self._router.send(worker, messages.pack(messages.Kind.STOP))

    def record_exit(self, exited: Exited) -> None:
        """Record that a worker has exited; tell the core what it was last seen doing, unless the engine ended it."""
        worker, code, last = exited.child, exited.code, exited.seen
        cause = exited.cause or describe_exit(code)
        self._workers.discard(worker)
        ours = worker in self._killed
        # That a worker is being replaced does not excuse an event that kills it before it exits by itself.
        left = worker in self._leaving and (code == 0 or (last is not None and last.phase is Phase.CLOSE))
        self._leaving.discard(worker)
        self._closing.pop(worker, None)
        seen = self._killed.pop(worker, None) if ours or left or code is None else last
        self._core.record_death(worker, seen, cause, ours=ours, killed=code in KILLS)
        if code is None and last is not None and exited.cause:
            _LOG.warning("worker %s %s; it is replaced, and no event is to blame", worker, cause)
        if seen is not None and not ours:
            self._restarts.record_exit(worker, monotonic())
            node = steps_of(self._core, worker)[seen.step].node
            _LOG.warning("worker %s %s while it was %s", worker, cause, _activity(node, seen))

    def record_overrun(self, overrun: Overrun) -> None:
        """Record that a worker was killed for a time limit.

        A late event has used an attempt, a late list is run again event by event.
        """
        worker, seen = overrun.worker, overrun.seen
        if overrun.event:
            self._core.record_overrun(worker, seen, overrun.limit_s)
        self._killed[worker] = None if overrun.event else seen
        _LOG.info(
            "worker %s is replaced: its call on number %d ran past timeout_s=%g", worker, seen.seq, overrun.limit_s
        )

    def record_stack(self, taken: StackTaken) -> None:
        """Warn that nothing moves, with the stack of the worker that has the lowest number."""
        where = self._place.where(taken.worker, taken.pid)
        warning = self._stalls.record_stack(self._core, taken.worker, where, taken.seen, taken.stack)
        if warning is not None:
            _LOG.warning("%s: %s", self._name, warning)

    def check(self, now: float) -> None:
        """Kill workers that take too long to close, and warn if nothing moves."""
        for worker in [worker for worker, until in self._closing.items() if now >= until]:
            del self._closing[worker]
            limit_s = self._options.close_s
            _LOG.warning("worker %s is killed: its handlers take longer to close than close_s=%g", worker, limit_s)
            self._killed[worker] = None
            self._place.kill(worker)
        if now >= self._stalls_at:
            self._stalls_at = now + min(_TICK_S, self._options.stall_warning_s / 4)
            warning = self._stalls.check(self._core, self._place.alive, now)
            if warning is not None:
                _LOG.warning("%s: %s", self._name, warning)

    # -- the end ------------------------------------------------------------------------------------------------

    def stop(
        self, orderly: bool, receive: Callable[[], None], hurried: Callable[[], bool], stores: Callable[[str], bool]
    ) -> dict[str, str]:
        """Stop all children: STOP, wait, SIGTERM, SIGKILL; return what it took for each of them.

        `receive` handles what they still send; `hurried` becomes true when nobody wants to wait any more. What a child
        `stores` would be lost otherwise, so such a child is waited for as after a run that succeeds.
        """
        if self._router is None:
            return {}
        # Those that are still being started get it too, as soon as they are ready.
        for child in self._place.names:
            self._router.send(child, messages.pack(messages.Kind.STOP))
        wait_s = self._options.close_s if orderly else min(0.5, self._options.close_s)
        took: dict[str, str] = {}
        try:
            took.update(self._exits(monotonic() + wait_s, receive, hurried, lambda child: True))
            late = monotonic() + max(0.0, self._options.close_s - wait_s)
            took.update(self._exits(late, receive, hurried, stores))
        finally:
            took.update(self._place.shutdown(1.0 if orderly else 0.2))
        self._receive_last(receive, hurried)
        return took

    def _receive_last(self, receive: Callable[[], None], hurried: Callable[[], bool]) -> None:
        """Handle what the children sent before they exited; the socket may not have read all of it yet."""
        assert self._router is not None
        deadline = monotonic() + _LAST_S
        while self._router.has_connections() and not hurried() and (left := deadline - monotonic()) > 0:
            self._router.wait_for_disconnect(left)
            receive()
        receive()

    def _exits(
        self, deadline: float, receive: Callable[[], None], hurried: Callable[[], bool], awaited: Callable[[str], bool]
    ) -> Iterator[tuple[str, str]]:
        assert self._router is not None
        while monotonic() < deadline and not hurried():
            receive()
            for event in self._place.events(monotonic()):
                if isinstance(event, Exited):
                    yield event.child, "stopped"
                elif isinstance(event, Restarted | Broken):
                    return
            if not any(map(awaited, self._place.names)):
                break
            with selectors.DefaultSelector() as selector:
                selector.register(self._router.descriptor, selectors.EVENT_READ)
                selector.register(self._place.descriptor, selectors.EVENT_READ)
                selector.select(min(_TICK_S, max(0.0, deadline - monotonic())))
        receive()


def _shown(
    status: StatusReading | None, steps: Sequence[Step], now: float
) -> tuple[str, str | None, int | None, float]:
    """Return what a worker does in a word, in which node, on which number (`None`: several or none), and for how long."""
    if status is None:
        return "elsewhere", None, None, 0.0
    seen = status.seen
    in_node = seen.phase in (Phase.EVENT, Phase.BATCH, Phase.MANY)
    return (
        _WORDS[seen.phase],
        steps[seen.step].node if in_node and seen.step < len(steps) else None,
        seen.seq if in_node or seen.phase is Phase.CODEC else None,
        max(0.0, now - status.since_s) if status.since_s else 0.0,
    )


def _activity(node: str, seen: LastSeen) -> str:
    """Return what a worker was doing in a node when it was last seen."""
    return {
        Phase.START: "starting",
        Phase.IDLE: "idle",
        Phase.CODEC: "packing or unpacking events",
        Phase.BATCH: f"in node {node!r} on a batch from number {seen.seq}",
        Phase.EVENT: f"in node {node!r} on number {seen.seq}",
        Phase.MANY: "working on several numbers",
        Phase.CLOSE: "closing",
    }[seen.phase]
