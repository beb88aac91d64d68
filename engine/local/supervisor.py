"""Supervises the child processes of a run.

Starts the workers that the core asks for, records exits with the last status, kills workers that are past a limit, and
shuts down: STOP, wait, SIGTERM, SIGKILL. Decides nothing about which numbers are handed out again.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

from ...nodes.ordering.blame import LastSeen, Phase
from ..codec.pickling import dumps
from ..core.core import Core
from ..core.effects import Spawn
from ..hub.restarts import Restarts
from ..options import RunOptions
from ..plan.plan import Plan
from . import child_output
from .preload import modules_of
from .processes.nursery import ChildExited, Event, Nursery, ZygoteDied
from .transport import messages
from .transport.launch import ChildSettings, WorkerSpec
from .transport.router import Router
from .transport.status_page import StatusPage
from .watchdog import Overrun, Stalls, has_limits, overruns, steps_of

_LOG = logging.getLogger("sluiceway")
#: How often limits and stalls are checked, in seconds.
_TICK_S = 0.25
#: The same while calls are watched for a time limit.
_LIMIT_TICK_S = 0.02
#: How long to wait for what exited children have sent, in seconds; only a fork that a handler left behind takes so long.
_LAST_S = 2.0
#: Exit codes of processes killed from outside: by the memory killer, the user, a service manager.
KILLS = (-signal.SIGKILL, -signal.SIGTERM)


class Supervisor:
    """The children of one run. Made in the caller's thread, used by the hub's."""

    def __init__(
        self, plan: Plan, core: Core, folder: Path, options: RunOptions, restarts: Restarts, *, paused: bool
    ) -> None:
        self._plan = plan
        self._core = core
        self._folder = folder
        self._options = options
        self._router: Router | None = None
        self._nursery = Nursery(entry="sluiceway.engine.local.children.entry:main", preload=modules_of(plan, paused=paused))
        self._pages: dict[str, StatusPage] = {}
        self._due: list[tuple[float, Spawn]] = []
        self._leaving: set[str] = set()
        #: Workers killed for a limit; for a late list the status that makes its events suspects, else `None`.
        self._killed: dict[str, LastSeen | None] = {}
        #: Workers that are being replaced, with the time until which they may close their handlers.
        self._closing: dict[str, float] = {}
        self._limited = has_limits(core)
        self._stalls = Stalls(options.stall_warning_s, folder, monotonic())
        self._stalls_at = 0.0
        self._restarts = restarts
        self._write_specs()

    def _write_specs(self) -> None:
        """Write what each pool's workers and each source share, once, for each of them to read when it starts."""
        for name in ("setup", "settings"):
            self._write(name, self._plan.shipped[name])
        for at, pool in enumerate(self._plan.pools):
            spec = WorkerSpec(
                self._plan.wiring.pools[at].program,
                self._plan.shipped[f"pool{at}"],
                pool.ordered,
                self._options.max_events_per_worker,
                self._options.max_rss_bytes,
            )
            self._write(f"pool{at}", dumps(spec))
        for at, source in enumerate(self._plan.sources):
            if source.remote:
                self._write(f"source{at}", self._plan.shipped[f"source{at}"])

    def _write(self, name: str, data: bytes) -> None:
        descriptor = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)

    # -- starts -------------------------------------------------------------------------------------------------

    def start(self, router: Router) -> None:
        """Start the process that starts the others."""
        self._router = router
        if self._plan.processes:
            self._nursery.start()

    def restart(self) -> None:
        """Start that process again after it has died."""
        self._nursery.start()

    def schedule(self, spawn: Spawn) -> None:
        """Start a worker later, when its pause is over."""
        self._due.append((monotonic() + spawn.pause_s, spawn))

    def spawn_due(self, now: float) -> None:
        """Start the workers whose pause is over."""
        for at, spawn in [pair for pair in self._due if pair[0] <= now]:
            self._due.remove((at, spawn))
            self._pages[spawn.worker] = StatusPage(self._folder / f"{spawn.worker}.status", create=True)
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
            str(self._folder / spec),
        )
        self._nursery.spawn(child, settings.dump())

    # -- watching -----------------------------------------------------------------------------------------------

    @property
    def descriptor(self) -> int:
        """The descriptor that is readable when there are events, -1 without children; another one after `restart`."""
        return self._nursery.fileno() if self._plan.processes else -1

    @property
    def alive(self) -> dict[str, int]:
        """The pids of the children that run, by name."""
        return dict(self._nursery.alive)

    def wait_s(self, now: float) -> float:
        """Return how many seconds may pass before something is due."""
        tick = _LIMIT_TICK_S if self._limited else _TICK_S
        return max(0.0, min([tick, *(at - now for at, _ in self._due)]))

    def events(self) -> list[Event]:
        """Return what happened to the children since the last call."""
        return self._nursery.events()

    def is_worker(self, child: str) -> bool:
        """Whether a child is a worker that has not exited."""
        return child in self._pages

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

    def record_exit(self, worker: str, code: int | None) -> None:
        """Record that a worker has exited; tell the core what it was last seen doing, unless the engine ended it."""
        page = self._pages.pop(worker)
        status = page.read()
        page.close()
        (self._folder / f"{worker}.status").unlink(missing_ok=True)
        ours = worker in self._killed
        # That a worker is being replaced does not excuse an event that kills it before it exits by itself.
        left = worker in self._leaving and (code == 0 or status.seen.phase is Phase.CLOSE)
        self._leaving.discard(worker)
        self._closing.pop(worker, None)
        seen = self._killed.pop(worker, None) if ours or left or code is None else status.seen
        self._core.record_death(worker, seen, describe_exit(code), ours=ours, killed=code in KILLS)
        if seen is not None and not ours:
            self._restarts.record_exit(worker, monotonic())
            node = steps_of(self._core, worker)[status.seen.step].node
            _LOG.warning("worker %s %s while it was %s", worker, describe_exit(code), _activity(node, status.seen))

    def check(self, now: float) -> None:
        """Kill workers that are past a limit, and warn if nothing moves."""
        if self._limited:
            for overrun in overruns(self._core, self._pages, self._killed, now):
                self._kill_late(overrun)
        for worker in [worker for worker, until in self._closing.items() if now >= until]:
            del self._closing[worker]
            limit_s = self._options.close_s
            _LOG.warning("worker %s is killed: its handlers take longer to close than close_s=%g", worker, limit_s)
            self._killed[worker] = None
            self._nursery.kill(worker)
        if now >= self._stalls_at:
            self._stalls_at = now + min(_TICK_S, self._options.stall_warning_s / 4)
            warning = self._stalls.check(self._core, self._pages, self._nursery.alive, now)
            if warning is not None:
                _LOG.warning("%s: %s", self._plan.name, warning)

    def _kill_late(self, overrun: Overrun) -> None:
        """Kill a worker for a time limit: a late event has used an attempt, a late list is run again event by event."""
        worker, seen = overrun.worker, overrun.seen
        if overrun.event:
            self._core.record_overrun(worker, seen, overrun.limit_s)
        self._killed[worker] = None if overrun.event else seen
        _LOG.info(
            "worker %s is replaced: its call on number %d ran past timeout_s=%g", worker, seen.seq, overrun.limit_s
        )
        self._nursery.kill(worker)

    # -- the end ------------------------------------------------------------------------------------------------

    def stop(self, orderly: bool, receive: Callable[[], None], hurried: Callable[[], bool]) -> dict[str, str]:
        """Stop all children: STOP, wait, SIGTERM, SIGKILL; return what it took for each of them.

        `receive` handles what they still send; `hurried` becomes true when nobody wants to wait any more.
        """
        if not self._plan.processes or self._router is None:
            return {}
        # Those that are still being started get it too, as soon as they are ready.
        for child in (*self._nursery.alive, *self._nursery.requested):
            self._router.send(child, messages.pack(messages.Kind.STOP))
        wait_s = self._options.close_s if orderly else min(0.5, self._options.close_s)
        took: dict[str, str] = {}
        try:
            took.update(self._exits(monotonic() + wait_s, receive, hurried))
        finally:
            took.update(self._nursery.shutdown(1.0 if orderly else 0.2))
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
        self, deadline: float, receive: Callable[[], None], hurried: Callable[[], bool]
    ) -> Iterator[tuple[str, str]]:
        assert self._router is not None
        while monotonic() < deadline and not hurried():
            receive()
            for event in self._nursery.events():
                if isinstance(event, ChildExited):
                    yield event.child, "stopped"
                elif isinstance(event, ZygoteDied):
                    return
            if not self._nursery.alive and not self._nursery.requested:
                break
            with selectors.DefaultSelector() as selector:
                selector.register(self._router.descriptor, selectors.EVENT_READ)
                selector.register(self._nursery.fileno(), selectors.EVENT_READ)
                selector.select(min(_TICK_S, max(0.0, deadline - monotonic())))
        receive()

    def close(self) -> None:
        """End what still runs, and close the status pages."""
        self._nursery.close()
        for page in self._pages.values():
            page.close()


def describe_exit(code: int | None) -> str:
    """Return how a process ended, and the likely cause, as part of a sentence."""
    if code is None:
        return "died with the process that starts workers"
    if code >= 0:
        return f"exited with code {code}" + ("" if code else ", which only os._exit in user code does")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    likely = {"SIGKILL": " (killed from outside, or by the memory killer)", "SIGSEGV": " (a crash in C code)"}
    return f"was ended by {name}{likely.get(name, '')}"


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
