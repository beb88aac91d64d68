"""Which decks a run asks for, and which of them its workers get."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sluiceway.engine.cluster.demand import DeckPlan, NodeRoom, Profile, demand_of, fits, plan_decks
from sluiceway.engine.cluster.fleet import Fleet

CPU = Profile((("CPU", 1.0),))
GPU = Profile((("CPU", 1.0), ("GPU", 0.5)))


def room(name: str, cpus: float, *, total: float | None = None, **more: float) -> NodeRoom:
    free = {"CPU": cpus, **more}
    return NodeRoom(name, free | {"CPU": cpus if total is None else total}, free)


def test_pools_share_berths_and_parts_of_keys_do_not() -> None:
    demand = demand_of([("a", CPU, 0, 4), ("b", CPU, 1, 2), *((f"k{at}", CPU, 2, 1) for at in range(6)), ("g", GPU, 8, 3)])
    assert demand.profiles == (CPU, GPU)
    assert demand.berths == (6, 3)


def test_decks_are_where_there_is_room_the_widest_first() -> None:
    nodes = [room("small", 1), room("wide", 4), room("full", 0, total=8)]
    assert plan_decks(0, CPU, 5, nodes, None) == [DeckPlan(0, 1, "small"), DeckPlan(0, 4, "wide")]
    assert plan_decks(0, CPU, 2, nodes, None) == [DeckPlan(0, 2, "wide")]


def test_what_is_rare_is_left_to_the_pools_that_need_it() -> None:
    nodes = [room("rare", 4, GPU=2, big=2), room("plain", 2)]
    assert plan_decks(0, CPU, 2, nodes, None) == [DeckPlan(0, 2, "plain")]
    assert sorted(plan.node or "" for plan in plan_decks(0, CPU, 5, nodes, None)) == ["plain", "rare"]


def test_what_finds_no_room_waits_in_decks_that_would_fit_some_node() -> None:
    nodes = [room("small", 1), room("wide", 0, total=3)]
    assert plan_decks(0, CPU, 6, nodes, None) == [DeckPlan(0, 1, "small"), DeckPlan(0, 3, None), DeckPlan(0, 2, None)]
    assert plan_decks(0, GPU, 2, nodes, None) == [DeckPlan(0, 1, None), DeckPlan(0, 1, None)]
    assert plan_decks(0, CPU, 1, [], None) == [DeckPlan(0, 1, None)]


def test_a_deck_is_no_larger_than_allowed() -> None:
    assert [plan.berths for plan in plan_decks(0, CPU, 7, [room("wide", 8)], 3)] == [3, 2, 2]


def test_spread_evens_out_and_a_node_can_be_chosen() -> None:
    nodes = [room("a", 8), room("b", 8), room("c", 1)]
    spread = Profile(CPU.needs, "spread")
    assert {plan.node: plan.berths for plan in plan_decks(0, spread, 5, nodes, None)} == {"a": 2, "b": 2, "c": 1}
    assert plan_decks(0, Profile(CPU.needs, "b"), 5, nodes, None) == [DeckPlan(0, 5, "b")]


def test_fractions_are_counted_as_ray_counts_them() -> None:
    third = Profile((("GPU", 0.1),))
    assert fits(third, {"GPU": 1.0}) == 10
    assert third.times(3) == {"GPU": 0.3}
    assert fits(Profile(()), {}) is None


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=5),
    st.integers(1, 20),
    st.none() | st.integers(1, 4),
    st.sampled_from([None, "spread", "pack"]),
)
def test_every_berth_is_planned_once_and_no_node_has_too_many(
    given_nodes: list[tuple[int, int]], berths: int, most: int | None, placement: str | None
) -> None:
    nodes = [room(str(at), min(pair), total=max(pair)) for at, pair in enumerate(given_nodes)]
    plans = plan_decks(0, Profile(CPU.needs, placement), berths, nodes, most)
    assert sum(plan.berths for plan in plans) == berths
    assert all(0 < plan.berths <= (most or berths) for plan in plans)
    taken = {node.id: sum(plan.berths for plan in plans if plan.node == node.id) for node in nodes}
    assert all(taken[node.id] <= node.free["CPU"] for node in nodes)
    if any(plan.node is None for plan in plans):
        assert all(taken[node.id] == node.free["CPU"] for node in nodes)
    largest = max([node.total["CPU"] for node in nodes], default=0)
    assert all(plan.berths <= max(1, largest) for plan in plans if plan.node is None)


@given(st.data())
def test_workers_have_berths_of_their_own_whatever_dies(data: st.DataObject) -> None:
    """No two workers of one group share a berth, nobody is lost, and nobody waits while there is room."""
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    demand = demand_of([(str(at), CPU, at, size) for at, size in enumerate(sizes)])
    fleet = Fleet(demand)
    lives, decks, alive = 0, 0, set()
    for at, size in enumerate(sizes):
        for index in range(size):
            lives += 1
            alive.add(f"{at}.{index}.{lives}")
            fleet.request(f"{at}.{index}.{lives}")
    for _ in range(data.draw(st.integers(1, 12))):
        what = data.draw(st.sampled_from(["deck", "lose", "exit"]))
        if what == "deck" and fleet.missing(0) > 0:
            decks += 1
            berths = data.draw(st.integers(1, fleet.missing(0)))
            fleet.add(f"deck{decks}", 0, berths)
            fleet.record_up(f"deck{decks}", "node")
        elif what == "lose" and fleet.decks:
            for worker in fleet.remove(data.draw(st.sampled_from(sorted(fleet.decks)))):
                alive, lives = _replace(fleet, alive, worker, lives)
        elif what == "exit" and fleet.workers:
            worker = data.draw(st.sampled_from(sorted(fleet.workers)))
            fleet.leave(worker)
            alive, lives = _replace(fleet, alive, worker, lives)
        fleet.assign()
        assert {*fleet.workers, *fleet.waiting} == alive
        assert sum(len(deck.taken) for deck in fleet.decks.values()) == len(fleet.workers)
        assert all(berth < deck.berths for deck in fleet.decks.values() for _, berth in deck.taken)
        for at in range(len(sizes)):
            free = sum(deck.berths for deck in fleet.decks.values()) - sum(w.startswith(f"{at}.") for w in fleet.workers)
            assert free == 0 or not any(worker.startswith(f"{at}.") for worker in fleet.waiting)


def _replace(fleet: Fleet, alive: set[str], worker: str, lives: int) -> tuple[set[str], int]:
    pool, index, _ = worker.split(".")
    successor = f"{pool}.{index}.{lives + 1}"
    fleet.request(successor)
    return (alive - {worker}) | {successor}, lives + 1
