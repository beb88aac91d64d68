"""The choice of a Ray cluster for a run: what `runner="ray"` leaves to the defaults, as a value.

Decides which settings there are and checks them; it imports nothing of Ray and knows nothing of how a run acts there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..nodes.checks import check_seconds, check_whole
from ..nodes.errors import GraphError, kind_of


@dataclass(frozen=True, slots=True)
class RayRunner:
    """How a run uses Ray; made by `ray_runner`."""

    address: str | None = None
    namespace: str | None = None
    runtime_env: Mapping[str, Any] | None = field(default=None, hash=False)
    workers_per_deck: int | None = None
    start_limit_s: float = 60.0


def ray_runner(
    address: str | None = None,
    *,
    namespace: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    workers_per_deck: int | None = None,
    start_limit_s: float = 60.0,
) -> RayRunner:
    """Return a runner for a Ray cluster: `sw.run(graph, runner=sw.ray_runner("auto"))`.

    `address` and `namespace` are those of `ray.init`; where Ray is connected already they must be left out, and that
    connection is used. `runtime_env` is that of the actors (packages, working_dir). An actor has as many workers as fit
    on its node, and at most `workers_per_deck`. `start_limit_s`: seconds to wait for room in the cluster when no worker of
    a pool is left. Raises `GraphError` for a value that cannot be meant, and for an address of Ray Client.
    """
    where = "sw.ray_runner"
    for name, value in (("address", address), ("namespace", namespace)):
        if value is not None and not isinstance(value, str):
            raise GraphError(f"{where} cannot use {name}=: it is {kind_of(value)}; pass a text, or leave it out")
    if address is not None and address.startswith("ray://"):
        raise GraphError(
            f"{where} cannot use an address of Ray Client: workers connect to this process, which a client proxy hides;"
            " run this program inside the cluster (ray job submit), or give the address of its head (host:6379)"
        )
    if runtime_env is not None and not isinstance(runtime_env, Mapping):
        raise GraphError(f"{where} cannot use runtime_env=: it is {kind_of(runtime_env)}; pass a dict as ray.init takes it")
    if workers_per_deck is not None:
        workers_per_deck = check_whole(where, "workers_per_deck", workers_per_deck, remedy="leave it out for no limit")
    start_limit_s = check_seconds(where, "start_limit_s", start_limit_s, remedy="leave it out for the default")
    return RayRunner(address, namespace, runtime_env, workers_per_deck, start_limit_s)
