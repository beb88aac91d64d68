"""The site of a run on Ray: workers on decks of the cluster, sources and sinks with the calling process.

Decides what a plan asks of the cluster and what decks are given: their orders and this run's keys travel over Ray's own
channel, never in an environment. The port that workers connect to is bound on this node's address for the run alone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ...nodes.errors import GraphError
from ...nodes.program.hardware import Hardware
from ..codec.pickling import dumps
from ..core.core import Core
from ..hub.wakeup import Wakeup
from ..local.limits import check_room
from ..local.processes.bootstrap import THREAD_VARIABLES, search_path
from ..local.station import ChildWork, Station
from ..local.transport.router import Router
from ..plan.plan import Plan
from ..ray_runner import RayRunner
from .deck import DeckWork
from .decks import Decks
from .demand import Demand, NodeRoom, Profile, amounts, demand_of, fits, plan_decks
from .place import ClusterPlace
from .session import ClusterSession


class RaySite:
    """The cluster that `runner` names; connects at once. Raises `GraphError` without Ray, or for Ray Client."""

    name = "ray"

    def __init__(self, runner: RayRunner) -> None:
        self._runner = runner
        self._session = ClusterSession(runner)

    def seats(self, hardware: Hardware) -> int | None:
        """Return how many workers the cluster has room for, where they need more than a CPU; one at the least."""
        profile = _profile_of(hardware, None)
        return max(1, sum(fits(profile, node.total) or 0 for node in self._session.nodes() if profile.allows(node)))

    def check_hardware(self, plan: Plan) -> None:
        """Refuse devices and cores by number: they are those of one machine."""
        for pool in plan.pools:
            if pool.hardware is not None and pool.hardware.devices:
                raise GraphError(
                    f"cannot run node {pool.name!r} with devices= on Ray: each node has its own; say how many GPUs a worker"
                    " needs, num_gpus=1, and Ray assigns them"
                )
            if pool.hardware is not None and pool.hardware.cpus:
                raise GraphError(
                    f"cannot run node {pool.name!r} with cpus= on Ray: its nodes are shared, and Ray pins nothing; leave it"
                    " out, or say num_cpus="
                )

    def check_room(self, plan: Plan) -> None:
        """See that this machine has room for the sources, and for one connection of each worker."""
        check_room(sum(source.remote for source in plan.sources))

    def arena(self, folder: Path) -> Path | None:
        """Return `None`: other machines share no memory."""
        return None

    def bind(self, router: Router, folder: Path) -> None:
        """Bind at the address of this node, with keys of the run's own."""
        router.bind_at(self._session.host())

    def make_place(self, plan: Plan, folder: Path, work: ChildWork, core: Core) -> ClusterPlace:
        """Return the place of a run; its decks are asked for when workers are wanted."""
        demand = demand_of_plan(plan)
        sources = None
        if any(source.remote for source in plan.sources):
            sources = Station(folder, work)
        specs = {name: data for name, data in work.specs.items() if not name.startswith("source")}
        deck_work = DeckWork(
            replace(work, specs=specs),
            search_path(),
            list(sys.argv),
            {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
            sys.version_info[:2],
        )
        wakeup = Wakeup()
        options: dict[str, Any] = {}
        if self._runner.runtime_env is not None:
            options["runtime_env"] = dict(self._runner.runtime_env)
        most = self._runner.workers_per_deck
        decks = Decks(self._session, demand, dumps(deck_work), options=options, most=most, notify=wakeup.notify)
        limit_s = self._runner.start_limit_s
        return ClusterPlace(
            decks, self._session, sources, core=core, demand=demand, wakeup=wakeup, start_limit_s=limit_s
        )

    def describe(self, plan: Plan) -> str:
        """Return how the processes of a run are joined, and which decks they would have on which nodes now."""
        nodes = self._session.nodes()
        lines = [
            f"sockets: one ROUTER in the caller, at {self._session.host()}, a DEALER in every worker and source process (tcp,"
            " keys of the run's own)",
            *(f"node {_name_of(node)}: {amounts(node.total)}; free {amounts(node.free) or 'nothing'}" for node in nodes),
        ]
        demand = demand_of_plan(plan)
        names = {node.id: _name_of(node) for node in nodes}
        for at, (profile, berths) in enumerate(zip(demand.profiles, demand.berths, strict=True)):
            pools = ", ".join(pool.name for pool in demand.pools if pool.profile == at)
            for deck in plan_decks(at, profile, berths, nodes, self._runner.workers_per_deck):
                where = "that waits for room" if deck.node is None else f"on node {names[deck.node]}"
                lines.append(f"deck for {deck.berths} workers of {pools} ({amounts(profile.times(deck.berths))}) {where}")
        return "\n".join(lines)

    def default_workers(self) -> int:
        """Return the number of CPUs of the cluster."""
        return max(1, int(sum(node.total.get("CPU", 0.0) for node in self._session.nodes())))

    def close(self) -> None:
        """End the connection, if it was made for this run."""
        self._session.close()


def demand_of_plan(plan: Plan) -> Demand:
    """Return what a plan asks of a cluster: the parts of one keyed node are one group."""
    pools = []
    for at, pool in enumerate(plan.pools):
        group = at if pool.part is None else at - pool.part[0]
        pools.append((pool.name, _profile_of(pool.hardware, group), group, pool.workers))
    return demand_of(pools)


def _profile_of(hardware: Hardware | None, group: int | None) -> Profile:
    """Return the profile of a pool's berths: a shared CPU each, or what its workers need for themselves."""
    if hardware is None:
        return Profile((("CPU", 1.0),))
    needs = [("CPU", 1.0 if hardware.num_cpus is None else hardware.num_cpus), *hardware.resources]
    if hardware.num_gpus:
        needs.append(("GPU", hardware.num_gpus))
    return Profile(tuple(needs), hardware.placement, group)


def _name_of(node: NodeRoom) -> str:
    """Return a node as people know it: the name of its host, and the beginning of its id."""
    return f"{node.names[-1] if node.names else 'unknown'}/{node.id[:6]}"
