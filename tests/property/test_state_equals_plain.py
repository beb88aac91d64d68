"""State has the results of a plain computation: inline, in any number of partitions and batches, and in processes.

The plain computations are in `plain_state`. The pools of the partitions run here in one process, one by one, with their states
saved and restored between runs of numbers.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
import sluiceway as sw
from drawing import drawn
from hypothesis import strategies as st
from plain_state import KEYS, KINDS, Found, Numbers, graph_of, graph_over, plain_of
from sluiceway.engine.codec.copying import safe_copies
from sluiceway.engine.plan.compiler import compile_graph
from sluiceway.nodes.execution.executor import Executor
from sluiceway.nodes.handlers import build_all
from sluiceway.nodes.program.column import Column, join
from sluiceway.nodes.program.program import Orders, Tally


@st.composite
def numbers(draw: st.DrawFn) -> Numbers:
    """Draw times that go up, with events out of order, and zero to three events for a number."""
    rng = draw(st.randoms(use_true_random=False))
    drift, scatter = draw(st.sampled_from([(0, 1), (3, 2), (3, 20), (30, 10), (1, 60)]))
    keys = KEYS[: draw(st.integers(1, len(KEYS)))]
    most = draw(st.integers(1, 3))
    found: Numbers = []
    now = draw(st.integers(-50, 50))
    for _ in range(draw(st.integers(0, 40))):
        count = 1 if most == 1 and rng.random() < 0.9 else rng.randrange(most + 1)
        found.append([(rng.choice(keys), now - rng.randrange(scatter), rng.randrange(100)) for _ in range(count)])
        now += rng.randrange(drift + 1)
    return found


def in_one_thread(stream: Any) -> Found:
    with sw.iterate(stream, runner="inline") as results:
        outputs = list(results)
        return Found(outputs, results.report.late, results.report.forgotten)


def in_parts(stream: Any, events: Numbers, workers: int, rng: Random) -> Found:
    """Run every pool in this process, its numbers cut anywhere, its states packed in between."""
    plan = compile_graph(stream.graph, workers=workers, outlet=stream.node)
    last = len(events)
    streams = {0: Column(0, last + 1, safe_copies(list(events)), [*[1] * last, 0])}
    total = Tally()
    for pool, wired in zip(plan.pools, plan.wiring.pools, strict=True):
        def fresh(pool: Any = pool, wired: Any = wired) -> Executor:
            nodes = [step.node for step in wired.program.steps]
            return Executor(wired.program, build_all(pool.handlers, [], nodes=nodes), safe_copies)

        executor = fresh()
        given: list[list[Column]] = []
        for lo, hi in cuts(last + 1, rng):
            ports = [streams[port].slice(lo, hi) for port in wired.ports]
            answer = executor.run([port.with_events(safe_copies(port.events)) for port in ports], Orders(end=last))
            assert (answer.failures, answer.size) == ([], hi - lo)
            given.append([column.with_events(safe_copies(column.events)) for column in answer.exits])
            for tally in answer.tallies:
                total.add(tally.as_list())
            if executor.states and rng.random() < 0.3:
                states = pickle.loads(pickle.dumps(executor.states.snapshot()))
                executor = fresh()
                executor.states.restore(states)
        for at, exit_ in enumerate(wired.exits):
            streams[exit_] = join([columns[at] for columns in given])
    outputs: list[Any] = []
    tail = Executor(plan.tail.program, plan.tail.handlers, safe_copies)
    for lo, hi in cuts(last + 1, rng):
        outputs += tail.run([streams[port].slice(lo, hi) for port in plan.wiring.tail]).exits[0].events
    return Found(outputs, total.late, total.forgotten)


def cuts(size: int, rng: Random) -> Iterator[tuple[int, int]]:
    lo = 0
    while lo < size:
        hi = min(size, lo + rng.choice((1, 2, 5, 30)))
        yield lo, hi
        lo = hi


@pytest.mark.parametrize("kind", KINDS)
@drawn(
    40,
    600,
    events=numbers(),
    sizes=st.sampled_from([(10, 5, 0), (10, 3, 7), (7, 7, 0), (40, 11, 15), (1, 1, 3)]),
    seed=st.integers(0, 1 << 30),
)
def test_state_equals_plain(kind: str, events: Numbers, sizes: tuple[int, int, int], seed: int) -> None:
    make, expected = graph_of(kind, sizes), plain_of(kind, sizes)(events)
    assert repr(in_one_thread(graph_over(events, make))) == repr(expected)
    rng = Random(seed)
    for workers in (1, 2, 3):
        assert repr(in_parts(graph_over(events, make), events, workers, rng)) == repr(expected)


def some(seed: int, count: int) -> Numbers:
    rng = Random(seed)
    most = rng.choice((1, 3))
    sizes = [1 if most == 1 else rng.randrange(most + 1) for _ in range(count)]
    return [
        [(rng.choice(KEYS), at - rng.randrange(25), rng.randrange(100)) for _ in range(size)]
        for at, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_processes_equal_plain(kind: str, workers: int) -> None:
    events, sizes = some(workers, 400), (10, 4, 8)
    expected = plain_of(kind, sizes)(events)
    with sw.iterate(graph_over(events, graph_of(kind, sizes)), workers=workers) as results:
        found = Found(list(results), results.report.late, results.report.forgotten)
    assert repr(found) == repr(expected)
