"""The one order: by arrival, in turn, or by key; and how a limit ends it."""

from __future__ import annotations

import heapq
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sluiceway.nodes.ordering.sequencer import Chunk, Order, Sequencer


def _packed(size: int, name: str = "") -> Chunk:
    return Chunk(size, payload=name, nbytes=10 * size)


def _objects(*items: Any, keys: list[Any] | None = None) -> Chunk:
    return Chunk(len(items), items=list(items), keys=keys)


def _drain(sequencer: Sequencer, most: int = 100) -> list[Any]:
    found = []
    while (chunk := sequencer.number_next(most)) is not None:
        assert chunk.items is not None
        assert len(chunk.items) == chunk.size <= most
        found += chunk.items
    return found


def test_chunks_are_numbered_as_they_arrive() -> None:
    sequencer = Sequencer(2)
    assert not sequencer.merges
    for source, name in ((1, "a"), (0, "b"), (1, "c")):
        sequencer.offer(source, _packed(2, name))
    assert sequencer.buffered(1) == 4
    chunks = [sequencer.number_next(1) for _ in range(3)]
    assert [chunk and chunk.payload for chunk in chunks] == ["a", "b", "c"]
    assert sequencer.next == 6
    assert sequencer.number_next(1) is None


def test_a_chunk_that_must_fit_waits_for_room() -> None:
    sequencer = Sequencer(1)
    sequencer.offer(0, _packed(5))
    assert sequencer.number_next(4, fit=True) is None
    assert sequencer.buffered(0) == 5
    chunk = sequencer.number_next(5, fit=True)
    assert chunk is not None
    assert chunk.size == 5


def test_a_limit_cuts_the_chunk_it_falls_into() -> None:
    sequencer = Sequencer(1, limit=7)
    sequencer.offer(0, _packed(5))
    sequencer.offer(0, _packed(5))
    whole, cut = sequencer.number_next(100), sequencer.number_next(100)
    assert whole is not None
    assert cut is not None
    assert (whole.size, whole.truncated, cut.size, cut.truncated) == (5, False, 2, True)
    assert sequencer.limited
    assert sequencer.finished
    assert sequencer.number_next(100) is None


def test_what_a_limit_cuts_off_needs_no_room() -> None:
    sequencer = Sequencer(1, limit=2)
    sequencer.offer(0, _packed(50))
    chunk = sequencer.number_next(2, fit=True)
    assert chunk is not None
    assert chunk.size == 2


def test_it_is_finished_when_all_have_ended_and_nothing_waits() -> None:
    sequencer = Sequencer(2)
    sequencer.offer(0, _packed(1))
    sequencer.record_end(0)
    assert not sequencer.finished
    sequencer.record_end(1)
    assert not sequencer.finished
    sequencer.number_next(9)
    assert sequencer.finished


def test_an_empty_chunk_is_nothing() -> None:
    sequencer = Sequencer(1)
    sequencer.offer(0, _packed(0))
    assert sequencer.number_next(9) is None


def test_dropping_forgets_what_has_no_number() -> None:
    sequencer = Sequencer(2, "round_robin")
    sequencer.offer(0, _objects("a", "b"))
    sequencer.clear()
    assert sequencer.buffered(0) == 0
    assert sequencer.number_next(9) is None


def test_sources_take_turns_and_wait_for_each_other() -> None:
    sequencer = Sequencer(3, "round_robin")
    sequencer.offer(0, _objects("a0", "a1", "a2"))
    sequencer.offer(2, _objects("c0"))
    assert _drain(sequencer) == ["a0"], "the second source may still give something"
    sequencer.offer(1, _objects("b0"))
    assert _drain(sequencer) == ["b0", "c0", "a1"]
    sequencer.record_end(1)
    assert _drain(sequencer) == [], "the third may still give something"
    sequencer.record_end(2)
    assert _drain(sequencer) == ["a2"]


def test_a_merge_waits_until_every_source_has_an_event() -> None:
    sequencer = Sequencer(2, "key")
    sequencer.offer(0, _objects("a1", "a5", keys=[1, 5]))
    assert _drain(sequencer) == []
    sequencer.offer(1, _objects("b1", "b2", keys=[1, 2]))
    assert _drain(sequencer) == ["a1", "b1", "b2"], "of equal keys the first source's comes first"
    sequencer.record_end(1)
    assert _drain(sequencer) == ["a5"]


def test_one_source_alone_is_never_taken_apart() -> None:
    assert not Sequencer(1, "key").merges
    assert not Sequencer(1, "round_robin").merges


@pytest.mark.parametrize("order", ["round_robin", "key"])
@given(
    keys=st.lists(st.lists(st.integers(0, 9), max_size=8).map(sorted), min_size=2, max_size=3),
    limit=st.none() | st.integers(0, 10),
    seed=st.integers(0, 1000),
)
def test_merges_do_not_depend_on_when_things_arrive(
    order: Order, keys: list[list[int]], limit: int | None, seed: int
) -> None:
    rng = Random(seed)
    events = [[(key, source, at) for at, key in enumerate(row)] for source, row in enumerate(keys)]
    if order == "key":
        expected = list(heapq.merge(*events))
    else:
        expected = [row[at] for at in range(8) for row in events if at < len(row)]
    sequencer = Sequencer(len(keys), order, limit)
    left = [list(row) for row in events]
    got: list[Any] = []
    while live := [source for source in range(len(keys)) if not sequencer.has_ended(source)]:
        source, count = rng.choice(live), rng.randrange(4)
        part, left[source] = left[source][:count], left[source][count:]
        sequencer.offer(source, _objects(*part, keys=[key for key, _, _ in part]))
        if not left[source]:
            sequencer.record_end(source)
        got += _drain(sequencer, rng.randint(1, 5))
    assert got == expected[:limit]
    assert sequencer.next == len(got)
    assert sequencer.finished
