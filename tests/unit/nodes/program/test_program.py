"""Programs: who gets a copy, and which programs need an event loop."""

from __future__ import annotations

from typing import Any

import pytest
from sluiceway.nodes.program.kinds import NodeKind
from sluiceway.nodes.program.options import Options
from sluiceway.nodes.program.program import Step, Tally, make_program


def _step(output: int, *inputs: int, kind: NodeKind = NodeKind.MAP, is_async: bool = False, **options: Any) -> Step:
    return Step(
        kind=kind,
        node=f"node{output}",
        node_id=output,
        inputs=inputs,
        output=output,
        options=Options(**options),
        is_async=is_async,
    )


def test_a_chain_copies_nothing() -> None:
    program = make_program(1, 3, [_step(1, 0), _step(2, 1)], [2])
    assert program.copied == frozenset()


def test_every_reader_of_a_slot_but_the_last_gets_a_copy() -> None:
    program = make_program(1, 4, [_step(1, 0), _step(2, 0), _step(3, 0)], [1, 2, 3])
    assert program.copied == {(0, 0), (1, 0)}


def test_a_reader_before_an_exit_works_on_a_copy() -> None:
    program = make_program(1, 2, [_step(1, 0)], [0, 1])
    assert program.copied == {(0, 0)}


def test_the_inputs_of_a_join_are_told_apart() -> None:
    program = make_program(2, 4, [_step(2, 0, 1, 0, kind=NodeKind.ZIP), _step(3, 1)], [2, 3])
    assert program.copied == {(0, 0), (0, 1)}


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({}, False),
        ({"is_async": True}, True),
        ({"retries": 2}, False),
        ({"retries": 2, "backoff_s": 0.1}, True),
        ({"backoff_s": 0.1}, False),
    ],
)
def test_who_needs_a_loop(options: dict[str, Any], needs: bool) -> None:
    assert make_program(1, 2, [_step(1, 0, **options)], [1]).needs_loop is needs


def test_an_event_is_kept_for_retries_and_dead_letters() -> None:
    assert not _step(1, 0).options.keeps_original
    assert _step(1, 0, retries=1).options.keeps_original
    assert _step(1, 0, on_error="dead_letter").options.keeps_original
    assert not _step(1, 0, on_error="skip").options.keeps_original


def test_a_tally_travels_in_the_order_of_its_fields() -> None:
    tally = Tally(1, 2, 0.5, 3, 4, 5, 6, 7, 8)
    assert tally.as_list() == [1, 2, 0.5, 3, 4, 5, 6, 7, 8]
    tally.add(tally.as_list())
    assert tally.as_list() == [2, 4, 1.0, 6, 8, 10, 12, 14, 16]
