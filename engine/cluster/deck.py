"""A deck: what runs inside one Ray actor, a station whose children are the workers of a run on this node.

Decides that one thread of the actor's process owns the station; calls of the driver only pass orders and take events.
Of Ray it asks the node's id alone: exit codes, time limits and stacks are those of a station on one machine.
"""

from __future__ import annotations

import os
import platform
import queue
import selectors
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

from ...nodes.errors import SluicewayError, describe
from ...nodes.program.hardware import VISIBLE, Seat, gpus_of
from ..codec.pickling import loads
from ..hub.wakeup import Wakeup
from ..local.processes import warm
from ..local.processes.bootstrap import THREAD_VARIABLES
from ..local.station import Broken, ChildWork, Restarted, Station, StationEvent
from ..local.transport.launch import ChildSettings
from ..local.transport.run_dir import RunDir

#: How often the station is asked, in seconds, where only the clock brings something: limits and stacks, else never.
_TICK_S = 0.02
_IDLE_S = 0.5
#: How long the station may take to end beyond the grace that is given, in seconds.
_END_S = 8.0


@dataclass(frozen=True, slots=True)
class DeckWork:
    """What a deck is made from: what its children do, and what they see of the calling process."""

    children: ChildWork
    search_path: Sequence[str]
    arguments: Sequence[str]
    thread_variables: Mapping[str, str]
    python: tuple[int, int]


@dataclass(frozen=True, slots=True)
class DeckFacts:
    """What a deck tells when it is up."""

    host: str
    node: str  #: Ray's id of the node


@dataclass(frozen=True, slots=True)
class SpawnOrder:
    """Start a worker; `spec` names what describes its work, `gpus` is how many of the deck's GPUs its berth has."""

    child: str
    spec: str
    settings: ChildSettings
    berth: int
    gpus: float


@dataclass(frozen=True, slots=True)
class KillOrder:
    """Kill a worker."""

    child: str


@dataclass(frozen=True, slots=True)
class StackOrder:
    """Ask a worker for its stack."""

    worker: str


Order = SpawnOrder | KillOrder | StackOrder


class Deck:
    """The class of the actor. `begin` comes first; `obey` and `next_events` are called one after the other each."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self._orders: deque[Order] = deque()
        self._events: queue.SimpleQueue[StationEvent] = queue.SimpleQueue()
        self._wakeup = Wakeup()
        self._up = threading.Event()
        self._over = threading.Event()
        self._ending: float | None = None  #: the grace in seconds, once the end was asked for
        self._seats: dict[str, Seat] = {}  #: of workers that are about to be started
        self._took: dict[str, str] = {}
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="sluiceway-deck", daemon=True)

    def begin(self) -> DeckFacts:
        """Start the station; raises `SluicewayError` if this node cannot run the workers."""
        import ray  # this process has it; the calling process imports this file without it

        work: DeckWork = loads(self._packed)
        if sys.version_info[:2] != work.python:
            here, there = (".".join(map(str, version)) for version in (sys.version_info[:2], work.python))
            raise SluicewayError(
                f"cannot start workers on node {platform.node()}: it has Python {here} and the calling process has"
                f" {there}; handlers are sent as code of one version, use the same on all nodes"
            )
        sys.path += [path for path in work.search_path if path not in sys.path and os.path.exists(path)]
        sys.argv[:] = work.arguments
        # Ray sets the number of an actor's cores; a deck has many workers, each of which counts as one.
        for name in THREAD_VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(work.thread_variables)
        self._children = work.children
        self._gpus = [str(gpu) for gpu in ray.get_gpu_ids()]
        self._thread.start()
        self._up.wait()
        if self._error is not None:
            raise SluicewayError(f"cannot start workers on node {platform.node()}: {describe(self._error)}")
        return DeckFacts(platform.node(), ray.get_runtime_context().get_node_id())

    def obey(self, orders: Sequence[Order]) -> None:
        """Carry out orders, soon and in this order."""
        self._orders.extend(orders)
        self._wakeup.notify()

    def next_events(self) -> list[StationEvent]:
        """Wait until something has happened and return it."""
        found = [self._events.get()]
        while not self._events.empty():
            found.append(self._events.get())
        return found

    def end(self, grace_s: float) -> dict[str, str]:
        """End every worker: SIGTERM, after `grace_s` seconds SIGKILL; return how each one ended. Nothing is left here."""
        self._ending = grace_s
        self._wakeup.notify()
        self._over.wait(grace_s + _END_S)
        return self._took

    # -- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            folder = RunDir()
            try:
                station = Station(folder.path, self._children, self._seats.pop)
                try:
                    station.start()
                    self._up.set()
                    self._serve(station)
                    self._took = station.shutdown(self._ending or 0.0)
                finally:
                    station.close()
                    warm.shutdown()  # there is no next run in this process
            finally:
                folder.close()
        except BaseException as error:
            self._error = error
            self._events.put(Broken(f"the deck on node {platform.node()} failed: {describe(error)}"))
        self._up.set()
        self._over.set()

    def _serve(self, station: Station) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakeup.descriptor, selectors.EVENT_READ)
            watched = station.descriptor
            selector.register(watched, selectors.EVENT_READ)
            while self._ending is None:
                while self._orders:
                    self._carry_out(station, self._orders.popleft())
                for event in station.events(monotonic()):
                    self._events.put(event)
                    if isinstance(event, Broken):
                        return
                    if isinstance(event, Restarted):
                        selector.unregister(watched)
                        watched = station.descriptor
                        selector.register(watched, selectors.EVENT_READ)
                self._wakeup.prepare()
                if self._orders or self._ending is not None:
                    self._wakeup.clear(readable=False)
                    continue
                ready = selector.select(_TICK_S if station.needs_clock else _IDLE_S)
                self._wakeup.clear(readable=any(key.fd == self._wakeup.descriptor for key, _ in ready))

    def _carry_out(self, station: Station, order: Order) -> None:
        if isinstance(order, SpawnOrder):
            gpus = gpus_of(order.gpus, order.berth, self._gpus) if order.gpus else []
            self._seats[order.child] = Seat(((VISIBLE, ",".join(gpus)),)) if gpus else Seat()
            station.spawn(order.child, order.spec, order.settings)
        elif isinstance(order, KillOrder):
            station.kill(order.child)
        else:
            station.ask_stack(order.worker, monotonic())
