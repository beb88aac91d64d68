"""The crew: what the hub does for the child processes of a run, from their birth to the last rung of the ladder.

Decides nothing about what is handed out again; it starts whom the core asks for, tells the core who is gone and what
it was last seen at, and takes the ladder down: stop, wait, terminate, kill.
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
from .transport import messages as wire
from .transport.launch import ChildSettings, WorkerSpec
from .transport.router import Router
from .transport.status_page import StatusPage, StatusReading
from .watchdog import Overrun, Stalls, has_limits, overruns, steps_of

_LOG = logging.getLogger("sluiceway")
_TICK_S = 0.25
#: The tick while calls are watched for a time limit.
_LIMIT_TICK_S = 0.02
#: Exit codes of whom somebody else has ended: the memory killer, the user, a supervisor.
_KILLS = (-signal.SIGKILL, -signal.SIGTERM)


class Crew:
    """The children of one run. Made in the caller's thread, used by the hub's."""

    def __init__(
        self, plan: Plan, core: Core, folder: Path, options: RunOptions, restarts: Restarts, *, held: bool
    ) -> None:
        self._plan = plan
        self._core = core
        self._folder = folder
        self._options = options
        self._port: Router | None = None
        self._nursery = Nursery(entry="sluiceway.engine.local.children.entry:main", preload=modules_of(plan, held=held))
        self._pages: dict[str, StatusPage] = {}
        self._due: list[tuple[float, Spawn]] = []
        self._leaving: set[str] = set()
        #: Workers killed for a time limit, with what a late list is to be suspected by; a late event is charged already.
        self._killed: dict[str, LastSeen | None] = {}
        #: Until when the replaced may close their handlers.
        self._closing: dict[str, float] = {}
        self._limited = has_limits(core)
        self._stalls = Stalls(options.stall_warning_s, folder, monotonic())
        self._stalls_at = 0.0
        self._restarts = restarts
        self._write_specs()

    def _write_specs(self) -> None:
        """Write what each pool's workers and each source share, once, for each of them to read at its birth."""
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

    # -- births -------------------------------------------------------------------------------------------------

    def start(self, port: Router) -> None:
        """Start the process that starts the others."""
        self._port = port
        if self._plan.processes:
            self._nursery.start()

    def start_again(self) -> None:
        """Start it again after it has died."""
        self._nursery.start()

    def want(self, spawn: Spawn) -> None:
        """Note a worker to be started when its pause is over."""
        self._due.append((monotonic() + spawn.pause_s, spawn))

    def bear_due(self, now: float) -> None:
        """Start the workers whose pause is over."""
        for at, spawn in [pair for pair in self._due if pair[0] <= now]:
            self._due.remove((at, spawn))
            self._pages[spawn.worker] = StatusPage(self._folder / f"{spawn.worker}.status", create=True)
            self.bear(spawn.worker, f"pool{spawn.pool}")

    def bear(self, child: str, spec: str) -> None:
        """Start a child that reads what it is to do from a file of the run's folder."""
        assert self._port is not None, "a child without a port"
        settings = ChildSettings(
            self._port.endpoint,
            child,
            self._port.register(child),
            child_output.logger_levels(),
            child_output.prints_are_captured(),
            self._port.curve,
            str(self._folder / spec),
        )
        self._nursery.spawn(child, settings.dump())

    # -- watching -----------------------------------------------------------------------------------------------

    @property
    def descriptor(self) -> int:
        """The descriptor that tells of events, -1 without children; another one after a new start."""
        return self._nursery.fileno() if self._plan.processes else -1

    @property
    def alive(self) -> dict[str, int]:
        """The pids of the living children."""
        return dict(self._nursery.alive)

    def wait_s(self, now: float) -> float:
        """Give how long may be waited before something is due here, in seconds."""
        tick = _LIMIT_TICK_S if self._limited else _TICK_S
        return max(0.0, min([tick, *(at - now for at, _ in self._due)]))

    def events(self) -> list[Event]:
        """Give what happened to the children since the last call."""
        return self._nursery.events()

    def is_worker(self, child: str) -> bool:
        """Whether a child is a living worker."""
        return child in self._pages

    def ready(self, child: str) -> None:
        """Record that a child takes work; a worker ends the gap that its predecessor left."""
        if self.is_worker(child):
            self._restarts.record_ready(child, monotonic())

    def leaving(self, worker: str, why: str) -> None:
        """Take in that a worker asks to be replaced."""
        _LOG.debug("worker %s is replaced: %s", worker, why)
        self._leaving.add(worker)

    def dismiss(self, worker: str) -> None:
        """Tell a worker that is to be replaced to close its handlers and go."""
        assert self._port is not None
        self._closing[worker] = monotonic() + self._options.close_s
        self._port.send(worker, wire.pack(wire.Kind.STOP))

    def gone(self, worker: str, code: int | None) -> None:
        """Take in that a worker is gone, and tell the core what it was last seen at, unless the engine ended it."""
        page = self._pages.pop(worker)
        sight = page.read()
        page.close()
        (self._folder / f"{worker}.status").unlink(missing_ok=True)
        ours = worker in self._killed
        # That a worker is to be replaced does not excuse an event that kills it before it goes.
        went = worker in self._leaving and (code == 0 or sight.seen.phase is Phase.CLOSE)
        self._leaving.discard(worker)
        self._closing.pop(worker, None)
        seen = self._killed.pop(worker, None) if ours or went or code is None else sight.seen
        self._core.died(worker, seen, describe_exit(code), ours=ours, killed=code in _KILLS)
        if seen is not None and not ours:
            self._restarts.record_exit(worker, monotonic())
            _LOG.warning("worker %s %s while it was %s", worker, describe_exit(code), self._doing(worker, sight))

    def _doing(self, worker: str, sight: StatusReading) -> str:
        seen = sight.seen
        node = steps_of(self._core, worker)[seen.step].node
        return {
            Phase.START: "starting",
            Phase.IDLE: "idle",
            Phase.CODEC: "packing or unpacking events",
            Phase.BATCH: f"in node {node!r} on a batch from number {seen.seq}",
            Phase.EVENT: f"in node {node!r} on number {seen.seq}",
            Phase.MANY: "working on several numbers",
            Phase.CLOSE: "closing",
        }[seen.phase]

    def look(self, now: float) -> None:
        """Look for calls past their time limit, and for a head of the line that does not move."""
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
            warning = self._stalls.look(self._core, self._pages, self._nursery.alive, now)
            if warning is not None:
                _LOG.warning("%s: %s", self._plan.name, warning)

    def _kill_late(self, overrun: Overrun) -> None:
        """Kill a worker for a time limit. A late event is charged an attempt; a late list is run again event by event."""
        worker, seen = overrun.worker, overrun.seen
        if overrun.event:
            self._core.overran(worker, seen, overrun.limit_s)
        self._killed[worker] = None if overrun.event else seen
        _LOG.info(
            "worker %s is replaced: its call on number %d ran past timeout_s=%g", worker, seen.seq, overrun.limit_s
        )
        self._nursery.kill(worker)

    # -- the ladder ---------------------------------------------------------------------------------------------

    def close(self, orderly: bool, listen: Callable[[], None], hurried: Callable[[], bool]) -> dict[str, str]:
        """Take the ladder down: stop, wait, terminate, kill. Gives what it took for each child.

        `listen` takes in what children still say; `hurried` tells when nobody wants to wait any more.
        """
        if not self._plan.processes or self._port is None:
            return {}
        # Also to those that are still being started: it waits for them.
        for child in (*self._nursery.alive, *self._nursery.requested):
            self._port.send(child, wire.pack(wire.Kind.STOP))
        wait_s = self._options.close_s if orderly else min(0.5, self._options.close_s)
        took = dict(self._exits(monotonic() + wait_s, listen, hurried))
        took.update(self._nursery.shutdown(1.0 if orderly else 0.2))
        return took

    def _exits(
        self, deadline: float, listen: Callable[[], None], hurried: Callable[[], bool]
    ) -> Iterator[tuple[str, str]]:
        assert self._port is not None
        while monotonic() < deadline and not hurried():
            listen()
            for event in self._nursery.events():
                if isinstance(event, ChildExited):
                    yield event.child, "stopped"
                elif isinstance(event, ZygoteDied):
                    return
            if not self._nursery.alive and not self._nursery.requested:
                break
            with selectors.DefaultSelector() as selector:
                selector.register(self._port.descriptor, selectors.EVENT_READ)
                selector.register(self._nursery.fileno(), selectors.EVENT_READ)
                selector.select(min(_TICK_S, max(0.0, deadline - monotonic())))
        listen()

    def forget(self) -> None:
        """Let go of the status pages."""
        for page in self._pages.values():
            page.close()


def describe_exit(code: int | None) -> str:
    """Say how a process ended, and the likely cause."""
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
