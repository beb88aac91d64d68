"""The rules that every executor shares: what a result means for the shape of a column.

Pure functions over columns; who calls the handlers, and when, is decided by the executors.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, chain, compress, islice
from operator import sub
from typing import Any

from ..events import Failure
from .column import Column, join
from .kinds import NodeKind
from .program import Answer, Step, Tally


class _Failed:
    def __bool__(self) -> bool:
        return False


#: Stands in a list of results for an event whose handler failed; false, so that a filter drops it.
FAILED: Any = _Failed()

#: A flat_map may give so many outputs, or about so many bytes, for one event; more is taken for a generator without end.
MAX_OUTPUTS = 1_000_000
MAX_OUTPUT_BYTES = 1 << 30
_PIECE = 4096

def collect(outputs: Iterable[Any]) -> list[Any]:
    """Read a flat_map's outputs into a list.

    Raises `ValueError` for more than `MAX_OUTPUTS` outputs or about `MAX_OUTPUT_BYTES` (by shallow size).
    """
    if type(outputs) in (list, tuple) and len(outputs) < _PIECE:  # type: ignore[arg-type]
        return list(outputs)  # a handler may keep the list it gave and use it again
    iterator = iter(outputs)
    events = list(islice(iterator, _PIECE))
    if len(events) < _PIECE:
        return events
    total = sum(map(sys.getsizeof, events))
    while piece := list(islice(iterator, _PIECE)):
        events += piece
        total += sum(map(sys.getsizeof, piece))
        if len(events) > MAX_OUTPUTS or total > MAX_OUTPUT_BYTES:
            raise ValueError(
                f"flat_map gave more than {MAX_OUTPUTS:,} outputs or {MAX_OUTPUT_BYTES >> 20} MiB for one event;"
                " end the generator, or split the event before"
            )
    return events


def shape(step: Step, column: Column, results: list[Any], failed: int, tally: Tally) -> Column:
    """Turn one result per event of `column`, `failed` of them `FAILED`, into the step's output column."""
    tally.events_in += len(results)
    if step.kind is NodeKind.FILTER:
        output = keep(column, column.events, results)
        tally.filtered += len(results) - failed - len(output.events)
    elif step.kind is NodeKind.FLAT_MAP:
        output = flatten(column, results if not failed else [() if given is FAILED else given for given in results])
    elif failed:
        output = keep(column, results, [given is not FAILED for given in results])
    else:
        output = column.with_events(results)
    tally.events_out += len(output.events)
    return output


def keep(column: Column, events: Sequence[Any], mask: list[Any]) -> Column:
    """Give the events whose mask is true, under their old names."""
    kept = list(compress(events, mask))
    if column.counts is None:
        if len(kept) == column.size:
            return Column(column.start, column.size, kept)
        return Column(column.start, column.size, kept, [1 if flag else 0 for flag in mask])
    counts = _sums([1 if flag else 0 for flag in mask], column)
    if column.indices is None and max(column.counts, default=0) <= 1:
        return Column(column.start, column.size, kept, counts)  # the only one of its number is the first of it
    indices = list(compress(column.indices_or_counted(), mask))
    return Column(column.start, column.size, kept, counts, indices)


def flatten(column: Column, outputs: list[Sequence[Any]]) -> Column:
    """Give all outputs, indices counted afresh inside each number."""
    sizes = list(map(len, outputs))
    if column.counts is not None:
        sizes = _sums(sizes, column)
    return Column(column.start, column.size, list(chain.from_iterable(outputs)), sizes)


def _sums(values: list[int], column: Column) -> list[int]:
    """Add up what each number's events have of `values`, one for each event."""
    upto = list(accumulate(values, initial=0))
    at = list(map(upto.__getitem__, column.offsets()))
    return list(map(sub, at[1:], at))


def zip_columns(columns: list[Column], tally: Tally) -> Column:
    """Join by number: one tuple where every column has an event, none where one lacks it (counted as unmatched)."""
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
    """Give, for each number, the events of the first column, then of the second and so on, indices counted afresh."""
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


def checked_batch(step: Step, given: Any, expected: int) -> Sequence[Any]:
    """Check what a map_batches handler returned: a sequence as long as the list it was given."""
    try:
        got = len(given)
    except TypeError:
        raise TypeError(
            f"map_batches handler {step.node!r} returned a {type(given).__name__} for a list of {expected} events;"
            " return a sequence of the same length"
        ) from None
    if got != expected:
        raise ValueError(
            f"map_batches handler {step.node!r} returned {got} outputs for a list of {expected} events;"
            " return exactly one for each, or use flat_map"
        )
    if isinstance(given, list):
        return given
    return list(given)


def close_answer(
    start: int, size: int, exits: list[Column], failures: list[Failure], tallies: list[Tally], end_at: int
) -> Answer:
    """Give the answer for a run; under a `fail` at number `end_at`, up to `end_at` and with nothing but failures of it."""
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
    """Join the answers of numbers that follow each other; what stands above a `fail` is dropped."""
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


#: Gives an independent copy of every event of a list.
Copier = Callable[[list[Any]], list[Any]]
