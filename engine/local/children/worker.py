"""A worker: takes runs of numbers, runs the pool's program over them, and sends answers that together cover them.

Decides nothing about order or credit. Its status page tells from outside which number, node and phase it is on.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import os
import signal
import traceback
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

import cloudpickle

from ....nodes.errors import ProtocolError, describe
from ....nodes.events import Failure
from ....nodes.execution.executor import Executor
from ....nodes.handlers import build_all
from ....nodes.ordering.barrier import FailureRecord
from ....nodes.ordering.blame import Phase
from ....nodes.ordering.segments import ExitData
from ....nodes.ordering.worker_name import WorkerName
from ....nodes.program.column import Column
from ....nodes.program.kinds import NodeKind
from ....nodes.program.program import Answer
from ....nodes.program.steps import close_answer, keep
from ....nodes.state.stateful import States
from ...codec.codec import IN_BLOCKS, Encoder, Payload
from ...codec.copying import safe_copies
from ...codec.errors import CodecError
from ...codec.pickling import dumps
from ...codec.stored_values import restore_stored
from ...tasks.answer_buffer import Pile
from ...tasks.decoding import TaskPieces, Unpacker, above, with_failures
from ...tasks.long_batch import LONG_S, Watch
from ...tasks.task import AnswerMessage, TaskMessage
from ..transport.launch import ChildSettings, WorkerSpec
from ..transport.link import Link
from ..transport.messages import (
    Kind,
    Message,
    pack,
    pack_answer,
    read,
    read_state,
    read_task,
)
from ..transport.run_dir import arena_path
from ..transport.shared_frames import ChildArena, keep_freed_blocks
from ..transport.status_page import StatusPage
from .setup import pack_cause, ready, rss_bytes, set_up, tear_down

_LOG = logging.getLogger("sluiceway")
_POLL_MS = 500
_GC_THRESHOLDS = (50_000, 20, 100)
#: So many tasks are worked on as a whole where the answers for pieces could not be joined.
_WHOLE_FOR = 64


def main(child: str, argument: bytes) -> None:
    """Run a worker until it is told to stop: the entry point of its process."""
    settings = ChildSettings.load(argument)
    page = StatusPage(Path(settings.spec_path).parent / f"{child}.status", create=False)
    link = Link(settings)
    set_up(settings, link)
    with open(Path(settings.spec_path).parent / f"{child}.stack", "a", opener=_private) as stack:
        _answer_stack_requests(stack)
        _live(settings, link, page)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _answer_stack_requests(file: TextIO) -> None:
    """Write the Python stack to `file` on SIGUSR1, also in a busy loop or in C code that holds the interpreter."""
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR1, file=file, all_threads=True)


def _live(settings: ChildSettings, link: Link, page: StatusPage) -> None:
    try:
        worker = Worker(settings, link, page)
    except Exception as error:
        link.send(_start_failure(error))
        link.close()
        return
    keep_freed_blocks()
    gc.collect()
    gc.freeze()
    # A batch is thousands of live objects that the collector would look at again and again.
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        worker.serve()
        page.phase(Phase.CLOSE)
        worker.close()
    except BaseException as error:
        if page.read().seen.phase is Phase.START and isinstance(error, Exception):
            link.send(_start_failure(error))  # handlers that await are built in their loop
            return
        # The phase stays what it was, so that the death is blamed on the event that it came from.
        _LOG.error("a worker ends with %s, which no handler may raise", type(error).__name__, exc_info=True)
        raise SystemExit(1) from None
    finally:
        tear_down()
        link.close()


def _start_failure(error: BaseException) -> list[Any]:
    text = "".join(traceback.format_exception(error))
    return pack(Kind.FAILED, describe(error), text, "", 0, 0.0, frames=[pack_cause(error)])


class Worker:
    """The serving side of one worker process."""

    def __init__(self, settings: ChildSettings, link: Link, page: StatusPage) -> None:
        self._link = link
        self._page = page
        self.name = settings.name
        self._arena = ChildArena(arena_path(Path(settings.spec_path).parent))
        self.index = WorkerName.parse(settings.name).index
        self.spec: WorkerSpec = cloudpickle.loads(Path(settings.spec_path).read_bytes())
        self._encoders = [Encoder() for _ in self.spec.program.exits]
        self.unpacker = Unpacker(self.spec.program, page.codec)
        self._pid = os.getpid()
        self._lists = any(step.kind is NodeKind.MAP_BATCHES for step in self.spec.program.steps)
        self._producers = {step.output: step for step in self.spec.program.steps}
        self.closers: list[Callable[[], Any]] = []
        self._events = 0
        self._leaving = False
        self._whole = 0
        self._looped = self.spec.program.needs_loop
        #: Those that take their numbers in order keep what they have got.
        self._watch = None if self._looped or self.spec.ordered or self._lists else Watch()
        if not self._looped:
            self._handlers = self.build()
            self._executor = Executor(
                self.spec.program, self._handlers, safe_copies,
                worker=self.index, monitor=page,
                splitter=self._watch.splitter if self._watch is not None else None,
            )

    def build(self) -> list[Callable[..., Any] | None]:
        """Build the handlers; `closers` then holds what closes them."""
        return build_all(cloudpickle.loads(self.spec.handlers), self.closers)

    # -- plain workers ------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Answer tasks until told to stop."""
        if self._looped:
            from .async_worker import LoopWorker  # asyncio takes a while to import; only pools that await need it

            LoopWorker(self, self._link, self._page).serve()
            return
        ready(self._link)
        self._page.phase(Phase.IDLE)
        while True:
            message = self._link.receive(_POLL_MS)
            if message is None:
                continue
            if message.kind is Kind.STOP:
                return
            if message.kind is Kind.TASK:
                self._work(self.read_task(message))
                self._page.phase(Phase.IDLE)
                self.maybe_leave()
            elif message.kind in (Kind.STATE, Kind.RESTORE):
                self.keep_state(self._executor.states, message)
            elif message.kind is not Kind.DEFINE:
                raise ProtocolError(f"a worker cannot take a {message.kind.name} from the calling process")

    def _work(self, task: TaskMessage) -> None:
        pieces = None if self._lists or self._whole else self.unpacker.pieces(task)
        self._whole = max(0, self._whole - 1)
        if pieces is None:
            self._work_on(task)
        else:
            self._work_by_pieces(task, pieces)

    def _work_on(self, task: TaskMessage) -> None:
        """Unpack all of a task, and answer it."""
        started = perf_counter()
        self._page.codec(task.start)
        ports, broken = self.unpacker.columns(task)
        # A part of a large payload costs the whole of it; were that charged to the few, tasks would shrink without end.
        parts = [part for port in task.ports for part in port if part.payload.codec not in IN_BLOCKS]
        whole, used = sum(part.stop - part.start for part in parts), sum(part.hi - part.lo for part in parts)
        if used < whole:
            started += (perf_counter() - started) * (1 - used / whole)
        # In pieces as fine as the next pools want them; a piece counts alone, whatever becomes of those behind it.
        most = task.stop - task.start if self._lists or not task.cut else task.cut
        for lo in range(task.start, task.stop, most):
            hi = min(task.stop, lo + most)
            answer = self._run(task, [port.cut(lo, hi) for port in ports])
            self._page.codec(lo)
            answer = self.send_answer(task, with_failures(answer, broken), started)
            if answer.start + answer.size < hi:
                self._give_back(task, answer)
                return
            started = perf_counter()

    def _work_by_pieces(self, task: TaskMessage, pieces: TaskPieces) -> None:
        """Unpack, handle and pack a task piece by piece; what was done goes out as one answer, unless it takes long."""
        began = started = perf_counter()
        pile = Pile()
        for lo, hi in pairwise(pieces.bounds):
            self._page.codec(lo)
            try:
                column = pieces.column(lo, hi)
            except CodecError:  # whose fault it is comes out when the rest is unpacked as a whole
                self._send_pile(task, pile, started)
                self._work_on(above(task, lo))
                return
            answer = self._run(task, [column])
            self._end_if_forked()
            self._page.codec(lo)
            data, answer = self._encode(answer)
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
            return self._executor.run(ports, task.orders)
        self._watch.begin()
        try:
            return self._executor.run(ports, task.orders)
        finally:
            self._watch.end()

    def _give_back(self, task: TaskMessage, answer: Answer) -> None:
        """Give back what is left of a task behind an answer; where the run ends in that, nobody takes it any more."""
        done = answer.start + answer.size
        if done < task.stop:
            self._link.send(pack(Kind.RETURNED, task.id, done))

    def _send_pile(self, task: TaskMessage, pile: Pile, started: float) -> None:
        """Send what is on the pile; where it cannot be joined, the next tasks are worked on as a whole."""
        given = pile.take()
        for answer, data in given:
            self._send(task, answer, data, started)
            started = perf_counter()
        if len(given) > 1:
            self._whole = _WHOLE_FOR

    # -- shared by both kinds -----------------------------------------------------------------------------------

    def read_task(self, message: Message) -> TaskMessage:
        """Read a task, whose large frames lie in the arena."""
        task: TaskMessage = read("the calling process", message, lambda it: read_task(it, self._arena))
        return task

    def keep_state(self, states: States, message: Message) -> None:
        """Give the state of the handlers, or take one on; what cannot be given or taken ends the run."""
        try:
            if message.kind is Kind.RESTORE:
                nodes = dict.fromkeys(step.node for step in self.spec.program.steps)
                restore_stored(states.restore, read_state(message), f"a state of {'+'.join(nodes)!r}")
                return
            packed = dumps(states.snapshot())
        except Exception as error:
            self._link.send(_start_failure(error))
            return
        self._link.send(pack(Kind.STATED, message.fields[0], frames=[packed]))

    def send_answer(self, task: TaskMessage, answer: Answer, started: float) -> Answer:
        """Encode and send an answer; gives it as sent, without what could not be encoded."""
        self._end_if_forked()
        if task.orders.careful:
            self._try_packing(answer)
        data, answer = self._encode(answer)
        self._send(task, answer, data, started)
        return answer

    def _send(self, task: TaskMessage, answer: Answer, data: list[ExitData], started: float) -> None:
        self._events += answer.size
        for given in data:
            given.payload = self._arena.place(given.payload, task.grant)
        message = AnswerMessage(
            task.id,
            answer.start,
            answer.size,
            perf_counter() - started,
            [tally.as_list() for tally in answer.tallies],
            data,
            [self._record(failed) for failed in answer.failures],
        )
        self._link.send(pack_answer(message))

    def _end_if_forked(self) -> None:
        """End a fork that a handler made and let go on: its numbers are its parent's to answer."""
        if os.getpid() != self._pid:
            os._exit(0)

    def _try_packing(self, answer: Answer) -> None:
        """Pack a suspect's outputs number by number, so that a death shows which one it came from."""
        for column in answer.exits:
            for number in range(column.start, column.stop):
                self._page.codec(number, 1)
                with contextlib.suppress(CodecError):  # the packing that counts comes to the same and says so
                    Encoder().encode(column.cut(number, number + 1).events)

    def _encode(self, answer: Answer) -> tuple[list[ExitData], Answer]:
        """Encode every exit; an event that cannot be encoded becomes a failure of the node that gave it."""
        data = []
        for at, slot in enumerate(self.spec.program.exits):
            while True:
                column = answer.exits[at]
                try:
                    payload = self._encoders[at].encode(column.events)
                    break
                except CodecError as error:
                    answer = self._without(answer, at, slot, error)
                    if len(answer.exits[at].events) == len(column.events):
                        raise
            if answer.exits and answer.size < column.size:
                return self._encode(answer)
            data.append(ExitData(payload, payload.nbytes, column.counts, column.indices))
        return data, answer

    def _without(self, answer: Answer, at: int, slot: int, error: CodecError) -> Answer:
        column = answer.exits[at]
        position = error.position if error.position is not None else 0
        seq, index = column.number_of(position)
        step = self._producers[slot]
        text = f"{type(error).__name__}: {error}"
        failed = Failure(seq, index, step.node, step.on_error, text, "", 1, None, error)
        mask = [True] * len(column.events)
        mask[position] = False
        exits = list(answer.exits)
        exits[at] = keep(column, column.events, mask)
        cut = seq if step.on_error == "fail" else answer.start + answer.size
        return close_answer(
            answer.start, answer.size, exits, [*answer.failures, failed], answer.tallies, cut
        )

    def _record(self, failed: Failure) -> FailureRecord:
        node_id = next(step.node_id for step in self.spec.program.steps if step.node == failed.node)
        event: Payload | None = None
        if failed.on_error != "skip":
            try:
                event = Encoder().encode([failed.event])
            except CodecError:
                event = None
        cause = pack_cause(failed.cause) if failed.cause is not None and failed.on_error == "fail" else b""
        return FailureRecord(
            failed.seq,
            failed.index,
            failed.node,
            node_id,
            failed.on_error,
            failed.error,
            failed.traceback,
            failed.attempts,
            failed.kind,
            (event, cause),
        )

    def maybe_leave(self) -> None:
        spec = self.spec
        if self._leaving:
            return
        if spec.max_events is not None and self._events >= spec.max_events:
            self.leave(f"max_events_per_worker={spec.max_events} reached")
        elif spec.max_rss_bytes is not None and rss_bytes() > spec.max_rss_bytes:
            self.leave(f"max_rss_bytes={spec.max_rss_bytes} passed")

    def leave(self, why: str) -> None:
        """Ask to be replaced; work goes on until the hub says stop."""
        self._leaving = True
        self._link.send(pack(Kind.LEAVING, why))

    def close(self) -> None:
        """Close the handlers, the last built first; what they raise is logged."""
        for close in reversed(self.closers):
            try:
                close()
            except BaseException:  # also a sys.exit(): the others are closed all the same
                _LOG.warning("the close() of a handler raised in worker %s", self.name, exc_info=True)
