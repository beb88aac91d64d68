"""The inline runner: the whole graph in the calling thread, without sockets or processes. What it gives is the reference.

Decides only how much is read at once; numbering, steps, failures and delivery are the same code that processes use.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from time import monotonic, sleep
from typing import Any

from ..nodes.async_executor import AsyncExecutor
from ..nodes.column import Column
from ..nodes.errors import SourceError
from ..nodes.events import DeadLetter, Failure
from ..nodes.executor import Executor
from ..nodes.handlers import build
from ..nodes.program import Answer
from ..nodes.sequencer import Chunk, Sequencer
from ..nodes.sources import PAUSES_S, open_reader
from . import inbox
from .copying import safe_copies
from .delivery import Delivery
from .feed import check_key
from .options import RunOptions
from .plan import Plan, SourcePlan
from .report import NodeReport, RunReport

#: A turn reads, handles and delivers so many events that it takes about this long, in seconds.
_TURN_S = 0.005
_MOST = 4096


class InlineRun:
    """One run of a plan in this thread; iterate `batches` to drive it."""

    def __init__(self, plan: Plan, options: RunOptions) -> None:
        self._plan = plan
        self._options = options
        self._delivery = Delivery(plan, inline=True)
        self._sequencer = Sequencer(len(plan.sources), plan.order, options.limit)  # type: ignore[arg-type]
        self._sources = [_Source(source, plan.key if self._sequencer.merges else None) for source in plan.sources]
        self._turn = 0
        self._most = 1
        self._began = monotonic()
        self._stopped: str | None = None
        self._failures: deque[Failure] = deque()
        self._tallies = [[0.0] * 6 for _ in plan.whole.steps]
        self._skipped = 0
        self._dead = 0
        self.error: BaseException | None = None

    def stop_reading(self, why: str) -> None:
        """End the reading; what was read is still delivered."""
        self._stopped = self._stopped or why

    def interrupt(self) -> None:
        """End the reading; what was read is still delivered."""
        self.stop_reading("interrupt")

    def report(self) -> RunReport:
        """Give the report as of now."""
        wall = monotonic() - self._began
        plan, delivery = self._plan, self._delivery
        nodes = {}
        for step, (events_in, events_out, seconds, *_) in zip(plan.whole.steps, self._tallies, strict=True):
            if step.op.value in ("zip", "merge"):
                continue
            service = events_in / seconds if seconds else 0.0
            rate = events_in / wall if wall else 0.0
            nodes[step.node] = NodeReport(
                pool="inline",
                workers=1,
                events_in=int(events_in),
                events_out=int(events_out),
                arrival_rate=rate,
                service_rate=service,
                utilisation=rate / service if service else 0.0,
                throughput=rate,
                predicted_throughput=min(rate, service) if service else rate,
                mean_inside=rate / service if service else 0.0,
                predicted_inside=rate / service if service else 0.0,
                time_inside_s=1 / service if service else 0.0,
                p50_s=1 / service if service else 0.0,
                p99_s=1 / service if service else 0.0,
            )
        columns = list(zip(*self._tallies, strict=True)) if self._tallies else [()] * 6
        return RunReport(
            graph=plan.name,
            runner="inline",
            events_in=self._sequencer.next,
            events_out=delivery.events_out,
            retries=int(sum(columns[3])),
            filtered=int(sum(columns[4])),
            unmatched=int(sum(columns[5])) + delivery.unmatched,
            skipped=self._skipped,
            dead_letters=self._dead,
            released=delivery.delivered,
            wall_s=wall,
            ended_by="error" if self.error is not None else self._stopped or "source",
            nodes=nodes,
        )

    def batches(self) -> Generator[list[Any], None, None]:
        """Run to the end; yields the consumer's events in lists. Raises what ended the run."""
        delivery = self._delivery
        delivery.open()
        failed = True
        closers: list[Callable[[], Any]] = []
        try:
            with asyncio.Runner() as runner:
                try:
                    run = self._executor(runner, closers)
                    yield from self._turns(run)
                finally:
                    for close in reversed(closers):
                        given = close()
                        if asyncio.iscoroutine(given):
                            runner.run(given)
            failed = False
        except BaseException as error:
            self.error = None if isinstance(error, GeneratorExit) else error
            if isinstance(error, GeneratorExit):
                self._stopped = "closed"
            raise
        finally:
            for source in self._sources:
                source.close()
            broken = delivery.close(failed)
            if broken is not None and not failed:
                self.error = broken
                raise broken

    def _executor(
        self, runner: asyncio.Runner, closers: list[Callable[[], Any]]
    ) -> Callable[[list[Column]], Answer]:
        program = self._plan.whole

        def make() -> list[Callable[..., Any] | None]:
            handlers: list[Callable[..., Any] | None] = []
            for subject in self._plan.whole_handlers:
                if subject is None:
                    handlers.append(None)
                    continue
                handler, close = build(subject)
                handlers.append(handler)
                if close is not None:
                    closers.append(close)
            return handlers

        if not program.needs_loop:
            return Executor(program, make(), safe_copies).run

        async def make_inside() -> AsyncExecutor:
            return AsyncExecutor(program, make(), safe_copies)

        executor = runner.run(make_inside())
        self._most = max(step.concurrency for step in program.steps)
        return lambda ports: runner.run(executor.run(ports))

    def _turns(self, run: Callable[[list[Column]], Answer]) -> Iterator[list[Any]]:
        while not self._sequencer.finished:
            started = monotonic()
            self._check_ends(started)
            if self._stopped is None:
                self._read()
            chunk = self._sequencer.take(self._most)
            if chunk is None:
                if self._stopped is not None:
                    break
                continue
            assert chunk.items is not None
            lo = self._sequencer.next - chunk.size
            answer = run([Column(lo, chunk.size, chunk.items[: chunk.size])])
            yield from self._settle(answer)
            self._adapt(monotonic() - started)
        if self._sequencer.limited:
            self.stop_reading("limit")
        for source in self._sources:
            if source.error is not None:
                raise source.error

    def _check_ends(self, now: float) -> None:
        options = self._options
        if options.time_limit_s is not None and now - self._began >= options.time_limit_s:
            self.stop_reading("time_limit")
        if options.stop is not None and options.stop.is_set():
            self.stop_reading("stop")

    def _adapt(self, seconds: float) -> None:
        if seconds < _TURN_S / 2:
            self._most = min(_MOST, self._most * 2)
        elif seconds > 2 * _TURN_S and not self._plan.whole.needs_loop:
            self._most = max(1, self._most // 2)

    def _read(self) -> None:
        """Read from the sources: in turn where they are numbered by arrival, else wherever an event is missing."""
        live = [at for at in range(len(self._sources)) if not self._sequencer.ended(at)]
        if not self._sequencer.merges and live:
            self._turn = next((at for at in live if at > self._turn), live[0])
            live = [self._turn]
        for at in live:
            if not self._sequencer.buffered(at):
                self._read_from(at)
        if any(source.error is not None for source in self._sources):
            for at in range(len(self._sources)):
                self._sequencer.end(at)

    def _read_from(self, at: int) -> None:
        events, keys, ended = self._sources[at].read(self._most)
        self._sequencer.offer(at, Chunk(len(events), payload=None, items=events, keys=keys))
        if ended:
            self._sequencer.end(at)

    def _settle(self, answer: Answer) -> Iterator[list[Any]]:
        for total, tally in zip(self._tallies, answer.tallies, strict=True):
            for place, value in enumerate(tally.as_list()):
                total[place] += value
        ids = {step.node: step.node_id for step in self._plan.whole.steps}
        failures = sorted(answer.failures, key=lambda f: (f.seq, ids[f.node], f.index))
        fatal = next((f for f in failures if f.on_error == "fail"), None)
        hi = fatal.seq if fatal is not None else answer.start + answer.size
        letters = []
        for failed in failures:
            if failed.on_error == "skip":
                self._skipped += 1
                if self._skipped <= 3:
                    inbox.warn_skipped(failed)
            elif failed.on_error == "dead_letter":
                letters.append(_letter(failed))
        self._dead += len(letters)
        if hi > answer.start:
            columns = [column.cut(answer.start, hi) for column in answer.exits]
            yield from self._delivery.columns(answer.start, hi, columns, letters)
        if fatal is not None:
            raise inbox.failure_error(fatal, fatal.event, fatal.cause)


def _letter(failed: Failure) -> DeadLetter:
    return DeadLetter(
        failed.seq, failed.index, failed.node, failed.event, failed.error, failed.traceback, failed.attempts
    )


class _Source:
    """One source read in this thread. Events of a container stay the caller's own: handlers get copies."""

    def __init__(self, plan: SourcePlan, key: Callable[[Any], Any] | None) -> None:
        self._plan = plan
        self._key = key
        self._last_key: Any = None
        self._reader: Any = None
        self._count = 0
        self.error: SourceError | None = None
        subject = plan.node.subject
        self._lent = not callable(subject) and not hasattr(subject, "reader") and iter(subject) is not subject

    def read(self, most: int) -> tuple[list[Any], list[Any] | None, bool]:
        """Give events, their keys, and whether that was the end; an error ends the source and is kept."""
        events: list[Any] = []
        ended = False
        try:
            if self._reader is None:
                self._reader = open_reader(self._plan.node.subject)
            if getattr(self._reader, "one_by_one", False):
                events.extend(islice(self._reader.iterator, most))
                ended = len(events) < most
            else:
                events, ended = self._read_batch(most)
        except Exception as error:
            self._fail(error)
            ended = True
        if self._lent:
            events = safe_copies(events)
        keys: list[Any] | None = None
        if self._key is not None:
            keys = []
            try:
                for event in events:
                    self._last_key = check_key(
                        self._key(event), self._last_key, self._plan.node.name, self._count + len(keys)
                    )
                    keys.append(self._last_key)
            except Exception as error:
                self._fail(error)
                events, ended = events[: len(keys)], True
        self._count += len(events)
        return events, keys, ended

    def _read_batch(self, most: int) -> tuple[list[Any], bool]:
        pause = PAUSES_S[0]
        while True:
            batch = self._reader.read(most, 1 << 20)
            if batch is None:
                return [], True
            if batch:
                return list(batch), False
            # The reader has nothing yet and cannot say when; waiting is all that this thread has to do.
            sleep(pause)
            pause = min(PAUSES_S[1], pause * 2)

    def _fail(self, error: Exception) -> None:
        if isinstance(error, SourceError):
            self.error = error
            return
        count = self._count
        position = repr(self._reader.position()) if self._reader is not None else "the start"
        self.error = inbox.source_error(self._plan.node.name, inbox.one_line(error), position, count, error)

    def close(self) -> None:
        """Close the reader."""
        if self._reader is not None:
            self._reader.close()
