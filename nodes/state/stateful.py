"""Stateful steps: their protocol, the attribution of failures to events, snapshots of states.

A stateful step processes the columns of one run of numbers, in the order of the numbers. Decides which event a failure
inside it belongs to and how much of the output remains. What the states hold is in the files of the steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from operator import length_hint
from time import perf_counter
from typing import Any, Protocol
from uuid import UUID

from ..events import Context, Failure, context_of_call
from ..given import refuse_unrun
from ..handlers import Recipe
from ..ownership.ownership import Copier
from ..program.column import Column
from ..program.failures import USER_ERRORS, failure, verdict_for
from ..program.program import Orders, Step, Tally

#: Types whose values cannot change, so a state and an output may be the same object.
IMMUTABLE = frozenset(
    {int, float, str, bytes, bool, type(None), complex, date, datetime, time, timedelta, Decimal, Fraction, UUID}
)
MISSING: Any = object()


class StatefulStep(Protocol):
    """A step with a state, which can be saved and restored between two runs of numbers."""

    def process(self, columns: Sequence[Column], cursor: EventCursor, end: int | None) -> Column:
        """Return the output for a run of numbers; `end` is the number at which the input ends, if it is one of them."""
        ...

    def size(self) -> int:
        """Return the number of keys, or of open windows."""
        ...

    def snapshot(self) -> Any:
        """Return the state, to be pickled before the next `process`."""
        ...

    def restore(self, state: Any) -> None:
        """Replace the state by one that `snapshot` returned."""
        ...


class EventCursor:
    """Yields the events of a stateful step one by one and knows which one is being handled.

    So an exception, a death and `current()` are attributed to the right event.
    """

    def __init__(
        self,
        step: Step,
        orders: Orders,
        copies: Copier,
        worker: int,
        report: Callable[[int, int], None] | None,
    ) -> None:
        self.failures: list[Failure] = []
        self.late = 0
        self.forgotten = 0
        self._step = step
        self._orders = orders
        self._copies = copies
        self._worker = worker
        self._report = report
        self._column = Column(0, 0, [])
        self._events: Sequence[Any] = ()
        self._rest: Iterator[Any] = iter(())
        self._width = 1

    def iterate(self, column: Column, events: list[Any], width: int = 1) -> Iterator[Any]:
        """Return an iterator over `events`, each of which takes `width` positions in `column`."""
        self._column, self._events, self._width = column, events, width
        self._rest = iter(events)
        return self._rest if self._report is None and not self._orders.verdicts else self._reported()

    def _reported(self) -> Iterator[Any]:
        for event in self._rest:
            name = self.name()
            if self._report is not None:
                self._report(*name)
            failed = verdict_for(self._orders, self._step, name, event)
            if failed is not None:
                raise _VerdictFailure(failed)
            yield event

    @property
    def position(self) -> int:
        """The position of the event that was yielded last."""
        return len(self._events) - length_hint(self._rest) - 1

    def name(self) -> tuple[int, int]:
        """Return `(seq, index)` of the event that was yielded last."""
        return self.name_at(self.position)

    def name_at(self, position: int) -> tuple[int, int]:
        """Return `(seq, index)` of the event at `position`."""
        seq, index = self._column.number_of(position * self._width)
        return seq, index if self._column.indices is not None else index // self._width

    def context(self) -> Context:
        """Return the context of the running call."""
        name = self.name()
        return Context(*name, self._step.node, 1 + self._orders.deaths_of((self._step.node, *name)), self._worker)

    def own_copy(self, value: Any) -> Any:
        """Return a copy of an output that later changes of the state leave alone; an immutable value as it is."""
        kind = type(value)
        if kind in IMMUTABLE or (kind is tuple and IMMUTABLE.issuperset(map(type, value))):
            return value
        refuse_unrun(value, "the function", "give the value itself")
        return self._copies([value])[0]

    def record_failure(self, error: BaseException) -> None:
        """Record an exception as the failure of the event that was yielded last."""
        if isinstance(error, _VerdictFailure):
            self.failures.append(error.failure)
            return
        at = self.position
        self.failures.append(failure(self._step, self.name_at(at), _explained(error), 1, self._events[at]))

    def before_failure(self, column: Column) -> Column:
        """Return the numbers of a column below the first failure."""
        if not self.failures:
            return column
        return column.slice(column.start, min(column.stop, *(failed.seq for failed in self.failures)))


class _VerdictFailure(Exception):
    """Raised in place of a call, for an event that the engine has decided to count as failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self.failure = failure


def _explained(error: BaseException) -> BaseException:
    """Return a clearer error where a function did not return a state and an output."""
    at = error.__traceback__
    if isinstance(error, TypeError | ValueError) and at is not None and at.tb_next is None and (
        "unpack" in str(error)
    ):
        return TypeError("the function of a scan gives (state, output), this one gave something else")
    return error


def run_stateful(
    handler: StatefulStep, step: Step, inputs: Sequence[Column], orders: Orders, tally: Tally, cursor: EventCursor
) -> Column:
    """Return the output of a stateful step and fill its tally; its failures are in `cursor`."""
    first = inputs[0]
    end = orders.end if orders.end is not None and first.start <= orders.end < first.stop else None
    before = handler.size()
    token = context_of_call.set(cursor.context)
    started = perf_counter()
    try:
        output = handler.process(inputs, cursor, end)
    finally:
        context_of_call.reset(token)
    tally.seconds += perf_counter() - started
    tally.events_in += len(first.events) // step.width
    tally.events_out += len(output.events) // step.width_out
    tally.late += cursor.late
    tally.forgotten += cursor.forgotten
    tally.keys += handler.size() - before
    return output


def fresh_state(initial: Any) -> Any:
    """Return an independent copy of an initial state."""
    return initial if type(initial) in IMMUTABLE else copy.deepcopy(initial)


def function_name(fn: object) -> str:
    """Return the name of a node that is named by a function."""
    return str(getattr(fn, "__name__", type(fn).__name__))


def form_of(initial: object) -> str:
    """Return the form of a state that begins with `initial`: its type, without its module (a script has two names)."""
    return f"from {type(initial).__qualname__}"


class ScanRecipe(Recipe):
    """A scan over the whole stream: `fn(state, event)` returns the next state and the output."""

    def __init__(self, fn: Callable[[Any, Any], tuple[Any, Any]], initial: Any) -> None:
        self.fn = fn
        self.initial = initial

    @property
    def __name__(self) -> str:
        return function_name(self.fn)

    @property
    def form(self) -> str:
        return form_of(self.initial)

    def make(self) -> Any:
        return _Scan(self.fn, fresh_state(self.initial))


class _Scan:
    def __init__(self, fn: Callable[[Any, Any], tuple[Any, Any]], state: Any) -> None:
        self._fn = fn
        self._state = state

    def process(self, columns: Sequence[Column], cursor: EventCursor, end: int | None) -> Column:
        column = columns[0]
        results: list[Any] = []
        append, own, immutable = results.append, cursor.own_copy, IMMUTABLE
        fn, state = self._fn, self._state
        try:
            for event in cursor.iterate(column, column.events):
                state, output = fn(state, event)
                append(output if type(output) in immutable else own(output))
        except USER_ERRORS as error:
            cursor.record_failure(error)
        self._state = state
        column = cursor.before_failure(column)
        return column.with_events(results[: len(column.events)])

    def size(self) -> int:
        return 0

    def snapshot(self) -> Any:
        return self._state

    def restore(self, state: Any) -> None:
        self._state = state


def is_stateful(handler: object) -> bool:
    """Return whether the state of a built handler can be saved and restored."""
    return callable(getattr(handler, "snapshot", None)) and callable(getattr(handler, "restore", None))


class States:
    """The states of a program's built handlers, one for each that has one, in the order of the steps."""

    def __init__(self, handlers: Sequence[object]) -> None:
        self._handlers: list[Any] = [handler for handler in handlers if is_stateful(handler)]

    def __bool__(self) -> bool:
        return bool(self._handlers)

    def snapshot(self) -> list[Any]:
        """Return every state, to be pickled before the next run of numbers."""
        return [handler.snapshot() for handler in self._handlers]

    def restore(self, states: Sequence[Any]) -> None:
        """Replace the states by those that `snapshot` returned."""
        for handler, state in zip(self._handlers, states, strict=True):
            handler.restore(state)
