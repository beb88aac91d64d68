"""Where the children of a run on Ray are: workers on decks, sources beside the calling process.

Decides how long a run waits for room in the cluster and what it says meanwhile, and when decks that die again and again end
the run.
"""

from __future__ import annotations

import logging
import selectors
from collections.abc import Callable, Mapping, Sequence

from ...nodes.dispatch.worker_name import WorkerName
from ..core.core import Core
from ..hub.wakeup import Wakeup
from ..local.station import Broken, Station, StationEvent
from ..local.transport.launch import ChildSettings
from ..reporting.report import RunReport
from .decks import Decks
from .demand import Demand, Profile, amounts, fits
from .session import ClusterSession

_LOG = logging.getLogger("sluiceway")
#: How long to wait for room before it is said what is waited for, in seconds.
_SAY_S = 5.0
#: How often it is checked whether decks that found no room would find it in another form, in seconds.
_AGAIN_S = 2.0
#: So many decks may die while no number is answered.
_MAX_FRUITLESS = 10
#: The pause before decks are asked for again, in seconds, for each that died in vain; and the longest.
_PAUSE_S, _MAX_PAUSE_S = 0.1, 5.0


class ClusterPlace:
    """The children of one run on Ray. Used by the hub's thread, but for `wakeup.notify`."""

    def __init__(
        self,
        decks: Decks,
        session: ClusterSession,
        sources: Station | None,
        *,
        core: Core,
        demand: Demand,
        wakeup: Wakeup,
        start_limit_s: float,
    ) -> None:
        self._decks = decks
        self._session = session
        self._sources = sources
        self._core = core
        self._demand = demand
        self._wakeup = wakeup
        self._start_limit_s = start_limit_s
        self._specs: dict[str, tuple[str, ChildSettings]] = {}  #: of workers that wait for a berth
        self._fruitless = 0  #: how many decks died since a number was answered
        self._frontier = 0
        self._ask_at = 0.0  #: when decks may be asked for next
        self._again_at = 0.0
        self._empty_since: dict[int, float] = {}  #: profiles without any deck that is up, while workers wait for one
        self._said: set[int] = set()
        self._waits_for = ""
        self._answered: dict[str, int] = {}  #: numbers by node
        self.record_answer: Callable[[str, int], None] | None = self._record_answer
        self._selector = selectors.DefaultSelector()
        self._selector.register(wakeup.descriptor, selectors.EVENT_READ)
        self._watched = -1

    def start(self) -> None:
        """Start the process that starts the sources, if there are any."""
        if self._sources is not None:
            self._sources.start()

    # -- what the supervisor asks -------------------------------------------------------------------------------

    def spawn(self, child: str, spec: str, settings: ChildSettings) -> None:
        """Start a source here, and a worker on a deck as soon as there is a berth for it."""
        if spec.startswith("source"):
            assert self._sources is not None
            self._sources.spawn(child, spec, settings)
            return
        self._specs[child] = spec, settings
        self._decks.fleet.request(child)
        self._wakeup.notify()

    def kill(self, child: str) -> None:
        """Kill a worker."""
        self._decks.kill(child)
        self._decks.send()

    def ask_stack(self, worker: str, now: float) -> None:
        """Ask a worker for its stack."""
        self._decks.ask_stack(worker)
        self._decks.send()

    def status(self, worker: str) -> None:
        """Return nothing: the status pages are on the machines of the decks."""

    @property
    def descriptor(self) -> int:
        """The descriptor that is readable when there are events; it stays the same."""
        watched = -1 if self._sources is None else self._sources.descriptor
        if watched != self._watched:
            if self._watched >= 0:
                self._selector.unregister(self._watched)
            if watched >= 0:
                self._selector.register(watched, selectors.EVENT_READ)
            self._watched = watched
        return self._selector.fileno()

    @property
    def alive(self) -> Mapping[str, int]:
        """The pids of the children that run, each on its own machine, by name."""
        return self._decks.alive | ({} if self._sources is None else dict(self._sources.alive))

    @property
    def names(self) -> Sequence[str]:
        """The children that run or are being started; not those that wait for a berth."""
        return [*self._decks.fleet.workers, *(() if self._sources is None else self._sources.names)]

    def where(self, child: str, pid: int) -> str:
        """Return where a child runs, for a warning."""
        node = self._decks.where(child)
        return f"process {pid}" + (f" on {node}" if node else "")

    # -- what happens -------------------------------------------------------------------------------------------

    def events(self, now: float) -> Sequence[StationEvent]:
        """Return what happened since the last call; ask for decks, and start the workers for which there is room."""
        self._wakeup.prepare()
        self._wakeup.clear(readable=bool(self._ready()))
        found, died, error = self._decks.events()
        if error:
            return [*found, Broken(error)]
        if self._sources is not None:
            found += self._sources.events(now)
        for cause in died:
            _LOG.warning("%s; its workers are started again where there is room", cause)
        broken = self._record_deaths(len(died), now) or self._ask(now)
        for worker, deck, berth in self._decks.fleet.assign():
            spec, settings = self._specs.pop(worker)
            self._decks.spawn(worker, deck, berth, spec, settings)
        self._decks.send()
        return found if broken is None else [*found, broken]

    def _ready(self) -> list[int]:
        return [key.fd for key, _ in self._selector.select(0) if key.fd == self._wakeup.descriptor]

    def _record_deaths(self, count: int, now: float) -> Broken | None:
        if self._core.frontier > self._frontier:
            self._frontier, self._fruitless = self._core.frontier, 0
        if not count:
            return None
        self._fruitless += count
        self._ask_at = now + min(_MAX_PAUSE_S, _PAUSE_S * self._fruitless)
        if self._fruitless < _MAX_FRUITLESS:
            return None
        return Broken(
            f"{self._fruitless} decks died and not one number was answered meanwhile; number {self._core.frontier} is the"
            " lowest that is open; look into Ray's logs for what ends the actors (memory, most likely)"
        )

    def _ask(self, now: float) -> Broken | None:
        """Ask for the decks that are missing, and again for those that found no room; say what is waited for."""
        if now < self._ask_at:
            return None
        fleet = self._decks.fleet
        for profile in range(len(self._demand.profiles)):
            if (berths := fleet.missing(profile)) > 0 and fleet.waits_for(profile):
                self._decks.ask(profile, berths, now)
        pending = self._decks.pending()
        if not pending:
            self._said.clear()
            self._waits_for = ""
        elif now >= self._again_at:
            self._again_at = now + _AGAIN_S
            self._ask_again(now)
        return self._wait_for_room(now)

    def _ask_again(self, now: float) -> None:
        """Ask for decks in another form, if those that wait found no room as they are."""
        waiting: dict[int, list[str]] = {}
        for name, (plan, asked_at) in self._decks.pending().items():
            if self._demand.profiles[plan.profile].is_bound:
                continue  # it is asked for as it can be had
            patience_s = _AGAIN_S if plan.node is None else self._start_limit_s / 2
            if now - asked_at >= patience_s:
                waiting.setdefault(plan.profile, []).append(name)
        if not waiting:
            return
        nodes = self._session.nodes()
        for profile, names in waiting.items():
            wanted = self._demand.profiles[profile]
            if any(fits(wanted, node.free) for node in nodes if wanted.allows(node)):
                for name in names:
                    self._decks.give_up(name)
                self._decks.ask(profile, self._decks.fleet.missing(profile), now)

    def _wait_for_room(self, now: float) -> Broken | None:
        fleet = self._decks.fleet
        for profile in {plan.profile for plan, _ in self._decks.pending().values()} | set(self._empty_since):
            if fleet.is_up(profile) or not fleet.waits_for(profile):
                self._empty_since.pop(profile, None)
            else:
                self._empty_since.setdefault(profile, now)
        for profile, since in self._empty_since.items():
            if now - since >= self._start_limit_s:
                return Broken(f"no room in the cluster within start_limit_s={self._start_limit_s:g}: {self._lacking(profile)}")
        for plan, asked_at in self._decks.pending().values():
            if now - asked_at >= _SAY_S and plan.profile not in self._said:
                self._said.add(plan.profile)
                self._waits_for = self._lacking(plan.profile)
                _LOG.warning("waiting for room in the cluster: %s", self._waits_for)
        return None

    def _record_answer(self, worker: str, size: int) -> None:
        node = self._decks.where(worker)
        self._answered[node] = self._answered.get(node, 0) + size

    def complete(self, report: RunReport) -> None:
        """Add how many numbers each node has answered, and what is waited for; see `Backend.complete`."""
        report.machines = dict(self._answered)
        report.waits_for = self._waits_for

    def _lacking(self, profile: int) -> str:
        """Return which workers have no deck, what one of them needs and what the cluster has."""
        waiting = self._decks.fleet.waits_for(profile)
        names = dict.fromkeys(self._demand.pools[WorkerName.parse(worker).pool].name for worker in waiting)
        nodes = self._session.nodes()
        return (
            f"{len(waiting)} workers of {', '.join(map(repr, names))} have no deck; each needs"
            f" {_shown(self._demand.profiles[profile])}, and the cluster has"
            f" {amounts(_sum([node.total for node in nodes]))} on {len(nodes)} nodes, of which"
            f" {amounts(_sum([node.free for node in nodes])) or 'nothing'} is free"
        )

    # -- the end ------------------------------------------------------------------------------------------------

    def shutdown(self, grace_s: float) -> dict[str, str]:
        """End every child and every deck; see `Place.shutdown`."""
        took = self._decks.end(grace_s)
        return took if self._sources is None else took | self._sources.shutdown(grace_s)

    def close(self) -> None:
        """End what still runs and release everything."""
        self._decks.close()
        if self._sources is not None:
            self._sources.close()
        self._selector.close()
        self._wakeup.close()


def _shown(profile: Profile) -> str:
    where = {None: "", "pack": "", "spread": ""}.get(profile.placement, f" on node {profile.placement}")
    return (amounts(dict(profile.needs)) or "nothing") + where


def _sum(given: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for amounts in given for name in amounts)
    return {name: sum(amounts.get(name, 0.0) for amounts in given) for name in names}
