"""Steps that remember: what a keeper is, whose turn it is while user code works on its state, saving and restoring.

A keeper takes the columns of one run of numbers, in the order of the numbers, and gives its output. Decides how a
failure inside it gets its name and what it leaves of the output. What keepers keep is in their own files.
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
from ..handlers import Recipe
from ..program.column import Column
from ..program.failures import USER_ERRORS, failure, user_frames, verdict_for
from ..program.program import Orders, Step, Tally
from ..program.steps import Copier
from .windows import MIXED

#: Values that nobody can change, so that a state and an output may be the same object.
FREE = frozenset(
    {int, float, str, bytes, bool, type(None), complex, date, datetime, time, timedelta, Decimal, Fraction, UUID}
)
MISSING: Any = object()


class Keeper(Protocol):
    """A step with a state. What it keeps can be taken and put back between two runs of numbers."""

    def take(self, columns: Sequence[Column], turns: Turns, end: int | None) -> Column:
        """Take the inputs of a run of numbers; `end` is the number at which the input ends, if it is one of them."""
        ...

    def live(self) -> int:
        """Give how many keys, or open windows, there are."""
        ...

    def snapshot(self) -> Any:
        """Give the state, to be pickled before the next `take`."""
        ...

    def restore(self, state: Any) -> None:
        """Take on a state that `snapshot` gave."""
        ...


class Turns:
    """Gives a keeper its events one by one, so that an exception, a death and `current()` have the event's name."""

    def __init__(
        self,
        step: Step,
        orders: Orders,
        copies: Copier,
        worker: int,
        mark: Callable[[int, int], None] | None,
    ) -> None:
        self.failures: list[Failure] = []
        self.late = 0
        self.forgotten = 0
        self._step = step
        self._orders = orders
        self._copies = copies
        self._worker = worker
        self._mark = mark
        self._column = Column(0, 0, [])
        self._events: Sequence[Any] = ()
        self._rest: Iterator[Any] = iter(())
        self._width = 1

    def over(self, column: Column, events: list[Any], width: int = 1) -> Iterator[Any]:
        """Give the `events` of a column that takes `width` places for each."""
        self._column, self._events, self._width = column, events, width
        self._rest = iter(events)
        return self._rest if self._mark is None and not self._orders.verdicts else self._marked()

    def _marked(self) -> Iterator[Any]:
        for event in self._rest:
            name = self.name()
            if self._mark is not None:
                self._mark(*name)
            decree = verdict_for(self._orders, self._step, name, event)
            if decree is not None:
                raise _Decreed(decree)
            yield event

    @property
    def position(self) -> int:
        """The place of the event that was given last."""
        return len(self._events) - length_hint(self._rest) - 1

    def name(self) -> tuple[int, int]:
        """Give `(seq, index)` of the event that was given last."""
        return self.name_at(self.position)

    def name_at(self, position: int) -> tuple[int, int]:
        """Give `(seq, index)` of the event at `position`."""
        seq, index = self._column.number_of(position * self._width)
        return seq, index if self._column.indices is not None else index // self._width

    def context(self) -> Context:
        """Give the context of the call that runs now."""
        return Context(*self.name(), self._step.node, 1, self._worker)

    def own(self, value: Any) -> Any:
        """Give a value that the state may go on with while `value` is on its way."""
        kind = type(value)
        if kind in FREE or (kind is tuple and FREE.issuperset(map(type, value))):
            return value
        return self._copies([value])[0]

    def failed(self, error: BaseException) -> None:
        """Take an exception for the failure of the event that was given last."""
        if isinstance(error, _Decreed):
            self.failures.append(error.decree)
            return
        at = self.position
        self.failures.append(failure(self._step, self.name_at(at), _plainly(error), 1, self._events[at]))

    def below(self, column: Column) -> Column:
        """Give the part of a column that a failure leaves."""
        if not self.failures:
            return column
        return column.slice(column.start, min(column.stop, *(failed.seq for failed in self.failures)))


class _Decreed(Exception):
    """The engine's word that an event is to be taken as failed, without a call."""

    def __init__(self, decree: Failure) -> None:
        super().__init__()
        self.decree = decree


def _plainly(error: BaseException) -> BaseException:
    """Say what is wrong where a function gave something else than a state and an output, or times are of two kinds."""
    at = error.__traceback__
    if isinstance(error, TypeError) and "offset-naive" in str(error) and user_frames(error) is None:
        return TypeError(MIXED)
    if isinstance(error, TypeError | ValueError) and at is not None and at.tb_next is None and (
        "unpack" in str(error)
    ):
        return TypeError("the function of a scan gives (state, output), this one gave something else")
    return error


def keep_state(
    keeper: Keeper, step: Step, inputs: Sequence[Column], orders: Orders, tally: Tally, turns: Turns
) -> Column:
    """Let a keeper take its inputs; gives its output and fills the tally. Failures are in `turns`."""
    first = inputs[0]
    end = orders.end if orders.end is not None and first.start <= orders.end < first.stop else None
    before = keeper.live()
    token = context_of_call.set(turns.context)
    started = perf_counter()
    try:
        output = keeper.take(inputs, turns, end)
    finally:
        context_of_call.reset(token)
    tally.seconds += perf_counter() - started
    tally.events_in += len(first.events) // step.width
    tally.events_out += len(output.events) // step.width_out
    tally.late += turns.late
    tally.forgotten += turns.forgotten
    tally.keys += keeper.live() - before
    return output


def free_copy(initial: Any) -> Any:
    """Give a key's own copy of an initial state."""
    return initial if type(initial) in FREE else copy.deepcopy(initial)


def function_name(fn: object) -> str:
    """Give the name of a node that is named by a function."""
    return str(getattr(fn, "__name__", type(fn).__name__))


def form_of(initial: object) -> str:
    """Give the form of a state that begins with `initial`: its type. Modules are not told, for scripts have two names."""
    return f"from {type(initial).__qualname__}"


class ScanRecipe(Recipe):
    """A scan over the whole stream: `fn(state, event)` gives the next state and the output."""

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
        return _Scan(self.fn, free_copy(self.initial))


class _Scan:
    def __init__(self, fn: Callable[[Any, Any], tuple[Any, Any]], state: Any) -> None:
        self._fn = fn
        self._state = state

    def take(self, columns: Sequence[Column], turns: Turns, end: int | None) -> Column:
        column = columns[0]
        results: list[Any] = []
        append, own, free = results.append, turns.own, FREE
        fn, state = self._fn, self._state
        try:
            for event in turns.over(column, column.events):
                state, output = fn(state, event)
                append(output if type(output) in free else own(output))
        except USER_ERRORS as error:
            turns.failed(error)
        self._state = state
        column = turns.below(column)
        return column.with_events(results[: len(column.events)])

    def live(self) -> int:
        return 0

    def snapshot(self) -> Any:
        return self._state

    def restore(self, state: Any) -> None:
        self._state = state


def is_stateful(handler: object) -> bool:
    """Tell whether a built handler can give its state and take it back."""
    return callable(getattr(handler, "snapshot", None)) and callable(getattr(handler, "restore", None))


class States:
    """The states of a program's built handlers, one for each that has one, in the order of the steps."""

    def __init__(self, handlers: Sequence[object]) -> None:
        self._keepers: list[Any] = [handler for handler in handlers if is_stateful(handler)]

    def __bool__(self) -> bool:
        return bool(self._keepers)

    def snapshot(self) -> list[Any]:
        """Give every state, to be pickled before the next run of numbers."""
        return [keeper.snapshot() for keeper in self._keepers]

    def restore(self, states: Sequence[Any]) -> None:
        """Take on the states that `snapshot` gave."""
        for keeper, state in zip(self._keepers, states, strict=True):
            keeper.restore(state)
