"""Batches split while they run: every event is either handled or returned, once, whenever the split is made."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from random import Random
from typing import Any

import pytest
from sluiceway.nodes.events import current
from sluiceway.nodes.execution.batch_split import BatchSplitter
from sluiceway.nodes.execution.executor import Executor
from sluiceway.nodes.program.column import Column
from sluiceway.nodes.program.kinds import NodeKind
from sluiceway.nodes.program.options import Options
from sluiceway.nodes.program.program import Step, make_program


def watched(count: int) -> tuple[BatchSplitter, list[int], Iterator[int]]:
    """Return a splitter, and the events and the iterator that it watches."""
    splitter, events = BatchSplitter(), list(range(count))
    rest = iter(events)
    splitter.watch(events, rest)
    return splitter, events, rest


def test_all_events_not_started_but_one_are_removed() -> None:
    splitter, events, rest = watched(10)
    results = [next(rest), next(rest)]
    splitter.split()
    splitter.split()  # once is enough
    results += rest
    assert results == [0, 1, 2]
    assert splitter.finish(len(results)) == list(range(3, 10))
    assert events == [0, 1, 2]


def test_what_is_claimed_is_not_given_twice() -> None:
    splitter, _, rest = watched(10)
    next(rest)
    splitter.split()
    assert splitter.take_rest() == list(range(2, 10))
    assert splitter.take_rest() == []
    assert splitter.finish(1 + len(list(rest))) == []


def test_nothing_is_taken_that_may_have_started() -> None:
    """An iterator at the end of its list may have passed the split before it was made."""
    splitter, _, rest = watched(4)
    next(rest)
    splitter.split()
    assert list(rest) == [1]
    assert splitter.take_rest() == []
    assert splitter.finish(2) == [2, 3]


def test_what_started_before_the_split_is_put_back() -> None:
    splitter, events, rest = watched(6)
    next(rest)
    splitter.split()  # as one would that read the place of the iterator too early
    assert splitter.finish(4) == [4, 5]
    assert events == [0, 1, 2, 3]


def test_nothing_is_split_outside_of_a_batch() -> None:
    splitter, events = BatchSplitter(), list(range(4))
    splitter.split()
    splitter.watch(events, iter(events))
    assert splitter.finish(4) == []
    splitter.split()
    assert events == [0, 1, 2, 3]
    assert splitter.take_rest() == []


@pytest.mark.parametrize("seed", range(4))
def test_every_event_once_whenever_the_split_is_made(seed: int) -> None:
    rng, splitter, over = Random(seed), BatchSplitter(), threading.Event()
    claimed: SimpleQueue[list[int]] = SimpleQueue()

    def splitting() -> None:
        while not over.wait(rng.random() * 2e-4):
            splitter.split()
            if rng.random() < 0.5 and (taken := splitter.take_rest()):
                claimed.put(taken)

    thread = threading.Thread(target=splitting)
    thread.start()
    splits = 0
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # the threads take turns after next to every call
    try:
        for _ in range(600):
            events = list(range(rng.randint(1, 3000)))
            whole = list(events)
            rest = iter(events)
            splitter.watch(events, rest)
            results: list[int] = []
            results.extend(map(lambda n: n, rest))  # noqa: C417 - calls of Python let others in
            left = splitter.finish(len(results))
            if len(results) + len(left) < len(whole):
                left += claimed.get(timeout=30)
            assert results + left == whole
            assert events == results
            splits += len(results) < len(whole)
    finally:
        sys.setswitchinterval(interval)
        over.set()
        thread.join()
    assert splits > 0


@pytest.mark.parametrize("kind", [NodeKind.MAP, NodeKind.FILTER, NodeKind.FLAT_MAP])
def test_a_batch_that_is_split_is_answered_as_far_as_it_went(kind: NodeKind) -> None:
    """Two branches and the input itself: all end where the first step was split."""
    splitter = BatchSplitter()
    calls: list[int] = []

    def first(n: int) -> Any:
        calls.append(n)
        if n == 103:
            splitter.split()
        return {NodeKind.MAP: n, NodeKind.FILTER: n % 2, NodeKind.FLAT_MAP: [n, n]}[kind]

    def step(kind: NodeKind, node: str, place: int, output: int) -> Step:
        return Step(kind=kind, node=node, node_id=place, inputs=(0,), output=output)

    program = make_program(1, 3, [step(kind, "first", 0, 1), step(NodeKind.MAP, "second", 1, 2)], [0, 1, 2])
    executor = Executor(program, [first, lambda n: -n], list, splitter=splitter)
    answer = executor.run([Column(100, 10, list(range(100, 110)))])
    assert (answer.start, answer.size) == (100, 5)
    assert executor.removed == [105, 106, 107, 108, 109]
    assert calls == [100, 101, 102, 103, 104]
    given, one, two = answer.exits
    assert {column.stop for column in answer.exits} == {105}
    assert given.events == [100, 101, 102, 103, 104]
    assert two.events == [-100, -101, -102, -103, -104]
    whole = {
        NodeKind.MAP: [100, 101, 102, 103, 104],
        NodeKind.FILTER: [101, 103],
        NodeKind.FLAT_MAP: [n for n in calls for _ in "xx"],
    }
    assert one.events == whole[kind]
    assert [tally.events_in for tally in answer.tallies] == [5, 5]
    again = executor.run([Column(105, 5, list(range(105, 110)))])
    assert (again.size, executor.removed) == (5, [])


def test_a_failure_in_a_split_batch_ends_it_there() -> None:
    splitter = BatchSplitter()

    def first(n: int) -> int:
        if n == 3:
            splitter.split()
            raise ValueError
        return n

    failing = Step(kind=NodeKind.MAP, node="first", node_id=0, inputs=(0,), output=1)
    executor = Executor(make_program(1, 2, [failing], [1]), [first], list, splitter=splitter)
    answer = executor.run([Column(0, 10, list(range(10)))])
    assert (answer.size, executor.removed, [failed.seq for failed in answer.failures]) == (4, [], [3])
    assert answer.exits[0].events == [0, 1, 2]


def test_a_split_that_comes_too_late_changes_no_number_and_loses_no_event() -> None:
    """The position of the iterator was read, it moved on, and only then the list was split."""
    splitter = BatchSplitter()
    seqs: list[int] = []

    def first(n: int) -> int:
        if n == 5:
            splitter._removed = splitter._events[3:]
            del splitter._events[3:]
            seqs.append(current().seq)
            raise ValueError
        return n

    failing = Step(kind=NodeKind.MAP, node="first", node_id=0, inputs=(0,), output=1, options=Options(on_error="dead_letter"))
    executor = Executor(make_program(1, 2, [failing], [1]), [first], list, splitter=splitter)
    answer = executor.run([Column(0, 10, list(range(10)))])
    assert seqs == [5]
    assert [(failed.seq, failed.event) for failed in answer.failures] == [(5, 5)]
    assert (answer.size, executor.removed) == (6, [6, 7, 8, 9])
    assert answer.exits[0].events == [0, 1, 2, 3, 4]
