"""What a member of a consumer group reads, owns and commits, decided without a client."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sluiceway.nodes.connectors.kafka.offsets import Extent, GroupOffsets


def commit(member: GroupOffsets) -> dict[int, int]:
    """Let what is due be committed at once."""
    offsets = member.due()
    member.record_sent(offsets)
    member.record_answer(accepted=True)
    return offsets


def test_a_partition_begins_where_the_group_stands() -> None:
    member = GroupOffsets()
    assert member.assign({0: 5, 1: None}) == {0: 5, 1: None}
    assert member.next == {0: 5}
    assert not member.accept(0, 4)
    assert member.accept(0, 5)
    assert member.accept(1, 0)
    assert member.next == {0: 6, 1: 1}


def test_a_position_of_a_checkpoint_counts_more_than_what_the_group_holds() -> None:
    member = GroupOffsets({0: 5, 1: 7})
    assert member.assign({0: 9, 1: 2, 2: 3}) == {0: 5, 1: 7, 2: 3}
    member.acknowledge({0: 7, 1: 7})
    assert commit(member) == {1: 7}, "partition 0 stands at 9 in the group: a commit never takes it back"


def test_a_partition_that_comes_back_begins_behind_what_was_read_or_further_on() -> None:
    member = GroupOffsets()
    member.assign({0: 0, 1: 0})
    for offset in range(10):
        assert member.accept(0, offset)
        assert member.accept(1, offset)
    member.revoke([0, 1])
    assert not member.accept(0, 10)
    assert member.assign({0: 4, 1: 15}) == {0: 10, 1: 15}


def test_nothing_is_committed_of_a_partition_that_another_member_has() -> None:
    member = GroupOffsets()
    member.assign({0: 0, 1: 0})
    member.revoke([1])
    member.acknowledge({0: 3, 1: 3})
    assert commit(member) == {0: 3}
    member.assign({1: 2})
    assert commit(member) == {1: 3}, "what this run has released counts when the partition is its own again"
    member.revoke([1])
    member.assign({1: 20})
    member.acknowledge({1: 9})
    assert commit(member) == {}


def test_one_commit_at_a_time_and_never_backwards() -> None:
    member = GroupOffsets()
    member.assign({0: 0})
    member.acknowledge({0: 3})
    member.record_sent(member.due())
    member.acknowledge({0: 8})
    member.acknowledge({0: 6})
    assert member.due() == {}, "the answer of the first might come behind that of the second"
    member.record_answer(accepted=False)
    assert commit(member) == {0: 8}
    member.acknowledge({0: 2})
    assert commit(member) == {}
    assert not member.uncommitted


def test_an_answer_that_comes_after_a_rebalance_takes_nothing_back() -> None:
    member = GroupOffsets()
    member.assign({0: 0})
    member.acknowledge({0: 5})
    member.record_sent(member.due())
    member.acknowledge({0: 9})
    member.revoke([0])
    member.assign({0: 20})
    member.record_answer(accepted=True)
    assert member.due() == {}


def test_an_extent_is_cut_where_an_offset_is_missing() -> None:
    extent = Extent()
    for partition, offset in ((0, 4), (0, 5), (1, 0), (0, 6), (0, 8), (0, 9)):
        extent.add(partition, offset)
    assert extent.runs == [(0, 4, 2), (1, 0, 1), (0, 6, 1), (0, 8, 2)]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 2), st.integers(1, 5)),
        st.tuples(st.just("acknowledge"), st.integers(0, 2), st.integers(0, 5)),
        st.tuples(st.just("revoke"), st.integers(0, 2), st.integers(0, 5)),
        st.tuples(st.just("assign"), st.integers(0, 2), st.integers(0, 5)),
        st.tuples(st.sampled_from(["send", "accept", "refuse"]), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_the_group_goes_forward_and_no_message_is_given_twice(
    steps: list[tuple[str, int, int]],
) -> None:
    """The group is a dict here; other members may move it on while a partition is theirs."""
    member, group = GroupOffsets(), {0: 0, 1: 0, 2: 0}
    given_: dict[int, list[int]] = {0: [], 1: [], 2: []}
    sent: dict[int, int] = {}
    member.assign(group)
    for step, partition, count in steps:
        if step == "take":
            begin = member.next[partition]
            given_[partition] += [o for o in range(begin, begin + count) if member.accept(partition, o)]
        elif step == "acknowledge" and given_[partition]:
            member.acknowledge({partition: given_[partition][-1] + 1 - count})
        elif step == "revoke" and not sent:
            member.revoke([partition])
        elif step == "assign" and partition not in member.owned:
            group[partition] += count
            member.assign({partition: group[partition]})
        elif step == "send" and not sent:
            sent = member.due()
            member.record_sent(sent)
            assert sent.keys() <= member.owned
        elif step in ("accept", "refuse") and sent:
            if step == "accept":
                assert all(offset > group[p] for p, offset in sent.items())
                group.update(sent)
            member.record_answer(accepted=step == "accept")
            sent = {}
    for offsets in given_.values():
        assert offsets == sorted(set(offsets))
