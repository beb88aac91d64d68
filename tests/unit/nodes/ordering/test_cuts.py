"""Places, cuts and what stateful pools keep: the plain objects behind commits and checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sluiceway.engine.sources.slice_feed import FeedBatch
from sluiceway.nodes.ordering.cuts import Cut, Cuts
from sluiceway.nodes.ordering.retention import ALL_POOLS_SHARE, MAX_NUMBERS, POOL_SHARE, Retention, share_of
from sluiceway.nodes.ordering.source_positions import PositionTracker, ReadMark, SourcePosition


@given(st.data(), st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(0, 5))
def test_a_place_names_the_events_before_it(data: Any, reads: list[int], skip: int) -> None:
    """Whatever is numbered when: the position of a read and what is skipped behind it are all that was numbered."""
    track, offered, numbered, at = PositionTracker(0, SourcePosition(0, skip)), 0, 0, 0
    while numbered < sum(reads):
        if at < len(reads) and (offered == numbered or data.draw(st.booleans())):
            offered += reads[at]
            at += 1
            track.record_reads([ReadMark(reads[at - 1], skip + offered)])
        else:
            count = data.draw(st.integers(1, offered - numbered))
            numbered += count
            track.record_numbered(count)
        place = track.position()
        assert isinstance(place.position, int)
        assert place.position + place.skip == skip + numbered
    assert track.position() == SourcePosition(skip + sum(reads), 0, skip + sum(reads))


def test_a_chunk_without_a_mark_counts_from_the_position_before() -> None:
    track = PositionTracker()
    track.record_reads([ReadMark(4, "four")])
    track.record_numbered(4)
    track.record_numbered(3)  # of a read that was not taken whole
    assert track.position() == SourcePosition("four", 3, 4)


@pytest.mark.parametrize(("count", "positions"), [(3, ["behind"]), (2, []), (0, [])])
def test_a_position_is_known_only_behind_all_of_a_read(count: int, positions: list[object]) -> None:
    marks = [ReadMark(3, "behind")]
    assert [mark.position for mark in FeedBatch([1, 2, 3], None, False, marks=marks).marks_of(count)] == positions


def _cut(n: int, **words: Any) -> Cut:
    return Cut(n, (), **words)


def test_a_cut_waits_for_its_numbers_and_holds_back_those_above() -> None:
    cuts = Cuts(enabled=True)
    assert not cuts.may_announce(5, final=False)
    cuts.request()
    assert cuts.may_announce(5, final=False)
    cuts.announce(_cut(5))
    assert (cuts.release_limit(3), cuts.release_limit(9)) == (3, 5)
    assert cuts.take_complete(4) is None
    cut = cuts.take_complete(5)
    assert cut is not None
    assert cuts.take_complete(5) is None, "it is handed over once"
    assert cuts.release_limit(9) == 9
    cuts.request()
    assert not cuts.may_announce(9, final=True), "one at a time"
    assert cuts.record_commit(4) is None
    assert cuts.record_commit(5) is cut
    assert cuts.may_announce(9, final=False)
    assert not cuts.may_announce(5, final=False), "nothing came since"


def test_a_cut_waits_for_the_states_that_belong_to_it() -> None:
    cuts = Cuts((0, 2), enabled=True)
    cuts.request()
    cuts.announce(_cut(7))
    assert [cuts.missing(pool) for pool in range(3)] == [7, None, 7]
    cuts.record_state(0, 7, b"zero")
    cuts.record_state(2, 6, b"that of another number")
    assert cuts.take_complete(7) is None
    assert [cuts.missing(pool) for pool in range(3)] == [None, None, 7]
    cuts.record_state(2, 7, None)
    cut = cuts.take_complete(7)
    assert cut is not None
    assert cut.states == {0: b"zero", 2: None}


def test_the_last_cut_ends_them() -> None:
    cuts = Cuts(enabled=True)
    assert not cuts.ended
    assert cuts.may_announce(0, final=True)
    cuts.announce(_cut(0, final=True))
    assert cuts.take_complete(0) is not None
    cuts.record_commit(0)
    assert cuts.ended
    assert not cuts.may_announce(0, final=True)
    assert Cuts(enabled=False).ended, "a run without cuts waits for none"


def test_a_resumed_run_does_not_commit_what_is_committed() -> None:
    cuts = Cuts(enabled=True)
    cuts.begin_at(5)
    cuts.request()
    assert not cuts.may_announce(5, final=False)
    assert cuts.may_announce(6, final=False)


def test_a_snapshot_is_asked_for_when_what_is_kept_passes_its_share() -> None:
    kept = Retention(100)
    kept.record_inputs(100)
    assert not kept.is_snapshot_due(3)
    kept.record_inputs(1)
    assert kept.is_snapshot_due(3)
    assert not kept.is_snapshot_due(0), "nothing was handed out since"
    kept.record_request(3)
    assert not kept.is_snapshot_due(9), "one at a time"
    kept.record_inputs(50)
    kept.record_snapshot(3, b"state", 50)
    assert (kept.upto, kept.packed) == (3, b"state")
    assert not kept.is_snapshot_due(9), "only what came after it still counts"
    kept.record_inputs(51)
    assert kept.is_snapshot_due(9)
    kept.record_request(9)
    kept.record_loss(9)
    assert kept.is_snapshot_due(9), "whoever was asked is gone"
    assert Retention(1 << 40).is_snapshot_due(MAX_NUMBERS)


def test_after_deaths_a_snapshot_is_asked_for_earlier_until_some_have_come() -> None:
    kept = Retention(1 << 40)
    kept.record_loss(0)
    assert not kept.is_snapshot_due(MAX_NUMBERS - 1), "it had nothing"
    kept.record_loss(1)
    assert not kept.is_snapshot_due(MAX_NUMBERS // 2 - 1)
    assert kept.is_snapshot_due(MAX_NUMBERS // 2)
    for _ in range(100):
        kept.record_loss(1)
    assert kept.is_snapshot_due(1), "one number more than the last one got to"
    for n in range(1, 101):
        kept.record_request(n)
        kept.record_snapshot(n, b"state", 0)
    assert not kept.is_snapshot_due(100 + MAX_NUMBERS - 1)


@pytest.mark.parametrize("pools", [0, 1, 4, 5, 64])
def test_what_many_pools_keep_leaves_room(pools: int) -> None:
    assert share_of(1000, pools) <= 1000 // POOL_SHARE
    assert share_of(1000, pools) * pools <= 1000 // ALL_POOLS_SHARE
