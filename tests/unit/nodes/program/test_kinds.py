"""The table of node kinds: its rows agree with each other, and kinds survive pickling."""

from __future__ import annotations

import pickle

import pytest
from sluiceway.nodes.program.kinds import NodeKind


@pytest.mark.parametrize("kind", NodeKind)
def test_a_kind_is_found_by_its_value_and_survives_pickling(kind: NodeKind) -> None:
    assert NodeKind._value2member_map_[kind.value] is kind
    assert pickle.loads(pickle.dumps(kind)) is kind


@pytest.mark.parametrize("kind", NodeKind)
def test_the_traits_of_a_kind_agree(kind: NodeKind) -> None:
    traits = kind.traits
    assert traits.built or not (traits.has_handler or traits.calls_user_code or traits.stateful)
    assert traits.has_handler or not (traits.event_by_event or traits.takes_lists)
    assert not (traits.event_by_event and traits.takes_lists)
    assert traits.stateful == bool(traits.why_ordered)
    assert not (traits.joins and traits.built)
    assert not (traits.keyed and traits.built), "the compiler expands a keyed kind before anything is built"
    assert not (traits.read_only and traits.stateful)


def test_every_kind_that_follows_a_key_but_a_map_has_states_to_save() -> None:
    assert [kind for kind in NodeKind if kind.traits.keyed and not kind.traits.has_form] == [NodeKind.KEYED_MAP]
