"""Runs tasks: decode, run the program, encode the answer.

Decides in which blocks a task is run and answered, and when the rest of it is returned for other workers. Knows no
socket and no process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from ...nodes.execution.executor import Executor
from ...nodes.program.column import Column
from ...nodes.program.program import Answer, Program
from ..codec.codec import IN_BLOCKS
from ..codec.copying import safe_copies
from ..codec.errors import CodecError
from ..interpreter.work_time import work_time
from .answer_buffer import AnswerBuffer
from .decoding import TaskBlocks, TaskDecoder, rest_of, with_failures
from .encoding import AnswerEncoder, Outbox, Progress
from .long_batch import LONG_BATCH_S, LongBatchWatcher
from .task import TaskMessage

#: How many tasks are run as a whole after the answers of blocks could not be joined.
_WHOLE_TASKS = 64


class TaskRunner:
    """Runs the tasks of one worker whose program does not await, one after the other."""

    def __init__(
        self,
        program: Program,
        handlers: Sequence[Callable[..., Any] | None],
        *,
        worker: int,
        ordered: bool,
        progress: Progress,
        outbox: Outbox,
    ) -> None:
        self._progress = progress
        self._outbox = outbox
        self._decoder = TaskDecoder(program, progress.codec)
        self._answers = AnswerEncoder(program, progress, outbox)
        self._lists = program.takes_lists
        self._whole_tasks = 0
        #: A worker that must handle its numbers in order keeps all of them.
        self._watcher = None if ordered or self._lists else LongBatchWatcher()
        self.executor = Executor(
            program,
            handlers,
            safe_copies,
            worker=worker,
            monitor=progress,
            splitter=self._watcher.splitter if self._watcher is not None else None,
        )

    def run(self, task: TaskMessage) -> None:
        """Run a task and send its answers."""
        blocks = None if self._lists or self._whole_tasks else self._decoder.blocks(task)
        self._whole_tasks = max(0, self._whole_tasks - 1)
        if blocks is None:
            self._run_whole(task)
        else:
            self._run_by_blocks(task, blocks)

    def _run_whole(self, task: TaskMessage) -> None:
        """Decode all of a task, run it and answer it."""
        started = work_time()
        self._progress.codec(task.start)
        ports, broken = self._decoder.columns(task)
        # Decoding a part of a payload costs all of it. Charged to the part alone, tasks would shrink without end.
        parts = [part for port in task.ports for part in port if part.payload.codec not in IN_BLOCKS]
        whole, used = sum(part.stop - part.start for part in parts), sum(part.hi - part.lo for part in parts)
        if used < whole:
            started += (work_time() - started) * (1 - used / whole)
        # In answers as small as the next pools want them; each answer stands, whatever happens to those after it.
        size = task.stop - task.start if self._lists or not task.answer_batch else task.answer_batch
        for lo in range(task.start, task.stop, size):
            hi = min(task.stop, lo + size)
            columns = [port.slice(lo, hi) for port in ports]
            answer = self._execute(task, columns)
            self._progress.codec(lo)
            answer = self._answers.send_answer(task, with_failures(answer, broken), started, [*ports, *columns])
            if answer.start + answer.size < hi:
                self._return_rest(task, answer)
                return
            started = work_time()

    def _run_by_blocks(self, task: TaskMessage, blocks: TaskBlocks) -> None:
        """Decode, run and encode a task block by block; answer all of it at once, unless it takes long."""
        first_started = started = work_time()
        buffer = AnswerBuffer()
        for lo, hi in pairwise(blocks.bounds):
            self._progress.codec(lo)
            try:
                column = blocks.column(lo, hi)
            except CodecError:  # decoding the rest as a whole finds out which event is damaged
                self._send_buffered(task, buffer, started)
                self._run_whole(rest_of(task, lo))
                return
            answer = self._execute(task, [column])
            self._answers.end_if_forked()
            self._progress.codec(lo)
            data, answer = self._answers.encode(answer)
            buffer.add(answer, data)
            if any(failed.on_error == "fail" for failed in answer.failures):
                break  # the run ends here, even if this is the last number of the block
            is_long = work_time() - first_started > LONG_BATCH_S
            was_split = answer.start + answer.size < hi
            if was_split or (is_long and self._watcher is not None):
                self._send_buffered(task, buffer, started)
                self._return_rest(task, answer)
                return
            if is_long or (task.answer_batch and (hi - task.start) % task.answer_batch == 0):
                self._send_buffered(task, buffer, started)
                started = work_time()
        self._send_buffered(task, buffer, started)

    def _execute(self, task: TaskMessage, ports: list[Column]) -> Answer:
        if self._watcher is None or ports[0].size < 2:
            return self.executor.run(ports, task.orders)
        self._watcher.begin_run()
        try:
            return self.executor.run(ports, task.orders)
        finally:
            self._watcher.end_run()

    def _return_rest(self, task: TaskMessage, answer: Answer) -> None:
        """Return the rest of a task after an answer; if the run ends in that answer, the rest is not needed."""
        done = answer.start + answer.size
        if done < task.stop:
            self._outbox.return_rest(task.id, done)

    def _send_buffered(self, task: TaskMessage, buffer: AnswerBuffer, started: float) -> None:
        """Send the buffered answers; if they cannot be joined, run the next tasks as a whole."""
        answers = buffer.drain()
        for answer, data in answers:
            self._answers.send(task, answer, data, started)
            started = work_time()
        if len(answers) > 1:
            self._whole_tasks = _WHOLE_TASKS
