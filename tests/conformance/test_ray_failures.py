"""What dies on a cluster: decks, nodes, the calling process. The run goes on, blames no event, and leaves nothing."""

from __future__ import annotations

import importlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from fault_graphs import Caller, until
from ray_cluster import SimulatedCluster, needs_ray, until_gone

pytestmark = [*needs_ray, pytest.mark.timeout(300)]
N = 4000


def slow_square(n: int) -> int:
    """Take a millisecond for a square."""
    time.sleep(0.001)
    return n * n


class Striker:
    """A sink that strikes at some numbers, in the calling thread, and keeps what it gets."""

    def __init__(self, strikes: dict[int, Callable[[], object]]) -> None:
        self._strikes = strikes
        self.got: list[int] = []

    def __call__(self, event: int) -> None:
        strike = self._strikes.get(len(self.got))
        self.got.append(event)
        if strike is not None:
            strike()


def run(strikes: dict[int, Callable[[], object]], *, count: int = N, **options: Any) -> sw.RunReport:
    """Run squares on Ray, strike meanwhile, and assert that all of them came in order."""
    sink = Striker(strikes)
    graph = sw.Graph("squares")
    graph.source(range(count)).map(slow_square, name="square").sink(sink)
    report = sw.run(graph, **{"runner": "ray", "workers": 4, **options})
    assert sink.got == [n * n for n in range(count)]
    return report


def kill_one(look: Callable[[], list[Any]]) -> None:
    """Kill one of the processes that are seen."""
    random.choice(look()).kill()


def test_the_report_counts_by_node(nothing_on_nodes: SimulatedCluster) -> None:
    report = run({}, count=1000)
    assert sum(report.machines.values()) == 1000
    assert len(report.machines) == 2
    assert "  numbers answered: " in str(report)


def test_the_plan_shows_nodes_and_decks(nothing_on_nodes: SimulatedCluster) -> None:
    graph = sw.Graph("planned")
    graph.source(range(10)).map(slow_square, name="square").sink(print)
    shown = str(sw.compile(graph, runner="ray", workers=5))
    lines = [line for line in shown.splitlines() if line.startswith(("node", "deck"))]
    assert sum(line.startswith("node ") and ": 2 CPU; free 2 CPU" in line for line in lines) == 2
    decks = [line for line in lines if line.startswith("deck")]
    assert [line.startswith("deck for 2 workers of square (2 CPU) on node ") for line in decks] == [True, True, False]
    assert decks[2] == "deck for 1 workers of square (1 CPU) that waits for room"


def test_a_worker_is_killed(nothing_on_nodes: SimulatedCluster) -> None:
    report = run({N // 4: lambda: kill_one(nothing_on_nodes.workers)})
    assert report.worker_deaths == 1


def test_a_deck_is_killed(nothing_on_nodes: SimulatedCluster, caplog: pytest.LogCaptureFixture) -> None:
    report = run({N // 4: lambda: kill_one(nothing_on_nodes.decks)}, max_deaths=1)
    assert report.worker_deaths == 0  # no event is blamed, so none is close to `max_deaths`
    assert "died with its deck on node" in caplog.text


def test_the_starter_of_a_deck_is_killed(nothing_on_nodes: SimulatedCluster) -> None:
    def kill_starter() -> None:
        workers = nothing_on_nodes.workers()
        os.kill(workers[0].ppid(), signal.SIGKILL)

    assert run({N // 4: kill_starter}, max_deaths=1).worker_deaths == 0


def test_all_decks_are_killed_at_once(nothing_on_nodes: SimulatedCluster) -> None:
    def kill_all() -> None:
        for deck in nothing_on_nodes.decks():
            deck.kill()

    run({N // 4: kill_all, N // 2: kill_all})


def test_a_node_is_removed(nothing_on_nodes: SimulatedCluster) -> None:
    node = nothing_on_nodes.add_node(num_cpus=2)
    report = run({N // 4: lambda: nothing_on_nodes.remove_node(node)}, workers=6)
    assert report.worker_deaths == 0


def test_a_node_that_is_added_takes_workers(nothing_on_nodes: SimulatedCluster) -> None:
    """Six workers are wanted and four find room; two more come with a node."""
    added: list[Any] = []

    def add() -> None:
        added.append(nothing_on_nodes.add_node(num_cpus=2))
        until(lambda: len(nothing_on_nodes.workers()) == 6, 60)

    try:
        # The window keeps the workers from being done before there are six.
        run({N // 8: add}, workers=6, window_numbers=N // 8)
    finally:
        nothing_on_nodes.remove_node(added[0])


def hold_all_cpus() -> list[Any]:
    """Give actors that hold every CPU of the cluster; made here, so that the class travels by value."""
    ray: Any = importlib.import_module("ray")

    class Holder:
        def hold(self) -> None:
            pass

    holders: list[Any] = [ray.remote(Holder).options(num_cpus=2).remote() for _ in range(2)]
    ray.get([holder.hold.remote() for holder in holders])
    return holders


def test_no_room_ends_the_run_in_words(nothing_on_nodes: SimulatedCluster) -> None:
    import ray

    holders = hold_all_cpus()
    try:
        with pytest.raises(sw.SluicewayError, match=r"no room in the cluster within start_limit_s=1: 4 workers of 'square'"):
            run({}, runner=sw.ray_runner(start_limit_s=1))
    finally:
        for holder in holders:
            ray.kill(holder)


def test_room_that_comes_late_is_used(nothing_on_nodes: SimulatedCluster, caplog: pytest.LogCaptureFixture) -> None:
    import threading

    import ray

    holders = hold_all_cpus()
    free = threading.Timer(7, lambda: ray.kill(holders[0]))
    free.start()
    try:
        run({}, count=200)
    finally:
        free.join()
        ray.kill(holders[1])
    assert "waiting for room in the cluster: 4 workers of 'square' have no deck; each needs 1 CPU" in caplog.text


SCRIPT = """
import sys, time
import sluiceway as sw

def work(n):
    time.sleep(0.01)
    return n

def source():
    n = 0
    while True:
        yield n
        n += 1

if __name__ == "__main__":
    graph = sw.Graph("endless")
    graph.source(source).map(work).sink(lambda n: print(n, flush=True))
    sw.run(graph, runner=sw.ray_runner(sys.argv[1]), workers=4)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_the_end_of_the_calling_process_ends_everything(
    nothing_on_nodes: SimulatedCluster, tmp_path: Path, number: signal.Signals
) -> None:
    with Caller(tmp_path, SCRIPT, nothing_on_nodes.address) as caller:
        while caller.line() != "20":
            continue
        assert nothing_on_nodes.decks()
        os.kill(caller.process.pid, number)
        caller.process.wait(60)
        until_gone(nothing_on_nodes.children)
        until_gone(nothing_on_nodes.decks)


@pytest.mark.slow
def test_kills_every_second_during_many_events(nothing_on_nodes: SimulatedCluster) -> None:
    """Workers, decks and nodes are killed in turn, a hundred thousand events come in order."""
    nodes: list[Any] = []
    chance = random.Random(5)
    due = time.monotonic() + 3
    kills = 0

    def strike() -> None:
        nonlocal due, kills
        if time.monotonic() < due:
            return
        due = time.monotonic() + 1
        kills += 1
        what = chance.choice(["worker", "worker", "deck", "node"])
        if what == "node" and nodes:
            nothing_on_nodes.remove_node(nodes.pop())
        elif what == "node":
            nodes.append(nothing_on_nodes.add_node(num_cpus=1))
        else:
            seen = nothing_on_nodes.workers() if what == "worker" else nothing_on_nodes.decks()
            if seen:
                chance.choice(seen).kill()

    count = 100_000
    try:
        run(dict.fromkeys(range(0, count, 50), strike), count=count, workers=5, max_deaths=None)
    finally:
        for node in nodes:
            nothing_on_nodes.remove_node(node)
    assert kills > 5
