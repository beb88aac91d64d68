"""The rules that every executor shares: what the results of a step mean for its output column.

Pure functions over columns. The executors decide when a handler is called.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, chain, compress, groupby, islice, starmap
from operator import sub, truth
from sys import getrefcount
from typing import Any

from msgspec import Struct

from ..errors import kind_of
from ..events import Failure
from ..given import is_unrun, is_view, refuse_table, refuse_unordered, refuse_unrun, unrun_error
from ..ownership.ownership import Held, Inputs, Ownership
from ..ownership.reference_counts import RESULT
from .column import Column, join
from .kinds import NodeKind
from .program import Answer, Step, Tally


class _Failed:
    def __bool__(self) -> bool:
        return False


#: The result of an event whose handler failed, in a list of results; false, so that a filter drops it.
FAILED: Any = _Failed()

#: The most outputs, and about the most bytes, of a flat_map for one event; more means that a generator never ends.
MAX_OUTPUTS = 1_000_000
MAX_OUTPUT_BYTES = 1 << 30
_PIECE_EVENTS = 4096


def collect(outputs: Iterable[Any], owner: Ownership, *, alone: bool, held: Held | None = None) -> list[Any]:
    """Return a flat_map's outputs as a list, owned; `alone` is whether the handler kept no reference to `outputs`.

    `held` says how often the engine refers to them.
    Raises `ValueError` for more than `MAX_OUTPUTS` outputs or about `MAX_OUTPUT_BYTES` (by shallow size), and `NotGiven`
    for what is no sequence of outputs.
    """
    if type(outputs) in (list, tuple) and len(outputs) < _PIECE_EVENTS:  # type: ignore[arg-type]
        return owner.all_of(outputs, alone=alone, held=held)  # type: ignore[arg-type]
    if is_unrun(type(outputs)):
        raise unrun_error(outputs, "the handler gave")
    refuse_table(outputs, "the handler gave", "flat_map takes its parts one by one")
    iterator = owner.each(outputs)
    events = list(islice(iterator, _PIECE_EVENTS))
    if len(events) < _PIECE_EVENTS:
        return events
    total = sum(map(sys.getsizeof, events))
    while piece := list(islice(iterator, _PIECE_EVENTS)):
        events += piece
        total += sum(map(sys.getsizeof, piece))
        _check_amount(len(events), total)
    return events


async def collect_async(outputs: AsyncIterable[Any], owner: Ownership) -> list[Any]:
    """Return what an async generator yields for one event as a list, within the limits of `collect`."""
    events: list[Any] = []
    total = 0
    async for event in outputs:
        events.append(owner.called(event))
        total += sys.getsizeof(event)
        _check_amount(len(events), total)
    return events


def _check_amount(count: int, size_bytes: int) -> None:
    if count > MAX_OUTPUTS or size_bytes > MAX_OUTPUT_BYTES:
        raise ValueError(
            f"flat_map gave more than {MAX_OUTPUTS:,} outputs or {MAX_OUTPUT_BYTES >> 20} MiB for one event;"
            " end the generator, or split the event before"
        )


class ResultRule(Struct, frozen=True):
    """What a kind of handler makes of its results."""

    #: Takes what the handlers give, one by one, so that each is the engine's own before the next handler is called.
    take: Callable[[Ownership, Iterable[Any], Inputs], Iterator[Any]]
    #: Makes the output column from the input column, its results, and how many of them are `FAILED`.
    shape: Callable[[Column, list[Any], int, Tally], Column]


def _one_each(column: Column, results: list[Any], failed: int, tally: Tally) -> Column:
    return keep(column, results, [given is not FAILED for given in results]) if failed else column.with_events(results)


def _those_true(column: Column, results: list[Any], failed: int, tally: Tally) -> Column:
    output = keep(column, column.events, results)
    tally.filtered += len(results) - failed - len(output.events)
    return output


def _all_of_each(column: Column, results: list[Any], failed: int, tally: Tally) -> Column:
    return flatten(column, results if not failed else [() if given is FAILED else given for given in results])


def _verdicts(owner: Ownership, given: Iterable[Any], inputs: Inputs) -> Iterator[bool]:
    """Return truth values; raises `NotGiven` for what has yet to be run, which is always true."""
    return chain.from_iterable(starmap(_verdicts_of, groupby(chain(given), type)))


def _verdicts_of(cls: type, given: Iterator[Any]) -> Iterator[bool]:
    if cls is bool:
        return given
    return map(_refused_verdict if is_unrun(cls) or is_view(cls) else truth, given)


def _refused_verdict(given: Any) -> bool:
    refuse_unrun(given, "the handler", "a filter gives a truth value")
    return truth(given)


def _outputs(owner: Ownership, given: Iterable[Any], inputs: Inputs) -> Iterator[list[Any]]:
    return map(_Collector(owner).collect, given, inputs(0))


class _Collector:
    def __init__(self, owner: Ownership) -> None:
        self._owner = owner

    def collect(self, outputs: Any, event: Any) -> list[Any]:
        alone = getrefcount(outputs) <= RESULT
        held = partial(self._owner.parts_of, event) if getrefcount(event) <= self._owner.beside else None
        return collect(outputs, self._owner, alone=alone, held=held)


_DEFAULT_RULE = ResultRule(Ownership.results, _one_each)
_RESULT_RULES = {
    NodeKind.FILTER: ResultRule(_verdicts, _those_true),
    NodeKind.FLAT_MAP: ResultRule(_outputs, _all_of_each),
}


def result_rule(kind: NodeKind) -> ResultRule:
    """Return what a kind of handler makes of its results."""
    return _RESULT_RULES.get(kind, _DEFAULT_RULE)


def shape(step: Step, column: Column, results: list[Any], failed: int, tally: Tally) -> Column:
    """Return the step's output column for one result per event of `column`, `failed` of them `FAILED`."""
    tally.events_in += len(results)
    output = result_rule(step.kind).shape(column, results, failed, tally)
    tally.events_out += len(output.events)
    return output


def keep(column: Column, events: Sequence[Any], mask: list[Any]) -> Column:
    """Return the column of the events whose mask is true, with their numbers and indices."""
    kept = list(compress(events, mask))
    if column.counts is None:
        if len(kept) == column.size:
            return Column(column.start, column.size, kept)
        return Column(column.start, column.size, kept, [1 if flag else 0 for flag in mask])
    counts = _sums([1 if flag else 0 for flag in mask], column)
    if column.indices is None and max(column.counts, default=0) <= 1:
        return Column(column.start, column.size, kept, counts)  # the only event of its number has index 0
    indices = list(compress(column.indices_or_counted(), mask))
    return Column(column.start, column.size, kept, counts, indices)


def flatten(column: Column, outputs: list[Sequence[Any]]) -> Column:
    """Return the column of all outputs, with indices counted from 0 in each number."""
    sizes = list(map(len, outputs))
    if column.counts is not None:
        sizes = _sums(sizes, column)
    return Column(column.start, column.size, list(chain.from_iterable(outputs)), sizes)


def _sums(values: list[int], column: Column) -> list[int]:
    """Return the sum of `values`, one for each event, over the events of each number."""
    upto = list(accumulate(values, initial=0))
    at = list(map(upto.__getitem__, column.offsets()))
    return list(map(sub, at[1:], at))


def zip_columns(columns: list[Column], tally: Tally) -> Column:
    """Join by number: one tuple where every column has an event, none where one has none (counted as unmatched)."""
    first = columns[0]
    tally.events_in += sum(len(column.events) for column in columns)
    if all(column.counts is None for column in columns):
        tally.events_out += first.size
        return Column(first.start, first.size, list(zip(*(column.events for column in columns), strict=True)))
    counts = [column.counts if column.counts is not None else [1] * column.size for column in columns]
    full = [all(row) for row in zip(*counts, strict=True)]
    tally.unmatched += sum(1 for row in zip(*counts, strict=True) if any(row) and not all(row))
    picked = []
    for column, had in zip(columns, counts, strict=True):
        rows = compress(full, had)
        picked.append(list(compress(column.events, rows)))
    events = list(zip(*picked, strict=True))
    tally.events_out += len(events)
    return Column(first.start, first.size, events, [1 if row else 0 for row in full])


def merge_columns(columns: list[Column], tally: Tally) -> Column:
    """Return for each number the events of the first column, then of the second and so on, with indices from 0."""
    first = columns[0]
    all_offsets = [column.offsets() if column.counts is not None else range(column.size + 1) for column in columns]
    events: list[Any] = []
    counts = []
    for row in range(first.size):
        before = len(events)
        for column, offsets in zip(columns, all_offsets, strict=True):
            events += column.events[offsets[row] : offsets[row + 1]]
        counts.append(len(events) - before)
    tally.events_in += len(events)
    tally.events_out += len(events)
    return Column(first.start, first.size, events, counts)


def checked_batch(step: Step, given: Any, expected: int, owner: Ownership, *, alone: bool, held: Held | None = None) -> list[Any]:
    """Return what a map_batches handler returned as a list of owned events: a sequence as long as the list of events.

    `alone` is whether the handler kept no reference to it, `held` how often the engine refers to what it holds.
    """
    what, why = f"map_batches handler {step.node!r} gave", f"it was called with {expected} events"
    if is_unrun(type(given)):
        raise unrun_error(given, what)
    refuse_table(given, what, why)
    refuse_unordered(given, what, why)
    try:
        got = len(given)
    except TypeError:
        raise TypeError(
            f"map_batches handler {step.node!r} returned {kind_of(given)} for a list of {expected} events;"
            " return a sequence of the same length"
        ) from None
    if got != expected:
        raise ValueError(
            f"map_batches handler {step.node!r} returned {got} outputs for a list of {expected} events;"
            " return exactly one for each, or use flat_map"
        )
    return owner.all_of(given, alone=alone, held=held)


def close_answer(
    start: int, size: int, exits: list[Column], failures: list[Failure], tallies: list[Tally], end_at: int
) -> Answer:
    """Return the answer for a run; after a `fail` at number `end_at` it ends there, and that number has no events."""
    if end_at >= start + size:
        return Answer(start, size, exits, failures, tallies)
    columns = []
    for column in exits:
        below = column.slice(start, end_at) if end_at < column.stop else column
        counts = [*(below.counts if below.counts is not None else [1] * below.size), 0]
        columns.append(Column(start, below.size + 1, below.events, counts, below.indices))
    kept = [f for f in failures if f.seq < end_at or (f.seq == end_at and f.on_error == "fail")]
    return Answer(start, end_at - start + 1, columns, kept, tallies)


def join_answers(answers: Sequence[Answer]) -> Answer:
    """Join the answers of numbers that follow each other; those above a `fail` are dropped."""
    kept: list[Answer] = []
    for answer in answers:
        kept.append(answer)
        if any(f.on_error == "fail" for f in answer.failures):
            break
    first, last = kept[0], kept[-1]
    exits = [join(list(columns)) for columns in zip(*(answer.exits for answer in kept), strict=True)]
    failures = [f for answer in kept for f in answer.failures]
    tallies = [_sum(list(row)) for row in zip(*(answer.tallies for answer in kept), strict=True)]
    return Answer(first.start, last.start + last.size - first.start, exits, failures, tallies)


def _sum(tallies: list[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.add(tally.as_list())
    return total
