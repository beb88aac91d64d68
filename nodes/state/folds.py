"""State for each key: scans, reductions and counts, and how idle keys are forgotten.

Decides what a key's state is after each event. With a time to live, a key is forgotten at its first event after it was
idle for longer, by the watermark of the number before; so it does not matter when its memory is freed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, compress, repeat
from typing import Any

from ..handlers import Recipe
from ..program.column import Column
from ..program.failures import USER_ERRORS
from .partitions import Record, interleaved, scaled
from .stateful import IMMUTABLE, MISSING, EventCursor, form_of, fresh_state, function_name


class FoldRecipe(Recipe):
    """What a keyed step does with a key's state: `kind` is "scan", "reduce" or "count"."""

    def __init__(
        self, kind: str, fn: Callable[..., Any] | None = None, initial: Any = None, *, final: bool = False
    ) -> None:
        self.kind = kind
        self.fn = fn
        self.initial = initial
        self.final = final
        self.ttl: Any = None

    @property
    def __name__(self) -> str:
        return self.kind if self.fn is None else function_name(self.fn)

    @property
    def form(self) -> str:
        if self.kind == "scan":
            return form_of(self.initial)
        return "final" if self.final else ""

    @property
    def record(self) -> Record:
        """The layout in which its results are flattened."""
        if self.kind == "scan":
            return Record.PLAIN
        return Record.RANKED if self.final else Record.PAIR

    def with_ttl(self, ttl: Any) -> FoldRecipe:
        """Return the same fold with a time to live, in ticks."""
        made = FoldRecipe(self.kind, self.fn, self.initial, final=self.final)
        made.ttl = ttl
        return made

    def make(self) -> Any:
        return _MAKERS[self.kind](self)


class _Fold:
    """The states of the keys of one partition."""

    def __init__(self, recipe: FoldRecipe) -> None:
        self._fn: Any = recipe.fn
        self._initial = recipe.initial
        self._final = recipe.final
        self._ttl = recipe.ttl
        self._record = recipe.record
        self._has_event = recipe.kind != "count"
        self._width = 1 + self._has_event + (recipe.ttl is not None)
        self._values: dict[Any, Any] = Counter() if recipe.kind == "count" and recipe.final else {}
        self._firsts: dict[Any, tuple[int, int]] = {}
        self._lasts: dict[Any, Any] = {}
        self._mark: Any = None
        self._swept: Any = None

    def size(self) -> int:
        return len(self._values)

    def snapshot(self) -> Any:
        return self._values, self._firsts, self._lasts, self._mark, self._swept

    def restore(self, state: Any) -> None:
        self._values, self._firsts, self._lasts, self._mark, self._swept = state

    def process(self, columns: Sequence[Column], cursor: EventCursor, end: int | None) -> Column:
        column, width = columns[0], self._width
        flattened = column.events
        keys = flattened if width == 1 else flattened[::width]
        events = flattened[width - 1 :: width] if self._has_event else keys
        results: list[Any] = []
        rest = cursor.iterate(column, events, width)
        try:
            if self._ttl is None:
                self._run(keys, 0, rest, results, cursor)
            else:
                self._run_with_ttl(keys, self._idle(column, columns[1], keys, flattened[1::width]), rest, results, cursor)
        except USER_ERRORS as error:
            cursor.record_failure(error)
        ended = end is not None and not cursor.failures
        if self._ttl is not None and not cursor.failures:
            self._sweep(cursor, always=ended)
        return self._output(cursor.before_failure(column), keys, results, end if ended else None)

    def _output(self, column: Column, keys: list[Any], results: list[Any], end: int | None) -> Column:
        if self._final:
            given: list[Any] = []
            counts = [0] * column.size
            if end is not None:
                for key, value in self._values.items():
                    given += (key, value, *self._firsts[key])
                counts[end - column.start] = len(given)
            return Column(column.start, column.size, given, counts)
        kept = len(column.events) // self._width
        if self._record is Record.PLAIN:
            flattened = results[:kept]
        else:
            flattened = interleaved([keys[:kept], results[:kept]])
        return Column(column.start, column.size, flattened, *scaled(column, self._width, self._record.value))

    # -- states -------------------------------------------------------------------------------------------------

    def _run(self, keys: list[Any], first: int, rest: Iterator[Any], results: list[Any], cursor: EventCursor) -> None:
        """Fold the events whose keys are `keys`; the first of them is at position `first`."""
        self._fold(keys, rest, results, cursor)
        if self._final and len(self._firsts) != len(self._values):
            for key, at in dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True)).items():
                if key not in self._firsts:
                    self._firsts[key] = cursor.name_at(first + at)

    def _fold(self, keys: list[Any], rest: Iterator[Any], results: list[Any], cursor: EventCursor) -> None:
        raise NotImplementedError

    # -- keys that are forgotten --------------------------------------------------------------------------------

    def _run_with_ttl(
        self, keys: list[Any], idle: list[int], rest: Iterator[Any], results: list[Any], cursor: EventCursor
    ) -> None:
        start = 0
        for at in idle:
            self._run(keys[start:at], start, rest, results, cursor)
            self._forget(keys[at])
            cursor.forgotten += 1
            start = at
        self._run(keys[start:], start, rest, results, cursor)

    def _idle(self, column: Column, clock: Column, keys: list[Any], times: list[Any]) -> list[int]:
        """Return the positions of the events whose key was idle for longer than the time to live."""
        before, self._mark = _marks_before(clock, self._mark)
        if column.counts is not None:
            width = self._width
            if max(column.counts, default=0) <= width:
                before = list(compress(before, column.counts))
            else:
                before = list(chain.from_iterable(map(repeat, before, [count // width for count in column.counts])))
        found, lasts, ttl = [], self._lasts, self._ttl
        for at, (key, time, mark) in enumerate(zip(keys, times, before, strict=True)):
            last = lasts.get(key)
            if last is None:
                lasts[key] = time
            elif mark is not None and mark - last > ttl:
                found.append(at)
                lasts[key] = time
            elif time > last:
                lasts[key] = time
        return found

    def _forget(self, key: Any) -> None:
        del self._values[key]
        self._firsts.pop(key, None)

    def _sweep(self, cursor: EventCursor, *, always: bool) -> None:
        """Forget idle keys from time to time; this only changes how much memory is used."""
        mark, ttl = self._mark, self._ttl
        if mark is None or not (always or self._swept is None or 2 * (mark - self._swept) > ttl):
            return
        self._swept = mark
        for key in [key for key, last in self._lasts.items() if mark - last > ttl]:
            self._forget(key)
            del self._lasts[key]
            cursor.forgotten += 1


def _marks_before(clock: Column, mark: Any) -> tuple[list[Any], Any]:
    """Return the watermark before each number, and the one after the last."""
    before = []
    values = iter(clock.events)
    for count in clock.counts if clock.counts is not None else repeat(1, clock.size):
        before.append(mark)
        if count:
            mark = next(values)
    return before, mark


class _KeyedScan(_Fold):
    def _fold(self, keys: list[Any], rest: Iterator[Any], results: list[Any], cursor: EventCursor) -> None:
        fn, values, initial = self._fn, self._values, self._initial
        get, append, own, immutable = values.get, results.append, cursor.own_copy, IMMUTABLE
        for key, event in zip(keys, rest, strict=False):
            state = get(key, MISSING)
            if state is MISSING:
                state = fresh_state(initial)
            values[key], output = fn(state, event)
            append(output if type(output) in immutable else own(output))


class _Reduce(_Fold):
    def _fold(self, keys: list[Any], rest: Iterator[Any], results: list[Any], cursor: EventCursor) -> None:
        fn, values, final = self._fn, self._values, self._final
        get, append, own, immutable = values.get, results.append, cursor.own_copy, IMMUTABLE
        for key, event in zip(keys, rest, strict=False):
            value = get(key, MISSING)
            value = values[key] = event if value is MISSING else fn(value, event)
            if not final:
                append(value if type(value) in immutable else own(value))


class _Count(_Fold):
    def _fold(self, keys: list[Any], rest: Iterator[Any], results: list[Any], cursor: EventCursor) -> None:
        if self._final:
            self._values.update(keys)  # a Counter: it counts in C
            return
        values, append = self._values, results.append
        get = values.get
        for key in keys:
            count = values[key] = get(key, 0) + 1
            append(count)


_MAKERS: dict[str, Callable[[FoldRecipe], _Fold]] = {"scan": _KeyedScan, "reduce": _Reduce, "count": _Count}
