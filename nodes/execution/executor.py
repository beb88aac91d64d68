"""Runs a program over a run of numbers, step by step, in this thread: the hot path of every worker.

Decides how a handler is called for a whole column (one C loop), which event an exception belongs to, and when to retry.
Failures are exact at full speed: a list iterator knows how far it was read, so no counter runs beside the calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, repeat
from operator import length_hint
from sys import getrefcount
from time import perf_counter
from typing import Any

from ..events import Context, Failure, context_of_call
from ..ownership.ownership import Copier, Ownership, is_alone
from ..program.column import Column
from ..program.failures import USER_ERRORS, failure, verdict_for
from ..program.program import NO_ORDERS, Answer, Orders, Program, Step, Tally
from ..program.retries import may_retry
from ..program.steps import FAILED, checked_batch, result_rule, shape
from ..state.key_steps import Check, Checked
from ..state.stateful import EventCursor, States, run_stateful
from .batch_split import BatchSplitter, count_started
from .kept_steps import KeptSteps, ends_run, join_given
from .monitor import Monitor, NoMonitor
from .program_run import ProgramRun
from .retry_log import log_retry

#: A handler at least this slow is reported call by call: a report costs less than a twentieth of it.
WATCH_FROM_S = 2e-6


class Executor:
    """Runs one program with its built handlers (one callable per step, `None` for joins)."""

    def __init__(
        self,
        program: Program,
        handlers: Sequence[Callable[..., Any] | None],
        copies: Copier,
        *,
        worker: int = 0,
        monitor: Monitor | None = None,
        watch: bool = False,
        splitter: BatchSplitter | None = None,
        kept: KeptSteps | None = None,
    ) -> None:
        self._kept = kept
        self._program = program
        self._handlers = handlers
        self._copies = copies
        self._owner = Ownership(copies, "the handler gave", files=True)
        self._parts_owner = Ownership(copies, "the handler gave")
        self._worker = worker
        self._monitor: Monitor = monitor if monitor is not None else NoMonitor()
        self._watched = [watch or step.options.timeout_s is not None for step in program.steps]
        self._may_watch = monitor is not None
        self._current = _CurrentCall(worker)
        self._splitter = splitter
        #: Events that a split removed from the first step of the last run, and that the other thread has not taken.
        self.removed: list[Any] = []
        #: The states of the steps, to be saved and restored.
        self.states = States(handlers)

    def run(self, ports: Sequence[Column], orders: Orders = NO_ORDERS) -> Answer:
        """Run every step over `ports`, columns of the same run of numbers, and return the answer.

        It ends early where the batch of its first step was split.
        """
        run = ProgramRun(self._program, self._handlers, ports, self._copies)
        self.removed = []
        for number, step, inputs, tally in run.calls():
            if step.kind.traits.stateful:
                run.put(step, *self._run_stateful(number, step, inputs, orders, tally))
            elif self._kept is not None and step.options.durable and orders.end is None:
                run.put(step, *self._run_kept(self._kept, run.failed, number, step, inputs[0], orders, tally))
            else:
                splittable = number == 0 and len(ports) == 1 and step.kind.traits.event_by_event and inputs[0].counts is None
                call = _Call(self, number, step, inputs[0], orders, tally, self._splitter if splittable else None)
                run.put(step, call.run(), call.failures)
                if call.stop < inputs[0].stop:
                    run.shorten(call.stop)
        return run.answer()

    def _run_kept(
        self, kept: KeptSteps, failed: set[int], number: int, step: Step, column: Column, orders: Orders, tally: Tally
    ) -> tuple[Column, list[Failure]]:
        """Run a durable step."""
        given = []
        for piece in kept.pieces(step, column, failed, whole=False):
            if piece.recalled is not None:
                given.append(piece.recalled)
                continue
            call = _Call(self, number, step, piece.column, orders, tally, None)
            given.append(kept.keep(step, piece, (call.run(), call.failures)))
            if ends_run(given[-1]):
                break
        return join_given(given, column)

    def _run_stateful(
        self, number: int, step: Step, inputs: list[Column], orders: Orders, tally: Tally
    ) -> tuple[Column, list[Failure]]:
        """Run a stateful step."""
        handler: Any = self._handlers[number]
        watched = orders.careful or self._watched[number]
        report = partial(self._monitor.event, number) if watched else None
        if report is None:
            self._monitor.batch(number, inputs[0].start, inputs[0].size)
        cursor = EventCursor(step, orders, self._copies, self._worker, report)
        output = run_stateful(handler, step, inputs, orders, tally, cursor)
        if self._may_watch and tally.events_in:
            self._watched[number] = tally.seconds / tally.events_in >= WATCH_FROM_S
        return output, cursor.failures


class _CurrentCall:
    """Knows the context of the running call, computed only when a handler asks."""

    def __init__(self, worker: int) -> None:
        self.worker = worker
        self.attempt = 1  #: of those in this worker
        self.orders = NO_ORDERS
        self.node = ""
        self.column: Column = Column(0, 0, [])
        self.rest: Iterator[Any] = iter(())
        self.fixed: int | None = None

    def forget(self) -> None:
        """Keep nothing of what was handled."""
        self.column, self.rest = Column(0, 0, []), iter(())

    def position(self) -> int:
        if self.fixed is not None:
            return self.fixed
        return count_started(self.column.events, self.rest) - 1

    def context(self) -> Context:
        seq, index = self.column.number_of(self.position())
        call = self.node, seq, index
        earlier = self.orders.used.get(call, 0) + self.orders.deaths_of(call)
        return Context(seq, index, self.node, earlier + self.attempt, self.worker)


class _Call:
    """One step over one column."""

    def __init__(
        self,
        executor: Executor,
        number: int,
        step: Step,
        column: Column,
        orders: Orders,
        tally: Tally,
        splitter: BatchSplitter | None,
    ) -> None:
        self.failures: list[Failure] = []
        self.end_at = self.stop = column.stop
        self._splitter = splitter
        self._executor = executor
        self._number = number
        self._step = step
        self._column = column
        self._orders = orders
        self._tally = tally
        self._monitor = executor._monitor
        handler = executor._handlers[number]
        assert handler is not None
        self._check: Check | None = None
        if isinstance(handler, Checked):
            self._check, handler = handler.check, handler.fn
        self._handler = handler
        self._owner = executor._parts_owner if step.kind.traits.multiplies else executor._owner
        self._take = result_rule(step.kind).take
        self._call_one = _function_of_one(step, handler, self._owner)
        self._originals: list[Any] | None = None

    def run(self) -> Column:
        column, step = self._column, self._step
        if step.options.keeps_original and column.events:
            # A copy made before the first call; the handlers get the events themselves.
            self._originals = self._executor._copies(column.events)
        token = context_of_call.set(self._executor._current.context)
        started = perf_counter()
        try:
            results = self._batched() if step.kind.traits.takes_lists else self._each()
        finally:
            context_of_call.reset(token)
            self._executor._current.forget()
        removed = self._splitter.finish(len(results)) if self._splitter is not None else []
        self._measure(perf_counter() - started, len(results))
        if len(results) < column.size and self.end_at == column.stop and self._splitter is not None:
            self._executor.removed = removed
            column = self._column = Column(column.start, len(results), column.events)
            self.end_at = self.stop = column.stop
        if self.end_at < column.stop:
            column = column.slice(column.start, self.end_at)
            del results[len(column.events) :]
        if self._check is not None and (wrong := self._check(results)) is not None:
            at, error = wrong
            self._fail(failure(step, column.number_of(at), error, 1, column.events[at]))
            column = column.slice(column.start, self.end_at)
            del results[len(column.events) :]
        return shape(step, column, results, results.count(FAILED) if self.failures else 0, self._tally)

    def _measure(self, seconds: float, events: int) -> None:
        self._tally.seconds += seconds
        if self._executor._may_watch and events and self._step.options.timeout_s is None:
            self._executor._watched[self._number] = seconds / events >= WATCH_FROM_S

    def _each(self) -> list[Any]:
        """Call the handler for every event; a failed event leaves `FAILED` in its place."""
        events = self._column.events
        rest = iter(events)
        self._point_at(rest, None)
        if self._splitter is not None:
            self._splitter.watch(events, rest)
        self._owner.expect_inputs(events)
        results: list[Any] = []
        watched = self._orders.careful or self._executor._watched[self._number]
        if not watched:
            self._monitor.batch(self._number, self._column.start, self._column.size)
        has_verdicts = any(call[0] == self._step.node for call in self._orders.verdicts)
        while len(results) < len(events):
            source = self._reported(rest) if watched else rest
            raised: BaseException | None = None
            try:
                if has_verdicts:
                    self._with_verdicts(source, results)
                else:
                    results.extend(self._take(self._owner, map(self._handler, source), partial(_inputs, events, rest)))
            except USER_ERRORS as error:
                raised = error
            # Retried outside the except clause, so that the error of a retry does not have the first one as its context.
            if raised is None and len(results) < len(events) and self.end_at == self._column.stop:
                raised = RuntimeError("the handler raised StopIteration")
            if raised is not None:
                if self._splitter is not None:
                    self._splitter.restore(len(results) + 1)
                results.append(self._retry(len(results), raised))
                if not watched:
                    self._monitor.batch(self._number, self._column.start, self._column.size)
            if self.end_at < self._column.stop:
                break
        if watched:  # an error raised while the events are freed is not the last event's fault
            self._monitor.batch(self._number, self._column.start, self._column.size)
        return results

    def _reported(self, rest: Iterator[Any]) -> Iterator[Any]:
        report, column, number = self._monitor.event, self._column, self._number
        position = count_started(column.events, rest)
        # No variable keeps an event, so that its references tell who has it. A split leaves the one that is next.
        while length_hint(rest):
            if column.counts is None:
                report(number, column.start + position, 0)
            else:
                report(number, *column.number_of(position))
            position += 1
            yield next(rest)

    def _with_verdicts(self, events: Iterator[Any], results: list[Any]) -> None:
        """Call for the events one by one, except for those that a verdict makes failures."""
        for event in events:
            position = len(results)
            refused = verdict_for(self._orders, self._step, self._column.number_of(position), event)
            results.append(self._call_one(event) if refused is None else self._fail(refused))
            if self.end_at < self._column.stop:
                return

    def _point_at(self, rest: Iterator[Any], fixed: int | None) -> None:
        current = self._executor._current
        current.node, current.attempt, current.orders = self._step.node, 1, self._orders
        current.column, current.rest, current.fixed = self._column, rest, fixed

    def _retry(self, position: int, error: BaseException) -> Any:
        """Retry the event at `position`, which raised `error`, as often as allowed; return its result or `FAILED`."""
        step, current = self._step, self._executor._current
        name = self._column.number_of(position)
        used = self._orders.used.get((step.node, *name), 0)
        attempts = 1 + used
        while may_retry(step.options, attempts, type(error)):
            attempts += 1
            current.attempt = attempts - used
            self._tally.retries += 1
            log_retry(step, name, error, attempts)
            self._monitor.event(self._number, *name)
            try:
                result = self._call_one(self._original(position))
            except USER_ERRORS as again:
                error = again
            else:
                current.attempt = 1
                return result
        current.attempt = 1
        event = self._original(position) if step.options.keeps_original else self._column.events[position]
        return self._fail(failure(step, name, error, attempts, event))

    def _fail(self, failed: Failure) -> Any:
        self.failures.append(failed)
        if failed.on_error == "fail":
            self.end_at = failed.seq
        return FAILED

    def _original(self, position: int) -> Any:
        assert self._originals is not None
        return self._executor._copies([self._originals[position]])[0]

    def _batched(self) -> list[Any]:
        """Call a map_batches handler with lists; a list that fails is run again event by event."""
        column, size = self._column, self._step.options.batch_size
        events = column.events
        size = size if size is not None else max(1, len(events))
        results: list[Any] = []
        for lo in range(0, len(events), size):
            batch = events[lo : lo + size]
            first = column.number_of(lo)
            self._monitor.batch(self._number, first[0], column.number_of(lo + len(batch) - 1)[0] - first[0] + 1)
            results += self._call_with_list(lo, batch)
            if self.end_at < column.stop:
                break
        return results

    def _call_with_list(self, lo: int, batch: list[Any]) -> Sequence[Any]:
        careful = self._orders.careful or bool(self._orders.verdicts)
        if not careful and len(batch) > 1:
            self._point_at(iter(()), lo)
            again = list(self._executor._copies(batch))  # the handler may change its list
            try:
                held = self._owner.inputs_held(batch)
                before = getrefcount(batch)
                given = self._handler(batch)
                alone = getrefcount(batch) <= before + 1 if given is batch else is_alone(given)
                return checked_batch(self._step, given, len(again), self._owner, alone=alone, held=held)
            except USER_ERRORS:  # which event it was is found one by one below
                batch = again
        results: list[Any] = []
        for offset, event in enumerate(batch):
            results.append(self._call_alone(lo + offset, event))
            if self.end_at < self._column.stop:
                break
        return results

    def _call_alone(self, position: int, event: Any) -> Any:
        column = self._column
        name = column.number_of(position)
        refused = verdict_for(self._orders, self._step, name, event)
        if refused is not None:
            return self._fail(refused)
        self._point_at(iter(()), position)
        self._monitor.event(self._number, *name)
        try:
            return self._call_one(event)
        except USER_ERRORS as error:
            raised = error
        return self._retry(position, raised)


def _inputs(events: list[Any], rest: Iterator[Any], before: int) -> Iterator[Any]:
    """Return the events from `before` events before that which `rest` yields next; `None` for those that a split has removed."""
    again: Any = iter(events)
    again.__setstate__(count_started(events, rest) - before)
    return chain(again, repeat(None))


def _function_of_one(step: Step, handler: Callable[..., Any], owner: Ownership) -> Callable[[Any], Any]:
    """Return the handler as a function from one event to its result."""
    if step.kind.traits.takes_lists:
        return lambda event: checked_batch(step, handler([event]), 1, owner, alone=False)[0]
    take = result_rule(step.kind).take
    return lambda event: next(take(owner, map(handler, (event,)), lambda before: repeat(event)))
