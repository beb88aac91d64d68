"""Partitions of a stream: the column of one partition of the keys, and the partitions' results merged into one order.

Decides how `(key, time, event)` travel: flattened, one after the other, so that the codec sees plain values. The
merged order is that of numbers and indices, or of windows and keys inside one number, for any number of partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import chain, compress, pairwise, repeat
from operator import itemgetter
from typing import Any

from msgspec import Struct

from ..program.column import Column
from .windows import Window

#: `_PICK[p]` translates partition codes, one byte each, into a mask of those that equal `p`.
_PICK = tuple(bytes(1 if code == wanted else 0 for code in range(256)) for wanted in range(256))


class Partition(Struct, frozen=True):
    """One of `count` partitions; with more than one, the first input of its step has the partition codes of the keys."""

    index: int
    count: int


class Record(Enum):
    """The layout of a partition's results: the number of values per event, and what they become when merged."""

    PLAIN = 1  #: the event itself
    PAIR = 2  #: key, value
    RANKED = 4  #: key, value, and the (seq, index) of the key's first event
    WINDOW = 6  #: key, start, end, value, and the (seq, index) of the window's first event

    @property
    def ranked(self) -> bool:
        """Whether one number may have several results, which are ordered by rank."""
        return self in (Record.RANKED, Record.WINDOW)


def scaled(column: Column, old: int, new: int) -> tuple[list[int] | None, list[int] | None]:
    """Return counts and indices of a column whose events take `new` positions each instead of `old`."""
    counts, indices = column.counts, column.indices
    if old != new:
        if counts is None:
            counts = [new] * column.size
        else:
            counts = [count * new // old for count in counts]
        if indices is not None:
            indices = [index for index in indices[::old] for _ in range(new)]
    return counts, indices


def interleaved(columns: Sequence[list[Any]]) -> list[Any]:
    """Return equally long lists as one: the first value of each, then the second of each, and so on."""
    width = len(columns)
    if width == 1:
        return columns[0]
    flattened: list[Any] = [None] * (width * len(columns[0]))
    for at, values in enumerate(columns):
        flattened[at::width] = values
    return flattened


def partition_column(partition: Partition, columns: Sequence[Column]) -> Column:
    """Return the column of one partition: for each event with such a key, its values from all `columns`, flattened."""
    if partition.count == 1:
        first = columns[0]
        counts, indices = _explicit(first)
        flattened = Column(first.start, first.size, list(first.events), counts, indices)
        flattened.counts, flattened.indices = scaled(flattened, 1, len(columns))
        flattened.events = interleaved([column.events for column in columns])
        return flattened
    codes, *columns = columns
    first, width = columns[0], len(columns)
    picked = bytes(codes.events).translate(_PICK[partition.index])
    _, indices = _explicit(first)
    if indices is not None:
        indices = list(compress(indices, picked))
    flattened = Column(first.start, first.size, [], _counts(first, picked), indices)
    flattened.counts, flattened.indices = scaled(flattened, 1, width)
    flattened.events = interleaved([list(compress(column.events, picked)) for column in columns])
    return flattened


def _explicit(column: Column) -> tuple[list[int] | None, list[int] | None]:
    """Return counts, and indices where a number has several events, of which a partition may have only some."""
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


def merge_partitions(record: Record, columns: Sequence[Column]) -> Column:
    """Return the results of all partitions as one column in one order."""
    if record.ranked:
        return _by_rank(record, columns)
    width = record.value
    partitions = [_unflattened(column, width) for column in columns]
    if len(partitions) == 1:
        return partitions[0]
    if all(partition.indices is None and max(partition.counts or (1,), default=0) <= 1 for partition in partitions):
        return _by_number(partitions)
    return _by_index(partitions)


def _unflattened(column: Column, width: int) -> Column:
    """Return a flattened column with one event per result, pairs as tuples."""
    counts, indices = scaled(column, width, 1)
    if counts is not None and indices is None and min(counts, default=1) == 1 == max(counts, default=1):
        counts = None
    events = column.events
    if width > 1:
        events = list(zip(*(events[at::width] for at in range(width)), strict=True))
    return Column(column.start, column.size, events, counts, indices)


def _by_number(partitions: Sequence[Column]) -> Column:
    """Merge partitions in which a number has at most one event."""
    first = partitions[0]
    found: list[Any] = [_NONE] * first.size
    for partition in partitions:
        rows: Any = range(first.size)
        rows = rows if partition.counts is None else compress(rows, partition.counts)
        for row, event in zip(rows, partition.events, strict=True):
            found[row] = event
    if sum(len(partition.events) for partition in partitions) == first.size:
        return Column(first.start, first.size, found)
    there = [event is not _NONE for event in found]
    return Column(first.start, first.size, list(compress(found, there)), list(map(int, there)))


_NONE: Any = object()


def _rows(column: Column) -> Iterator[int]:
    if column.counts is None:
        return iter(range(column.size))
    return chain.from_iterable(map(repeat, range(column.size), column.counts))


def _by_index(partitions: Sequence[Column]) -> Column:
    first = partitions[0]
    found: list[tuple[int, int, Any]] = []
    for partition in partitions:
        found += zip(_rows(partition), partition.indices_or_counted(), partition.events, strict=True)
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
