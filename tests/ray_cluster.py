"""A Ray cluster of simulated nodes for a session of tests, and what is left of the project on its nodes."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

#: Every process of the cluster inherits this variable, and no other one that a test starts.
_MARK = "SLUICEWAY_RAY_OF"
#: That of the tests' own processes, which the cluster is none of; see `conftest`.
_TESTS_MARK = "SLUICEWAY_TESTS_OF"
_STORE_BYTES = 80 << 20
_GONE_S = 10.0

HAS_RAY = importlib.util.find_spec("ray") is not None
#: Marks what needs Ray: `make ray` runs it, `make test` does not.
needs_ray = [
    pytest.mark.ray,
    pytest.mark.skipif(not HAS_RAY, reason="Ray has no wheel for this Python or system"),
]


class SimulatedCluster:
    """Nodes that are processes of this machine."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        # The path of a socket has 107 bytes at most, and Ray adds 60 of its own.
        self._folder = tempfile.TemporaryDirectory(prefix="r", dir="/tmp")
        self._environment = {_MARK: str(os.getpid()), "RAY_TMPDIR": self._folder.name}
        with self._own_environment():
            self._cluster = Cluster(
                initialize_head=True,
                head_node_args={"num_cpus": 0, "object_store_memory": _STORE_BYTES, "include_dashboard": False},
            )
        self.address = str(self._cluster.address)

    def add_node(self, **words: Any) -> Any:
        """Add a node and wait until it is there."""
        with self._own_environment():
            return self._cluster.add_node(object_store_memory=_STORE_BYTES, **words)

    def remove_node(self, node: Any) -> None:
        """Kill a node with everything on it."""
        self._cluster.remove_node(node, allow_graceful=False)

    def wait_until_free(self) -> None:
        """Wait until Ray has seen that nodes are gone and that actors have ended."""
        import ray

        def busy() -> list[Any]:
            alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
            known = {node.node_id for node in self._cluster.list_all_nodes()}
            cpus = ray.cluster_resources().get("CPU"), ray.available_resources().get("CPU")
            return [] if alive == known and cpus[0] == cpus[1] else [alive - known, cpus]

        until_gone(busy, 60)

    def shutdown(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()
        for process in self.processes():  # agents of Ray outlive their nodes for a while
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        until_gone(self.processes)
        self._folder.cleanup()

    @contextlib.contextmanager
    def _own_environment(self) -> Iterator[None]:
        before = {name: os.environ.get(name) for name in (*self._environment, _TESTS_MARK)}
        os.environ.update(self._environment)
        os.environ.pop(_TESTS_MARK, None)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def processes(self) -> list[psutil.Process]:
        """Return the living processes of the cluster."""
        mark, found = f"{_MARK}={os.getpid()}".encode(), []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                environment = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
                if mark in environment and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def children(self) -> list[psutil.Process]:
        """Return the processes of decks: those that start workers, and the workers."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if any("sluiceway.engine.local.processes" in word for word in process.cmdline()):
                    found.append(process)
        return found

    def workers(self) -> list[psutil.Process]:
        """Return the workers: those whose parent starts workers."""
        children = {process.pid: process for process in self.children()}
        found = []
        for process in children.values():
            with contextlib.suppress(psutil.Error):
                if process.ppid() in children:
                    found.append(process)
        return found

    def decks(self) -> list[psutil.Process]:
        """Return the actors that are decks."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::Deck"):
                    found.append(process)
        return found


def is_of_ray(pid: int) -> bool:
    """Whether a process belongs to a cluster of these tests, which ends with their session."""
    try:
        return f"{_MARK}={os.getpid()}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def until_gone(look: Callable[[], list[Any]], seconds: float = _GONE_S) -> None:
    """Wait until nothing is seen any more; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while left := look():
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def ray_nodes() -> Iterator[SimulatedCluster]:
    """Two nodes with two CPUs each, and a head without any, to which this process is connected for the session."""
    import ray

    handler = signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        cluster = SimulatedCluster()
        cluster.add_node(num_cpus=2)
        cluster.add_node(num_cpus=2)
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    signal.signal(signal.SIGTERM, handler)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def nothing_on_nodes(ray_nodes: SimulatedCluster) -> Iterator[SimulatedCluster]:
    """The cluster with all of its CPUs free; a test that leaves a deck or a worker on it fails."""
    ray_nodes.wait_until_free()
    yield ray_nodes
    until_gone(ray_nodes.children)
    until_gone(ray_nodes.decks)


@pytest.fixture(params=["processes", pytest.param("ray", marks=needs_ray)])
def elsewhere(request: pytest.FixtureRequest) -> str:
    """Each runner whose workers are processes."""
    if request.param == "ray":
        request.getfixturevalue("nothing_on_nodes")
    return str(request.param)

