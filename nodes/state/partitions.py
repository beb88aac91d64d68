"""Partitions of a stream: a column laid out for one part of the keys, and the parts' results in one order again.

Decides how `(key, time, event)` travel: flat, one after the other, so that the codec sees plain values. The order
that comes back is that of the numbers and indices, or of windows and keys inside one number, whatever the parts were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain, compress, pairwise, repeat
from operator import itemgetter
from typing import Any

from ..program.column import Column
from .windows import Window

#: `_PICK[p]` makes of a row of codes a mask of those that are `p`.
_PICK = tuple(bytes(1 if code == part else 0 for code in range(256)) for part in range(256))


@dataclass(frozen=True, slots=True)
class Part:
    """One part of several: with more than one the first input of its step are the codes of the keys."""

    part: int
    parts: int


class Record(Enum):
    """What the events of a part's results are: how many values each, and what they become."""

    PLAIN = 1  #: the event itself
    PAIR = 2  #: key, value
    RANKED = 4  #: key, value, and the (seq, index) at which the key came first
    WINDOW = 6  #: key, start, end, value, and the (seq, index) of the window's first event

    @property
    def ranked(self) -> bool:
        """Whether one number may give several, in an order of their own."""
        return self in (Record.RANKED, Record.WINDOW)


def scaled(column: Column, old: int, new: int) -> tuple[list[int] | None, list[int] | None]:
    """Give counts and indices of a column whose events take `new` places instead of `old`."""
    counts, indices = column.counts, column.indices
    if old != new:
        if counts is None:
            counts = [new] * column.size
        else:
            counts = [count * new // old for count in counts]
        if indices is not None:
            indices = [index for index in indices[::old] for _ in range(new)]
    return counts, indices


def flat(columns: Sequence[list[Any]]) -> list[Any]:
    """Lay equally long lists out in one: the first of each, then the second of each, and so on."""
    width = len(columns)
    if width == 1:
        return columns[0]
    laid: list[Any] = [None] * (width * len(columns[0]))
    for at, values in enumerate(columns):
        laid[at::width] = values
    return laid


def part_column(part: Part, columns: Sequence[Column]) -> Column:
    """Give the column of one part: the values of `columns` for its keys, one after the other."""
    if part.parts == 1:
        first = columns[0]
        counts, indices = _explicit(first)
        laid = Column(first.start, first.size, list(first.events), counts, indices)
        laid.counts, laid.indices = scaled(laid, 1, len(columns))
        laid.events = flat([column.events for column in columns])
        return laid
    codes, *columns = columns
    first, width = columns[0], len(columns)
    picked = bytes(codes.events).translate(_PICK[part.part])
    _, indices = _explicit(first)
    if indices is not None:
        indices = list(compress(indices, picked))
    laid = Column(first.start, first.size, [], _counts(first, picked), indices)
    laid.counts, laid.indices = scaled(laid, 1, width)
    laid.events = flat([list(compress(column.events, picked)) for column in columns])
    return laid


def _explicit(column: Column) -> tuple[list[int] | None, list[int] | None]:
    """Give counts, and indices where a number has several events, for parts must know which of them they have."""
    if column.counts is None or (column.indices is None and max(column.counts, default=0) <= 1):
        return column.counts, None
    return column.counts, column.indices_or_counted()


def _counts(column: Column, picked: bytes) -> list[int]:
    if column.counts is None:
        return list(picked)
    if max(column.counts, default=0) <= 1:
        flags = iter(picked)
        return [next(flags) if count else 0 for count in column.counts]
    return [sum(picked[a:b]) for a, b in pairwise(column.offsets())]


def gather_columns(record: Record, columns: Sequence[Column]) -> Column:
    """Join the parts' results into one column in the one order."""
    if record.ranked:
        return _by_rank(record, columns)
    width = record.value
    parts = [_unlaid(column, width) for column in columns]
    if len(parts) == 1:
        return parts[0]
    if all(part.indices is None and max(part.counts or (1,), default=0) <= 1 for part in parts):
        return _by_number(parts)
    return _by_index(parts)


def _unlaid(column: Column, width: int) -> Column:
    """Give a column of the events that were laid out flat, pairs as tuples."""
    counts, indices = scaled(column, width, 1)
    if counts is not None and indices is None and min(counts, default=1) == 1 == max(counts, default=1):
        counts = None
    events = column.events
    if width > 1:
        events = list(zip(*(events[at::width] for at in range(width)), strict=True))
    return Column(column.start, column.size, events, counts, indices)


def _by_number(parts: Sequence[Column]) -> Column:
    """Join parts where a number has one event at most."""
    first = parts[0]
    found: list[Any] = [_NONE] * first.size
    for part in parts:
        rows: Any = range(first.size)
        for row, event in zip(rows if part.counts is None else compress(rows, part.counts), part.events, strict=True):
            found[row] = event
    if sum(len(part.events) for part in parts) == first.size:
        return Column(first.start, first.size, found)
    there = [event is not _NONE for event in found]
    return Column(first.start, first.size, list(compress(found, there)), list(map(int, there)))


_NONE: Any = object()


def _rows(column: Column) -> Iterator[int]:
    if column.counts is None:
        return iter(range(column.size))
    return chain.from_iterable(map(repeat, range(column.size), column.counts))


def _by_index(parts: Sequence[Column]) -> Column:
    first = parts[0]
    found: list[tuple[int, int, Any]] = []
    for part in parts:
        found += zip(_rows(part), part.indices_or_counted(), part.events, strict=True)
    found.sort(key=itemgetter(0, 1))
    counts = [0] * first.size
    for row, _, _ in found:
        counts[row] += 1
    return Column(first.start, first.size, [event for _, _, event in found], counts, [index for _, index, _ in found])


def _by_rank(record: Record, columns: Sequence[Column]) -> Column:
    first, width = columns[0], record.value
    found: dict[int, list[Any]] = {}
    for column in columns:
        assert column.counts is not None
        position = 0
        for row, count in enumerate(column.counts):
            if count:
                values = column.events[position : position + count]
                found.setdefault(row, []).extend(zip(*(values[at::width] for at in range(width)), strict=True))
                position += count
    made, rank = _MADE[record]
    counts = [0] * first.size
    events: list[Any] = []
    for row in sorted(found):
        records = found[row]
        records.sort(key=rank)
        events += map(made, records)
        counts[row] = len(records)
    return Column(first.start, first.size, events, counts)


def _pair(record: tuple[Any, ...]) -> tuple[Any, Any]:
    return record[:2]


def _window(record: tuple[Any, ...]) -> Window[Any, Any]:
    return Window(*record[:4])


_MADE: dict[Record, tuple[Callable[[Any], Any], Any]] = {
    Record.RANKED: (_pair, itemgetter(2, 3)),
    Record.WINDOW: (_window, itemgetter(2, 4, 5)),
}
