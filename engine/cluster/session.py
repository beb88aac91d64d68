"""The connection of this process to a Ray cluster, for as long as runs need it.

Decides that a connection which is there is used and left as it was, that one which we made ends with the last run on it,
and which addresses are refused. What runs on the cluster is not known here.
"""

from __future__ import annotations

import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from ...nodes.connectors.extras import need
from ...nodes.errors import GraphError, SluicewayError, describe
from ..ray_runner import RayRunner
from .demand import NodeRoom


class _Connection:
    """The one connection that a process has, and how many runs use it if it was made for them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs = 0  #: 0 also for a connection that is not ours

    def acquire(self, ray: Any, runner: RayRunner) -> bool:
        """Connect if nobody has; return whether the connection is ours, so that `release` must follow."""
        with self._lock:
            if ray.util.client.ray.is_connected():
                raise GraphError(
                    "cannot run on Ray through Ray Client: workers connect to this process, which a client proxy hides;"
                    " run this program inside the cluster (ray job submit), or connect to its head (host:6379)"
                )
            if ray.is_initialized() and not self._runs:
                if runner.address is not None or runner.namespace is not None:
                    raise GraphError(
                        "cannot connect to the address or namespace of sw.ray_runner: this process is connected to Ray"
                        " already; leave them out to use that connection, or call ray.shutdown() first"
                    )
                return False
            if not self._runs:
                _connect(ray, runner)
            self._runs += 1
            return True

    def release(self, ray: Any) -> None:
        """End a connection that is ours with the last run that uses it."""
        with self._lock:
            self._runs -= 1
            if not self._runs:
                with _own_signals():
                    ray.shutdown()


_CONNECTION = _Connection()


class ClusterSession:
    """What one run uses of Ray; `close` belongs to its end."""

    def __init__(self, runner: RayRunner) -> None:
        self.ray: Any = need("ray", "ray", "runner='ray'")
        #: Called once, at the latest when nobody has this any more: results may never be asked for.
        self._release: Callable[[], object] = lambda: None
        if _CONNECTION.acquire(self.ray, runner):
            self._release = weakref.finalize(self, _CONNECTION.release, self.ray)

    def host(self) -> str:
        """Return the address of this process's node."""
        return str(self.ray.util.get_node_ip_address())

    def nodes(self) -> list[NodeRoom]:
        """Return the nodes that are alive, with what they have and what of it is free."""
        free = self._free()
        return [
            NodeRoom(
                node["NodeID"],
                node["Resources"],
                free.get(node["NodeID"], {}),
                (node["NodeManagerAddress"], node["NodeManagerHostname"]),
            )
            for node in self.ray.nodes()
            if node["Alive"]
        ]

    def _free(self) -> Mapping[str, Mapping[str, float]]:
        state: Any = import_module("ray._private.state")  # there is no public call that tells it by node
        found: Mapping[str, Mapping[str, float]] = state.available_resources_per_node()
        return found

    def close(self) -> None:
        """End the use of the connection."""
        self._release()


def _connect(ray: Any, runner: RayRunner) -> None:
    address = runner.address or os.environ.get("RAY_ADDRESS")
    if address is not None and address.startswith("ray://"):
        raise GraphError("cannot run on Ray at the address in RAY_ADDRESS: it is one of Ray Client; name the head (host:6379)")
    try:
        with _own_signals():
            ray.init(
                address=runner.address, namespace=runner.namespace, log_to_driver=False, logging_level="WARNING"
            )
    except Exception as error:  # Ray raises many kinds of errors here
        raise SluicewayError(f"cannot connect to Ray at {address or 'this machine'}: {describe(error)}") from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's handler of SIGTERM: Ray puts one of its own in its place."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
