"""Runs a program number by number in an event loop: for async handlers, and for retries that pause.

Decides how many calls run at once, and that a number waiting for its retry does not count as one of them. The rules
for results, failures and verdicts are those of `nodes.program`, so the results equal those of the column executor.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, Callable, Iterator, Sequence
from functools import partial
from itertools import repeat
from sys import getrefcount
from time import perf_counter
from typing import Any

from ..errors import HandlerTimeout
from ..events import Context, Failure, context_of_call
from ..ownership.ownership import Copier, Ownership
from ..program.column import Column
from ..program.failures import USER_ERRORS, failure, verdict_for
from ..program.program import NO_ORDERS, Answer, Orders, Program, Step, Tally
from ..program.retries import TIMED_OUT, may_retry
from ..program.steps import FAILED, checked_batch, collect_async, join_answers, result_rule, shape
from ..state.stateful import EventCursor, States, run_stateful
from .kept_steps import KeptSteps, ends_run, join_given
from .monitor import Monitor, NoMonitor
from .program_run import ProgramRun
from .retry_log import log_retry

#: The longest pause between two attempts, in seconds.
MAX_BACKOFF_S = 60.0


def backoff(step: Step, attempts: int) -> float:
    """Return the pause in seconds before the next attempt: doubled with every attempt made, at most a minute."""
    if step.options.backoff_s <= 0:
        return 0.0
    return float(min(MAX_BACKOFF_S, step.options.backoff_s * 2.0 ** min(attempts - 1, 30)))


class AsyncExecutor:
    """Runs one program with its built handlers inside a running event loop.

    With `ordered` it handles one number at a time, in the order of the numbers. `is_ending` says whether the engine has
    cancelled what still runs; any other cancellation is the handler's own.
    """

    def __init__(
        self,
        program: Program,
        handlers: Sequence[Callable[..., Any] | None],
        copies: Copier,
        *,
        worker: int = 0,
        monitor: Monitor | None = None,
        ordered: bool = False,
        is_ending: Callable[[], bool] = lambda: False,
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
        self._slots = [asyncio.Semaphore(1 if ordered else step.options.concurrency) for step in program.steps]
        self._ordered = ordered
        self._is_ending = is_ending
        #: The states of the steps, to be saved and restored.
        self.states = States(handlers)
        #: How many numbers wait for a retry now; they do not count as load.
        self.waiting = 0

    async def run(self, ports: Sequence[Column], orders: Orders = NO_ORDERS) -> Answer:
        """Run every step over `ports`, columns of the same run of numbers, and return the answer for all of them.

        A handler of lists gets the events of the whole run; the others are called number by number.
        """
        start, stop = ports[0].start, ports[0].stop
        if stop - start == 1 or self._program.takes_lists:
            return await self._unit(ports, orders)
        units = [self._unit([port.slice(n, n + 1) for port in ports], orders) for n in range(start, stop)]
        if self._ordered:
            answers = []
            for n, unit in enumerate(units):
                answers.append(await unit)
                if any(f.on_error == "fail" for f in answers[-1].failures):
                    for left in units[n + 1 :]:
                        left.close()
                    break
        else:
            answers = await asyncio.gather(*units)
        return join_answers(answers)

    async def _unit(self, ports: Sequence[Column], orders: Orders) -> Answer:
        run = ProgramRun(self._program, self._handlers, ports, self._copies)
        for number, step, inputs, tally in run.calls():
            if step.kind.traits.stateful:
                run.put(step, *self._run_stateful(number, step, inputs, orders, tally))
            elif self._kept is not None and step.options.durable and orders.end is None:
                run.put(step, *await self._run_kept(self._kept, run.failed, number, step, inputs[0], orders, tally))
            else:
                run.put(step, *await self._step(number, step, inputs[0], orders, tally))
        return run.answer()

    async def _run_kept(
        self, kept: KeptSteps, failed: set[int], number: int, step: Step, column: Column, orders: Orders, tally: Tally
    ) -> tuple[Column, list[Failure]]:
        """Run a durable step."""
        given = []
        for piece in kept.pieces(step, column, failed, whole=True):
            if piece.recalled is not None:
                given.append(piece.recalled)
                continue
            given.append(kept.keep(step, piece, await self._step(number, step, piece.column, orders, tally)))
            if ends_run(given[-1]):
                break
        return join_given(given, column)

    def _run_stateful(
        self, number: int, step: Step, inputs: list[Column], orders: Orders, tally: Tally
    ) -> tuple[Column, list[Failure]]:
        """Run a stateful step, which never awaits."""
        handler: Any = self._handlers[number]
        cursor = EventCursor(step, orders, self._copies, self._worker, partial(self._monitor.event, number))
        output = run_stateful(handler, step, inputs, orders, tally, cursor)
        if inputs[0].events:
            self._monitor.many(number, inputs[0].start, 0)
        return output, cursor.failures

    async def _step(
        self, number: int, step: Step, column: Column, orders: Orders, tally: Tally
    ) -> tuple[Column, list[Failure]]:
        events, names = column.events, column.numbers()
        if step.kind.traits.takes_lists:
            size = step.options.batch_size or max(1, len(events))
            calls = [
                self._call_with_list(number, step, names[lo : lo + size], events[lo : lo + size], orders, tally)
                for lo in range(0, len(events), size)
            ]
            given = [result for part in await self._gather(calls, orders.careful) for result in part]
        else:
            given = await self._gather(
                [self._call(number, step, name, event, orders, tally) for name, event in zip(names, events, strict=True)],
                orders.careful,
            )
        failed = [result for result in given if isinstance(result, Failure)]
        fatal = [f.seq for f in failed if f.on_error == "fail"]
        if fatal:
            column = column.slice(column.start, min(fatal))
            failed = [f for f in failed if f.seq <= min(fatal)]
        results = [FAILED if isinstance(result, Failure) else result[0] for result in given[: len(column.events)]]
        return shape(step, column, results, results.count(FAILED) if failed else 0, tally), failed

    async def _gather(self, calls: list[Any], careful: bool) -> list[Any]:
        if len(calls) == 1:
            return [await calls[0]]
        if self._ordered or careful:  # one by one, so that a death is attributed to one call
            return [await call for call in calls]
        return list(await asyncio.gather(*calls))

    async def _call(
        self, number: int, step: Step, name: tuple[int, int], event: Any, orders: Orders, tally: Tally, used: int = 0
    ) -> Any:
        """Call for one event until it succeeds or its attempts are used up; return `(result,)` or the failure."""
        refused = verdict_for(orders, step, name, event)
        if refused is not None:
            return refused
        call = (step.node, *name)
        attempts, died = used + orders.used.get(call, 0), orders.deaths_of(call)
        safe = self._copies([event]) if step.options.keeps_original else None
        lists = step.kind.traits.takes_lists
        while True:
            attempts += 1
            try:
                given = await self._attempt(number, step, name, [event] if lists else event, attempts + died, tally)
                return (given[0] if lists else given,)
            except USER_ERRORS as error:
                caught = error
            if safe is not None:
                event = self._copies(safe)[0]
            timed_out = isinstance(caught, TimedOut)
            if not may_retry(step.options, attempts, *(TIMED_OUT if timed_out else (type(caught),))):
                if timed_out:
                    return failure(step, name, HandlerTimeout(str(caught)), attempts, event, "timeout")
                return failure(step, name, caught, attempts, event)
            tally.retries += 1
            log_retry(step, name, caught, attempts + 1)
            await self._pause(backoff(step, attempts))

    async def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        self.waiting += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self.waiting -= 1

    async def _attempt(
        self, number: int, step: Step, name: tuple[int, int], event: Any, attempt: int, tally: Tally
    ) -> Any:
        handler = self._handlers[number]
        assert handler is not None
        async with self._slots[number]:
            context = Context(*name, step.node, attempt, self._worker)
            context_of_call.set(lambda: context)
            # A plain call blocks the loop, so it is the only one that runs; awaited ones overlap.
            (self._monitor.many if step.is_async else self._monitor.event)(number, *name)
            started = perf_counter()
            try:
                return await self._limited(step, handler, event)
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or self._is_ending():
                    raise
                if not task.cancelling():
                    raise RuntimeError("the handler awaited what was cancelled") from error
                while task.uncancel():
                    continue
                raise RuntimeError("the handler cancelled the task that it runs in") from error
            finally:
                self._monitor.many(number, *name)
                tally.seconds += perf_counter() - started

    async def _limited(self, step: Step, handler: Callable[..., Any], event: Any) -> Any:
        if step.options.timeout_s is None or not step.is_async:
            return await self._result(step, handler, event)
        try:
            async with asyncio.timeout(step.options.timeout_s) as limit:
                return await self._result(step, handler, event)
        except TimeoutError:
            if not limit.expired():
                raise
            raise TimedOut(f"still running after timeout_s={step.options.timeout_s:g}") from None

    async def _result(self, step: Step, handler: Callable[..., Any], event: Any) -> Any:
        before = getrefcount(event)
        given = handler(event)
        if step.is_async and inspect.isawaitable(given):
            given = await given
        if step.kind.traits.takes_lists:
            return checked_batch(step, given, len(event), self._owner, alone=False)
        take, owner = result_rule(step.kind).take, self._parts_owner if step.kind.traits.multiplies else self._owner
        if step.is_async and step.kind.traits.multiplies and isinstance(given, AsyncIterable):
            return await collect_async(given, owner)
        if given is event and take is Ownership.results:
            alone = getrefcount(event) <= before + 1
            return owner.owned(event, alone)
        results = [given]
        del given  # a reference of this variable would count
        return next(take(owner, _popped(results), lambda before: repeat(None)))

    async def _call_with_list(
        self, number: int, step: Step, names: list[tuple[int, int]], batch: list[Any], orders: Orders, tally: Tally
    ) -> list[Any]:
        """Call with a list; one that fails is run again event by event. Return `(result,)` or a failure for each."""
        if not orders.careful and not orders.verdicts and len(batch) > 1:
            again = list(self._copies(batch))  # the handler may change its list
            try:
                return [(result,) for result in await self._attempt(number, step, names[0], batch, 1, tally)]
            except USER_ERRORS:
                batch = again
        return [
            await self._call(number, step, name, event, orders, tally)
            for name, event in zip(names, batch, strict=True)
        ]


class TimedOut(Exception):
    """An async handler was cancelled at its time limit."""


def _popped(results: list[Any]) -> Iterator[Any]:
    while results:
        yield results.pop()
