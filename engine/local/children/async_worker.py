"""The loop of a worker whose program awaits: many numbers under way at once, answered as they are done.

Decides when finished numbers are sent (when the loop has nothing better to do) and that `ordered` takes one at a
time. Everything about payloads is the codec's.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from ....nodes.events import Failure
from ....nodes.execution.async_executor import AsyncExecutor
from ....nodes.ordering.blame import Phase
from ....nodes.program.column import Column
from ....nodes.program.kinds import NodeKind
from ....nodes.program.program import Answer
from ....nodes.program.steps import join_answers
from ...codec.copying import safe_copies
from ...tasks.decoding import TaskDecoder, with_failures
from ...tasks.encoding import AnswerEncoder
from ...tasks.task import TaskMessage
from ..transport.messages import Kind, Message, pack
from .setup import ready
from .worker_host import WorkerHost

_LOG = logging.getLogger("sluiceway")


@dataclass(slots=True)
class _Open:
    """A task that is not answered yet: its finished numbers that wait to be sent, and how many are not finished."""

    task: TaskMessage
    left: int
    started: float
    answers: dict[int, Answer] = field(default_factory=dict)


class AsyncWorker:
    """Serves tasks inside an event loop."""

    def __init__(self, host: WorkerHost) -> None:
        self._host = host
        self._link = host.link
        self._page = host.page
        self._decoder = TaskDecoder(host.spec.program, host.page.codec)
        self._answers = AnswerEncoder(host.spec.program, host.page, host)
        self._open: dict[int, _Open] = {}
        self._flushing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._parked = 0
        self._stopped = asyncio.Event()
        self._queue: asyncio.Queue[TaskMessage | Message] = asyncio.Queue()
        self._lists = any(step.kind is NodeKind.MAP_BATCHES for step in host.spec.program.steps)

    def serve(self) -> None:
        """Run the loop until told to stop."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        host = self._host
        handlers = host.build()
        self._executor = AsyncExecutor(
            host.spec.program,
            handlers,
            safe_copies,
            worker=host.index,
            monitor=self._page,
            ordered=host.spec.ordered,
        )
        loop = asyncio.get_running_loop()
        descriptor = self._link.socket.FD
        loop.add_reader(descriptor, self._receive)
        in_order = asyncio.create_task(self._one_by_one()) if host.spec.ordered else None
        ready(self._link)
        self._page.phase(Phase.IDLE)
        ticking = asyncio.create_task(self._tick())
        self._receive()
        await self._stopped.wait()
        loop.remove_reader(descriptor)
        for task in (ticking, in_order, *self._tasks):
            if task is not None:
                task.cancel()
        await asyncio.gather(*filter(None, (ticking, in_order, *self._tasks)), return_exceptions=True)
        self._page.phase(Phase.CLOSE)
        await self._close()

    def _receive(self) -> None:
        # The descriptor only tells of changes, so everything that is there is taken.
        while (message := self._link.receive(0)) is not None:
            if message.kind is Kind.STOP:
                self._stopped.set()
            elif message.kind in (Kind.STATE, Kind.RESTORE):
                self._queue.put_nowait(message)  # in its place between the tasks
            elif message.kind is Kind.TASK:
                task = self._host.read_task(message)
                if self._host.spec.ordered:
                    self._queue.put_nowait(task)
                else:
                    self._start(task)

    async def _tick(self) -> None:
        """Send what threads have posted, and tell how many numbers wait for a retry."""
        while True:
            self._link.flush()
            self._receive()
            if self._executor.waiting != self._parked:
                self._parked = self._executor.waiting
                self._link.send(pack(Kind.PARKED, self._parked))
            await asyncio.sleep(0.02)

    def _start(self, task: TaskMessage) -> None:
        self._page.codec(task.start)
        ports, broken = self._decoder.columns(task)
        self._page.phase(Phase.MANY)
        open_ = self._open[task.id] = _Open(task, task.stop - task.start, perf_counter())
        if self._lists:
            self._spawn(self._unit(open_, ports, broken))
            return
        for number in range(task.start, task.stop):
            self._spawn(self._unit(open_, [port.slice(number, number + 1) for port in ports], broken))

    def _spawn(self, work: Any) -> None:
        running = asyncio.create_task(work)
        self._tasks.add(running)
        running.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _LOG.error("a worker's own code failed", exc_info=task.exception())
            self._stopped.set()

    async def _unit(self, open_: _Open, ports: list[Column], broken: list[Failure]) -> None:
        answer = with_failures(await self._executor.run(ports, open_.task.orders), broken)
        open_.answers[answer.start] = answer
        # A list that ends at a failed number leaves the rest of it unanswered, for good.
        open_.left -= ports[0].size
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    async def _one_by_one(self) -> None:
        while True:
            task = await self._queue.get()
            if isinstance(task, Message):
                self._host.keep_state(self._executor.states, task)
                continue
            started = perf_counter()
            self._page.codec(task.start)
            ports, broken = self._decoder.columns(task)
            answer = with_failures(await self._executor.run(ports, task.orders), broken)
            self._answers.send_answer(task, answer, started)
            self._page.phase(Phase.IDLE)

    def _flush(self) -> None:
        """Send every finished piece of every task."""
        self._flushing = False
        under_way = max(1, len(self._tasks))
        for open_ in list(self._open.values()):
            for run in _runs(open_.answers, open_.task.answer_batch):
                answer = join_answers(run)
                # The share of this piece in the time: others were under way beside it.
                seconds = (perf_counter() - open_.started) / under_way
                self._answers.send_answer(open_.task, answer, perf_counter() - seconds)
                self._page.phase(Phase.MANY)  # packing may have shown one number alone
            open_.answers.clear()
            if not open_.left:
                del self._open[open_.task.id]
        self._host.maybe_leave()
        if not self._open:
            self._page.phase(Phase.IDLE)

    async def _close(self) -> None:
        for close in reversed(self._host.closers):
            try:
                given = close()
                if inspect.isawaitable(given):
                    await given
            except BaseException:  # also a sys.exit(): the others are closed all the same
                _LOG.warning("the close() of a handler raised in worker %s", self._host.name, exc_info=True)
        self._host.closers.clear()


def _runs(answers: dict[int, Answer], most: int) -> list[list[Answer]]:
    """Group answers into runs of numbers that follow each other, at most `most` (0: any number) in one."""
    runs: list[list[Answer]] = []
    for start in sorted(answers):
        if runs and runs[-1][-1].start + runs[-1][-1].size == start and not (most and start - runs[-1][0].start >= most):
            runs[-1].append(answers[start])
        else:
            runs.append([answers[start]])
    return runs
