"""Runs tasks: decode, run the program, encode the answer; the work of a plain worker, wherever it runs.

Decides in which pieces a task is answered, and when what is left of it is returned for others. Knows no socket and no
process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from time import perf_counter
from typing import Any

from ...nodes.execution.executor import Executor
from ...nodes.program.column import Column
from ...nodes.program.kinds import NodeKind
from ...nodes.program.program import Answer, Program
from ..codec.codec import IN_BLOCKS
from ..codec.copying import safe_copies
from ..codec.errors import CodecError
from .answer_buffer import Pile
from .decoding import TaskPieces, Unpacker, above, with_failures
from .encoding import AnswerEncoder, Outbox, Progress
from .long_batch import LONG_S, Watch
from .task import TaskMessage

#: So many tasks are worked on as a whole where the answers for pieces could not be joined.
_WHOLE_FOR = 64


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
        self._unpacker = Unpacker(program, progress.codec)
        self._answers = AnswerEncoder(program, progress, outbox)
        self._lists = any(step.kind is NodeKind.MAP_BATCHES for step in program.steps)
        self._whole = 0
        #: Those that take their numbers in order keep what they have got.
        self._watch = None if ordered or self._lists else Watch()
        self.executor = Executor(
            program,
            handlers,
            safe_copies,
            worker=worker,
            monitor=progress,
            splitter=self._watch.splitter if self._watch is not None else None,
        )

    def run(self, task: TaskMessage) -> None:
        """Run a task and send its answers."""
        pieces = None if self._lists or self._whole else self._unpacker.pieces(task)
        self._whole = max(0, self._whole - 1)
        if pieces is None:
            self._work_on(task)
        else:
            self._work_by_pieces(task, pieces)

    def _work_on(self, task: TaskMessage) -> None:
        """Unpack all of a task, and answer it."""
        started = perf_counter()
        self._progress.codec(task.start)
        ports, broken = self._unpacker.columns(task)
        # A part of a large payload costs the whole of it; were that charged to the few, tasks would shrink without end.
        parts = [part for port in task.ports for part in port if part.payload.codec not in IN_BLOCKS]
        whole, used = sum(part.stop - part.start for part in parts), sum(part.hi - part.lo for part in parts)
        if used < whole:
            started += (perf_counter() - started) * (1 - used / whole)
        # In pieces as fine as the next pools want them; a piece counts alone, whatever becomes of those behind it.
        most = task.stop - task.start if self._lists or not task.cut else task.cut
        for lo in range(task.start, task.stop, most):
            hi = min(task.stop, lo + most)
            answer = self._run(task, [port.slice(lo, hi) for port in ports])
            self._progress.codec(lo)
            answer = self._answers.send_answer(task, with_failures(answer, broken), started)
            if answer.start + answer.size < hi:
                self._give_back(task, answer)
                return
            started = perf_counter()

    def _work_by_pieces(self, task: TaskMessage, pieces: TaskPieces) -> None:
        """Unpack, handle and pack a task piece by piece; what was done goes out as one answer, unless it takes long."""
        began = started = perf_counter()
        pile = Pile()
        for lo, hi in pairwise(pieces.bounds):
            self._progress.codec(lo)
            try:
                column = pieces.column(lo, hi)
            except CodecError:  # whose fault it is comes out when the rest is unpacked as a whole
                self._send_pile(task, pile, started)
                self._work_on(above(task, lo))
                return
            answer = self._run(task, [column])
            self._answers.end_if_forked()
            self._progress.codec(lo)
            data, answer = self._answers.encode(answer)
            pile.add(answer, data)
            if any(failed.on_error == "fail" for failed in answer.failures):
                break  # the run ends in it, even if it is at the last number of this piece
            long = perf_counter() - began > LONG_S
            if answer.start + answer.size < hi or (long and self._watch is not None):
                self._send_pile(task, pile, started)
                self._give_back(task, answer)
                return
            if long or (task.cut and (hi - task.start) % task.cut == 0):
                self._send_pile(task, pile, started)
                started = perf_counter()
        self._send_pile(task, pile, started)

    def _run(self, task: TaskMessage, ports: list[Column]) -> Answer:
        if self._watch is None or ports[0].size < 2:
            return self.executor.run(ports, task.orders)
        self._watch.begin()
        try:
            return self.executor.run(ports, task.orders)
        finally:
            self._watch.end()

    def _give_back(self, task: TaskMessage, answer: Answer) -> None:
        """Give back what is left of a task behind an answer; where the run ends in that, nobody takes it any more."""
        done = answer.start + answer.size
        if done < task.stop:
            self._outbox.return_rest(task.id, done)

    def _send_pile(self, task: TaskMessage, pile: Pile, started: float) -> None:
        """Send what is on the pile; where it cannot be joined, the next tasks are worked on as a whole."""
        given = pile.take()
        for answer, data in given:
            self._answers.send(task, answer, data, started)
            started = perf_counter()
        if len(given) > 1:
            self._whole = _WHOLE_FOR
