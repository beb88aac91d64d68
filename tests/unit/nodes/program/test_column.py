"""Columns, against a plain mapping of every number to its events."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sluiceway.nodes.ownership.ownership import Ownership
from sluiceway.nodes.program.column import Column, join
from sluiceway.nodes.program.steps import collect, flatten, keep

_Rows = list[list[tuple[int, Any]]]


@st.composite
def _columns(draw: Any) -> tuple[Column, _Rows]:
    """A column and what it holds: for each number a list of (index, event)."""
    kind = draw(st.sampled_from(("one", "counts", "indices")))
    start, size = draw(st.integers(0, 50)), draw(st.integers(1, 6))
    if kind == "one":
        events = draw(st.lists(st.integers(), min_size=size, max_size=size))
        return Column(start, size, events), [[(0, event)] for event in events]
    rows: _Rows = []
    for _ in range(size):
        indices = draw(st.lists(st.integers(0, 5), max_size=3, unique=True).map(sorted))
        if kind == "counts":
            indices = list(range(len(indices)))
        rows.append([(index, draw(st.integers())) for index in indices])
    events = [event for row in rows for _, event in row]
    counts = [len(row) for row in rows]
    indices = [index for row in rows for index, _ in row] if kind == "indices" else None
    return Column(start, size, events, counts, indices), rows


def _model(column: Column) -> _Rows:
    rows: _Rows = [[] for _ in range(column.size)]
    for (seq, index), event in zip(column.numbers(), column.events, strict=True):
        rows[seq - column.start].append((index, event))
    return rows


@given(_columns())
def test_every_event_has_its_name(given_: tuple[Column, _Rows]) -> None:
    column, rows = given_
    assert _model(column) == rows
    names = column.numbers()
    assert [column.number_of(position) for position in range(len(names))] == names
    assert column.indices_or_counted() == [index for _, index in names]
    assert column.stop == column.start + column.size


@given(_columns(), st.data())
def test_a_cut_is_the_part(given_: tuple[Column, _Rows], data: st.DataObject) -> None:
    column, rows = given_
    lo = data.draw(st.integers(column.start, column.stop - 1))
    hi = data.draw(st.integers(lo, column.stop))
    part = column.slice(lo, hi)
    assert (part.start, part.size) == (lo, hi - lo)
    assert _model(part) == rows[lo - column.start : hi - column.start]


@given(_columns(), st.data())
def test_pieces_join_to_the_whole(given_: tuple[Column, _Rows], data: st.DataObject) -> None:
    column, rows = given_
    places = data.draw(st.sets(st.integers(column.start + 1, max(column.start + 1, column.stop - 1)), max_size=3))
    bounds = sorted({column.start, column.stop, *(place for place in places if place < column.stop)})
    whole = join([column.slice(lo, hi) for lo, hi in pairwise(bounds)])
    assert (whole.start, whole.size) == (column.start, column.size)
    assert _model(whole) == rows


@given(st.lists(_columns(), min_size=1, max_size=4))
def test_columns_of_every_kind_join(given_: list[tuple[Column, _Rows]]) -> None:
    parts, rows, start = [], [], 7
    for column, held in given_:
        parts.append(Column(start, column.size, column.events, column.counts, column.indices))
        start += column.size
        rows += held
    whole = join(parts)
    assert (whole.start, whole.stop) == (7, start)
    assert _model(whole) == rows


@given(_columns())
def test_other_events_keep_the_shape(given_: tuple[Column, _Rows]) -> None:
    column, rows = given_
    other = column.with_events([str(event) for event in column.events])
    assert _model(other) == [[(index, str(event)) for index, event in row] for row in rows]


def test_a_whole_cut_is_the_column_itself() -> None:
    column = Column(3, 2, ["a", "b"])
    assert column.slice(3, 5) is column
    assert join([column]) is column


# -- what steps make of columns ------------------------------------------------------------------------------------


@given(_columns(), st.data())
def test_what_is_kept_keeps_its_name(given_: tuple[Column, _Rows], data: st.DataObject) -> None:
    column, rows = given_
    size = len(column.events)
    mask = data.draw(st.lists(st.sampled_from([True, False, 1, 0, "", "x"]), min_size=size, max_size=size))
    flags = iter(mask)
    kept = keep(column, column.events, mask)
    assert _model(kept) == [[place for place in row if next(flags)] for row in rows]
    assert kept.counts is None or all(type(count) is int for count in kept.counts)


@given(_columns(), st.data())
def test_outputs_are_numbered_afresh(given_: tuple[Column, _Rows], data: st.DataObject) -> None:
    column, rows = given_
    outputs = [data.draw(st.lists(st.integers(), max_size=3)) for _ in column.events]
    given_outputs = iter(outputs)
    flat = flatten(column, list(outputs))
    assert _model(flat) == [list(enumerate(event for _ in row for event in next(given_outputs))) for row in rows]


def test_a_handler_may_use_the_list_that_it_gave_again() -> None:
    owner = Ownership(list, "the handler gave")
    used: list[int] = []
    given_: list[list[int]] = []
    for n in range(3):
        used[:] = [n, n]
        given_.append(collect(used, owner, alone=False))
    assert given_ == [[0, 0], [1, 1], [2, 2]]
    assert collect((1, 2), owner, alone=True) == [1, 2]
    with pytest.raises(TypeError, match="list"):
        collect({"a": 1}, owner, alone=True)
