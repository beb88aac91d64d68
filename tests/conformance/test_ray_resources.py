"""What workers ask of a cluster: GPUs, resources of its own, nodes; and what is said where it cannot be had."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from conftest import observe
from fault_graphs import Strikes, small
from ray_cluster import SimulatedCluster, needs_ray
from test_devices import OnDevice

pytestmark = [*needs_ray, pytest.mark.timeout(300)]


@pytest.fixture
def gpu_nodes(nothing_on_nodes: SimulatedCluster) -> Iterator[SimulatedCluster]:
    """The cluster with one more node, which has two GPUs and a resource of its own."""
    node = nothing_on_nodes.add_node(num_cpus=2, num_gpus=2, resources={"big": 2})
    yield nothing_on_nodes
    nothing_on_nodes.remove_node(node)


def on_device(folder: Path, strikes: Strikes | None, **more: Any) -> Any:
    """Return the handler that holds its device, as a class that travels by value."""
    import cloudpickle
    import test_devices

    cloudpickle.register_pickle_by_value(test_devices)
    return sw.per_worker(OnDevice, str(folder), strikes, **more)


def test_every_gpu_has_exactly_its_worker_under_kills(gpu_nodes: SimulatedCluster, tmp_path: Path) -> None:
    strikes = Strikes(tmp_path, 4)
    handler = on_device(tmp_path, strikes, together=(0, 1))
    seen = observe(lambda seen: small(seen, range(1000), handler, num_gpus=1), runner="ray", max_deaths=None)
    assert seen.error is None
    assert [event[0] for event in seen.events("out")] == list(range(1000))
    assert {event[1] for event in seen.events("out")} == {"0", "1"}
    assert not (tmp_path / "doubled").exists()
    assert seen.report.worker_deaths == 4
    assert seen.report.nodes["struck"].workers == 2


def test_two_pools_on_different_kinds_of_machines(gpu_nodes: SimulatedCluster) -> None:
    def here(n: Any) -> Any:
        time.sleep(0.001)
        return n, os.environ.get("CUDA_VISIBLE_DEVICES", ""), os.getpid()

    graph = sw.Graph()
    halves = graph.source(range(300)).map(here, workers=2).map(here, num_gpus=0.5, workers=2, resources={"big": 1})
    results = list(sw.iterate(halves, runner="ray"))
    assert [inner[0] for inner, _, _ in results] == list(range(300))
    assert {gpu for _, gpu, _ in results} <= {"0", "1"}
    assert "" not in {gpu for _, gpu, _ in results}
    assert {inner[2] for inner, _, _ in results}.isdisjoint({pid for _, _, pid in results})


def test_a_node_can_be_chosen_and_workers_spread(gpu_nodes: SimulatedCluster) -> None:
    import ray

    chosen = next(node["NodeID"] for node in ray.nodes() if node["Alive"] and "big" in node["Resources"])

    def raylet(n: int) -> int:
        """Return the process of the node: it started the deck, which started the starter of this worker."""
        import psutil

        time.sleep(0.002)
        return psutil.Process(os.getppid()).parents()[1].pid

    graph = sw.Graph()
    alone = set(sw.iterate(graph.source(range(100)).map(raylet, placement=chosen, workers=2), runner="ray"))
    graph = sw.Graph()
    spread = set(sw.iterate(graph.source(range(1500)).map(raylet, placement="spread", workers=3), runner="ray"))
    assert len(alone) == 1
    assert alone < spread
    assert len(spread) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"devices": ["cuda:0"]}, "with devices= on Ray: each node has its own; say how many GPUs a worker needs"),
        ({"cpus": [0]}, "with cpus= on Ray: its nodes are shared"),
    ],
)
def test_what_cannot_be_on_ray_is_refused(options: Any, said: str, nothing_on_nodes: SimulatedCluster) -> None:
    with pytest.raises(sw.GraphError, match=said):
        sw.iterate(sw.Graph().source([1]).map(str, **options), runner="ray")


def test_a_resource_that_no_node_has_is_told(nothing_on_nodes: SimulatedCluster) -> None:
    stream = sw.Graph().source([1]).map(str, resources={"quantum": 1}, workers=1)
    with pytest.raises(sw.SluicewayError, match=r"1 workers of 'str' have no deck; each needs 1 CPU, 1 quantum, and the cluster"):
        list(sw.iterate(stream, runner=sw.ray_runner(start_limit_s=1)))
