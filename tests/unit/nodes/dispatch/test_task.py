"""Who has room, found without a search: equal to a search through all workers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sluiceway.nodes.dispatch.task import Task, WorkerLoad, WorkerLoads
from sluiceway.nodes.ordering.intervals import Intervals
from sluiceway.nodes.program.program import Orders

_WHAT = st.sampled_from(["add", "remove", "task", "done", "load", "leave", "isolate"])
_CHANGES = st.lists(st.tuples(_WHAT, st.integers(0, 5), st.integers(0, 9)), max_size=80)


def _apply(loads: WorkerLoads, change: tuple[str, int, int]) -> None:
    what, at, amount = change
    worker = loads.by_name.get(name := f"w{at}")
    if what == "add":
        loads.add(name)
    elif worker is None:
        return
    elif what == "remove":
        loads.remove(name)
    else:
        if what == "task":
            worker.tasks[len(worker.tasks)] = Task(1, 0, 1, name, Orders(), 0.0, Intervals())
            worker.load += amount
        elif what == "done" and worker.tasks:
            worker.tasks.popitem()
        elif what == "load":
            worker.load += amount - 4  # numbers that wait for a retry can outweigh the others
        elif what == "leave":
            worker.leaving = amount > 4
        elif what == "isolate":
            worker.isolated = amount > 4
        loads.update(worker)


def _room(worker: WorkerLoad, most: int, unit: int) -> int:
    """Return how many more tasks a worker may get, worked out from what it holds."""
    if worker.leaving or worker.isolated:
        return 0
    return max(0, -((max(0, worker.load) - most) // unit) if most else unit - len(worker.tasks))


@given(changes=_CHANGES, most=st.sampled_from([0, 0, 1, 7]), unit=st.integers(1, 4))
def test_the_answers_are_those_of_a_look_at_every_worker(changes: list[tuple[str, int, int]], most: int, unit: int) -> None:
    loads = WorkerLoads(most)
    for change in changes:
        _apply(loads, change)
        rooms = {worker.name: _room(worker, most, unit) for worker in loads.by_name.values()}
        assert loads.room(unit) == sum(rooms.values())
        assert loads.with_room(unit) == sum(1 for room in rooms.values() if room)
        free = [worker for worker in loads.by_name.values() if rooms[worker.name]]
        best = loads.roomiest(unit)
        if best is None or not free:
            assert best is None
            assert not free
            continue
        if most:  # a loop that owes retries more than it works on counts as empty
            assert max(0, best.load) == min(max(0, worker.load) for worker in free)
        else:
            assert (best.load, best.rank) == min((worker.load, worker.rank) for worker in free)
        other = loads.roomiest_but(unit, best)
        assert (other is None) == (len(free) == 1)
        assert other is not best


def test_a_long_run_keeps_no_old_entries() -> None:
    loads = WorkerLoads()
    for name in "abc":
        loads.add(name)
    for at in range(10_000):
        worker = loads.by_name["abc"[at % 3]]
        worker.load = at
        loads.update(worker)
    assert sum(len(heap) for heap in loads._heaps.values()) <= 3 * 2 + 17
