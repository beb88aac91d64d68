"""The seats of a machine: which devices and cores each worker of a run gets.

Decides that pools which ask for GPUs get different ones, and that a plan which asks for more than there is, or for a core
that this process may not use, is refused before anything starts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ...nodes.dispatch.worker_name import WorkerName
from ...nodes.errors import GraphError
from ...nodes.program.hardware import Hardware, Seat, seat_of, seats_in
from ..plan.plan import Plan, PoolPlan


class Seats:
    """The seats of one run. Raises `GraphError` if this machine has not what its pools ask for."""

    def __init__(self, plan: Plan, gpus: Sequence[str]) -> None:
        self._pools = plan.pools
        self._gpus: dict[int, list[str]] = {}  #: of each pool that asks for a number of them
        left = list(gpus)
        for at, pool in enumerate(plan.pools):
            if pool.hardware is None:
                continue
            _check_cores(pool, pool.hardware)
            each = 0.0 if pool.hardware.devices else pool.hardware.num_gpus
            if each and not _is_later_part(pool):
                workers = pool.workers if pool.part is None else pool.part[1]
                taken = -(-workers // seats_in(each, 1)) if each < 1 else workers * int(each)
                if taken > len(left):
                    raise GraphError(
                        f"cannot place {workers} workers of node {pool.name!r} with num_gpus={each:g} each: this machine has"
                        f" {len(gpus)} GPUs that this process may use, and {len(left)} are left for it; set fewer workers,"
                        " or name devices="
                    )
                self._gpus[at], left = left[:taken], left[taken:]

    def of(self, worker: str) -> Seat:
        """Return the seat of a worker; its replacements have the same one."""
        name = WorkerName.parse(worker)
        pool = self._pools[name.pool]
        if pool.hardware is None:
            return Seat()
        first, index = (name.pool, name.index) if pool.part is None else (name.pool - pool.part[0], pool.part[0])
        return seat_of(pool.hardware, index, self._gpus.get(first, ()))


def _is_later_part(pool: PoolPlan) -> bool:
    return pool.part is not None and pool.part[0] > 0


def _check_cores(pool: PoolPlan, hardware: Hardware) -> None:
    if not hardware.cpus:
        return
    system: Any = os
    if not hasattr(os, "sched_getaffinity"):
        raise GraphError(f"cannot pin the workers of node {pool.name!r} to cpus=: this system cannot do it; leave it out")
    usable = system.sched_getaffinity(0)
    missing = sorted({core for cores in hardware.cpus for core in cores} - usable)
    if missing:
        raise GraphError(
            f"cannot pin the workers of node {pool.name!r} to cpus=: this process may not use core {missing[0]}; choose from"
            f" {sorted(usable)}"
        )
