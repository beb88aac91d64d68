"""The site of a run: on which machines its children run, how they reach the calling process, what memory they share.

Decides it for one machine; for a cluster there is a site in `engine/cluster`. Also writes down what children are to do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ...nodes.program.hardware import Hardware, seats_in
from ..codec.pickling import dumps
from ..core.core import Core
from ..options import RunOptions
from ..plan.plan import Plan
from ..reporting.report import RunReport
from .limits import check_room, machine_gpus, usable_cores
from .preload import modules_of
from .processes.bootstrap import hash_seed
from .seats import Seats
from .station import ChildWork, Station
from .supervisor import Place
from .transport.launch import WorkerSpec
from .transport.router import Router
from .transport.run_dir import arena_path


class SitePlace(Place, Protocol):
    """The place of a run, from its start to its end."""

    def start(self) -> None:
        """Let children be started; called by the hub's thread."""

    def close(self) -> None:
        """End what still runs and release everything."""

    #: Records that a worker has answered a number of numbers; `None` where nobody wants to know.
    record_answer: Callable[[str, int], None] | None

    def complete(self, report: RunReport) -> None:
        """Add to a report what only the place knows; called in the caller's thread."""


class Site(Protocol):
    """Where the children of one run are."""

    name: str  #: of the runner, for the report

    def seats(self, hardware: Hardware) -> int | None:
        """Return the number of workers of a pool that nobody says, by what each needs of a machine; `None` as always."""

    def check_hardware(self, plan: Plan) -> None:
        """Raise `GraphError` for a plan that asks for what cannot be had here."""

    def check_room(self, plan: Plan) -> None:
        """Raise `SluicewayError` if there is no room for the children of a plan."""

    def arena(self, folder: Path) -> Path | None:
        """Return the file of the memory that the calling process shares with all workers; `None` if there is none."""

    def bind(self, router: Router, folder: Path) -> None:
        """Open the socket that children talk to."""

    def make_place(self, plan: Plan, folder: Path, work: ChildWork, core: Core) -> SitePlace:
        """Return the place where children run; called in the caller's thread."""

    def describe(self, plan: Plan) -> str:
        """Return how the calling process, the workers and the remote sources are joined, as a line of the printed plan."""

    def default_workers(self) -> int:
        """Return the number of workers of a pool where neither the graph nor the run sets one: as many as can work at once."""

    def close(self) -> None:
        """Release what the site itself has acquired; called in the caller's thread, at the end of the run."""


class LocalSite:
    """This machine: a folder with a socket, or loopback with keys, and shared memory."""

    name = "processes"

    def __init__(self, transport: str = "ipc") -> None:
        self._transport = transport

    def seats(self, hardware: Hardware) -> int | None:
        """Return one for each device or set of cores, or as many as the GPUs of this machine are for."""
        if hardware.seats is None and hardware.num_gpus:
            return seats_in(hardware.num_gpus, len(machine_gpus())) or None
        return hardware.seats

    def check_hardware(self, plan: Plan) -> None:
        """See that the machine has the GPUs and cores."""
        Seats(plan, machine_gpus())

    def check_room(self, plan: Plan) -> None:
        """See that the system has the descriptors, threads and memory; see `limits`."""
        check_room(plan.processes)

    def arena(self, folder: Path) -> Path | None:
        """Return the file beside the run's folder."""
        return arena_path(folder)

    def bind(self, router: Router, folder: Path) -> None:
        """Bind in the run's private folder, or on loopback."""
        if self._transport == "ipc":
            router.bind_in(folder)
        else:
            router.bind_at("127.0.0.1")

    def make_place(self, plan: Plan, folder: Path, work: ChildWork, core: Core) -> Station:
        """Return the station of this machine."""
        return Station(folder, work, Seats(plan, machine_gpus()).of)

    def describe(self, plan: Plan) -> str:
        """Return how the processes of a run are joined."""
        how = "ipc, private folder" if self._transport == "ipc" else "tcp on loopback, keys of the run's own"
        return f"sockets: one ROUTER in the caller, a DEALER in every worker and source process ({how})"

    def default_workers(self) -> int:
        """Return the number of cores that this process may use."""
        return usable_cores()

    def close(self) -> None:
        """Do nothing: a machine needs no release."""


def work_of(plan: Plan, options: RunOptions, *, paused: bool) -> ChildWork:
    """Return what the children of a run are to do: one file for the workers of each pool, one for each source."""
    specs = {"settings": plan.shipped["settings"]}
    for at, pool in enumerate(plan.pools):
        spec = WorkerSpec(
            plan.wiring.pools[at].program,
            plan.shipped[f"pool{at}"],
            pool.ordered,
            options.max_events_per_worker,
            options.max_rss_bytes,
        )
        specs[f"pool{at}"] = dumps(spec)
    for at, source in enumerate(plan.sources):
        if source.remote:
            specs[f"source{at}"] = plan.shipped[f"source{at}"]
    steps = [pool.program.steps for pool in plan.wiring.pools]
    return ChildWork(specs, steps, modules_of(plan, paused=paused), hash_seed())
