"""The loop of a worker whose program awaits: it handles many numbers at once and answers them as they are finished.

Decides when finished numbers are sent (as soon as the loop is idle) and that an `ordered` pool handles one task at a
time. It does not know how events are decoded and encoded.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from msgspec import Struct, field

from ....nodes.dispatch.blame import Phase
from ....nodes.events import Failure
from ....nodes.execution.async_executor import AsyncExecutor
from ....nodes.program.column import Column
from ....nodes.program.program import Answer
from ....nodes.program.steps import join_answers
from ...codec.copying import safe_copies
from ...interpreter.work_time import work_time
from ...tasks.decoding import TaskDecoder, with_failures
from ...tasks.encoding import AnswerEncoder
from ...tasks.task import TaskMessage
from ..transport.messages import Kind, Message, pack
from .setup import send_ready
from .worker_host import WorkerHost

_LOG = logging.getLogger("sluiceway")


class _PendingTask(Struct):
    """A task that is not fully answered: its finished numbers that wait to be sent, and how many are not finished."""

    task: TaskMessage
    left: int
    started: float
    answers: dict[int, Answer] = field(default_factory=dict)


class AsyncWorker:
    """Serves tasks in an event loop."""

    def __init__(self, host: WorkerHost) -> None:
        self._host = host
        self._link = host.link
        self._page = host.page
        self._decoder = TaskDecoder(host.spec.program, host.page.codec)
        self._answers = AnswerEncoder(host.spec.program, host.page, host)
        self._pending: dict[int, _PendingTask] = {}
        self._flushing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._services: set[asyncio.Task[None]] = set()  #: they run until the worker stops
        self._reported_waiting = 0
        self._broken: BaseException | None = None  #: what ended a task of the loop that should have gone on
        self._stopped = asyncio.Event()
        self._queue: asyncio.Queue[TaskMessage | Message] = asyncio.Queue()
        self._lists = host.spec.program.takes_lists

    def serve(self) -> None:
        """Run the loop until the hub says stop."""
        with asyncio.Runner() as loop:
            try:
                loop.run(self._serve())
            except BaseException:
                self._stopped.set()  # what the loop now cancels is not cancelled by a handler
                raise

    async def _serve(self) -> None:
        host = self._host
        handlers = host.build_handlers()
        self._serving = asyncio.current_task()
        self._executor = AsyncExecutor(
            host.spec.program,
            handlers,
            safe_copies,
            worker=host.index,
            monitor=self._page,
            ordered=host.spec.ordered,
            is_ending=self._is_ending,
        )
        loop = asyncio.get_running_loop()
        descriptor = self._link.socket.FD
        loop.add_reader(descriptor, self._guarded, self._receive)
        if host.spec.ordered:
            self._spawn(self._serve_in_order(), self._services)
        send_ready(self._link)
        self._page.phase(Phase.IDLE)
        self._spawn(self._tick(), self._services)
        self._receive()
        await self._stopped.wait()
        loop.remove_reader(descriptor)
        if self._broken is not None:
            raise self._broken  # the phase stays as it was: the exit is a death, and its suspects are what was under way
        running = [*self._services, *self._tasks]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._page.phase(Phase.CLOSE)
        await self._close()

    def _is_ending(self) -> bool:
        """Whether the loop ends: it was stopped, or a handler has cancelled every task in it."""
        return self._stopped.is_set() or (self._serving is not None and self._serving.cancelling() > 0)

    def _receive(self) -> None:
        # The descriptor is readable after changes only, so everything that has arrived is received.
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
        """Send what threads have posted, and report how many numbers wait for a retry."""
        while True:
            self._link.flush()
            self._receive()
            if self._executor.waiting != self._reported_waiting:
                self._reported_waiting = self._executor.waiting
                self._link.send(pack(Kind.PARKED, self._reported_waiting))
            await asyncio.sleep(0.02)

    def _start(self, task: TaskMessage) -> None:
        self._page.codec(task.start)
        ports, broken = self._decoder.columns(task)
        self._page.phase(Phase.MANY)
        pending = self._pending[task.id] = _PendingTask(task, task.stop - task.start, work_time())
        if self._lists:
            self._spawn(self._handle_numbers(pending, ports, broken), self._tasks)
            return
        for number in range(task.start, task.stop):
            alone = [port.slice(number, number + 1) for port in ports]
            self._spawn(self._handle_numbers(pending, alone, broken), self._tasks)

    def _spawn(self, work: Coroutine[Any, Any, None], running: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work)
        running.add(task)
        task.add_done_callback(partial(self._on_done, running))

    def _on_done(self, running: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
        running.discard(task)
        if not self._stopped.is_set():
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            if error is not None:
                self._die_of(error)

    def _die_of(self, error: BaseException) -> None:
        """End the worker by an error: what was to be answered, nobody else would answer."""
        self._broken = error
        self._stopped.set()

    def _guarded(self, callback: Callable[[], None]) -> None:
        """Call one of the loop's callbacks, whose errors the loop would only log."""
        try:
            callback()
        except Exception as error:
            self._die_of(error)

    async def _handle_numbers(self, pending: _PendingTask, ports: list[Column], broken: list[Failure]) -> None:
        answer = with_failures(await self._executor.run(ports, pending.task.orders), broken)
        pending.answers[answer.start] = answer
        # If a list ends at a failed number, its rest is never answered.
        pending.left -= ports[0].size
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._guarded, self._flush)

    async def _serve_in_order(self) -> None:
        while True:
            task = await self._queue.get()
            if isinstance(task, Message):
                self._host.handle_state(self._executor.states, task)
                continue
            started = work_time()
            self._page.codec(task.start)
            ports, broken = self._decoder.columns(task)
            answer = with_failures(await self._executor.run(ports, task.orders), broken)
            self._answers.send_answer(task, answer, started)
            self._page.phase(Phase.IDLE)

    def _flush(self) -> None:
        """Send the finished numbers of every task."""
        self._flushing = False
        active = max(1, len(self._tasks))
        for pending in list(self._pending.values()):
            for run in _runs(pending.answers, pending.task.answer_batch):
                answer = join_answers(run)
                # The share of these numbers in the time, because others were handled at the same time.
                seconds = (work_time() - pending.started) / active
                self._answers.send_answer(pending.task, answer, work_time() - seconds)
                self._page.phase(Phase.MANY)  # encoding may have recorded a single number
            pending.answers.clear()
            if not pending.left:
                del self._pending[pending.task.id]
        self._host.tidy()
        if not self._pending:
            self._page.phase(Phase.IDLE)

    async def _close(self) -> None:
        for close in reversed(self._host.closers):
            try:
                result = close()
                if inspect.isawaitable(result):
                    await result
            except BaseException:  # also a sys.exit(): the others are closed as well
                _LOG.warning("the close() of a handler raised in worker %s", self._host.name, exc_info=True)
        self._host.closers.clear()


def _runs(answers: dict[int, Answer], size: int) -> list[list[Answer]]:
    """Group answers into runs of consecutive numbers, at most `size` numbers in one (0: any number)."""
    runs: list[list[Answer]] = []
    for start in sorted(answers):
        if runs and runs[-1][-1].start + runs[-1][-1].size == start and not (size and start - runs[-1][0].start >= size):
            runs[-1].append(answers[start])
        else:
            runs.append([answers[start]])
    return runs
