"""What both worker loops share: the link, the arena, the states of the handlers, and when a worker asks to be replaced.

Decides how answers reach the calling process. It does not know how tasks are run.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ....nodes.dispatch.worker_name import WorkerName
from ....nodes.errors import describe
from ....nodes.handlers import build_all, close_handler
from ....nodes.state.stateful import States
from ...codec.codec import Payload
from ...codec.pickling import dumps, loads
from ...codec.stored_values import restore_stored
from ...interpreter.memory import GrowthCollector
from ...tasks.encoding import pack_cause
from ...tasks.task import AnswerMessage, Grant, TaskMessage
from ..transport.launch import ChildSettings, WorkerSpec
from ..transport.link import Link
from ..transport.messages import Kind, Message, pack, pack_answer, unpack_fields, unpack_state, unpack_task
from ..transport.run_dir import arena_path
from ..transport.shared_frames import ChildArena
from ..transport.status_page import StatusPage
from .setup import rss_bytes, unpack_user_code

_LOG = logging.getLogger("sluiceway")


class WorkerHost:
    """The connection of a worker's loop to its process and to the hub."""

    def __init__(self, settings: ChildSettings, link: Link, page: StatusPage) -> None:
        self.link = link
        self.page = page
        self.name = settings.name
        self.index = WorkerName.parse(settings.name).index
        folder = Path(settings.spec_path).parent
        self.spec: WorkerSpec = loads(Path(settings.spec_path).read_bytes())
        self._handlers = unpack_user_code(folder, self.spec.handlers)
        self.closers: list[Callable[[], Any]] = []
        self._arena = ChildArena(arena_path(folder))
        self._memory = GrowthCollector.of_this_process()
        self._events = 0
        self._leaving = False

    def build_handlers(self) -> list[Callable[..., Any] | None]:
        """Build the handlers; `closers` then holds the functions that close them."""
        nodes = [step.node for step in self.spec.program.steps]
        return build_all(self._handlers, self.closers, nodes=nodes, worker=self.index)

    def read_task(self, message: Message) -> TaskMessage:
        """Return the task of a message; its large frames are in the arena."""
        task: TaskMessage = unpack_fields("the calling process", message, lambda it: unpack_task(it, self._arena))
        return task

    def handle_state(self, states: States, message: Message) -> None:
        """Send the states of the handlers, or restore them; if that fails, the run ends."""
        try:
            if message.kind is Kind.RESTORE:
                nodes = dict.fromkeys(step.node for step in self.spec.program.steps)
                restore_stored(states.restore, unpack_state(message), f"a state of {'+'.join(nodes)!r}")
                return
            packed = dumps(states.snapshot())
        except Exception as error:
            self.link.send(start_failure(error))
            return
        self.link.send(pack(Kind.STATED, message.fields[0], frames=[packed]))

    def share(self, payload: Payload, grant: Grant | None) -> Payload:
        """Write the large frames of a payload into the memory granted, as far as they fit."""
        return self._arena.share(payload, grant)

    def send_answer(self, answer: AnswerMessage) -> None:
        """Send an answer."""
        self._events += answer.size
        self.link.send(pack_answer(answer))

    def return_rest(self, task: int, number: int) -> None:
        """Return the numbers of a task from `number` on, unanswered."""
        self.link.send(pack(Kind.RETURNED, task, number))

    def tidy(self) -> None:
        """Do what is due behind a task: collect garbage if the memory has grown, ask to be replaced at a limit."""
        if self._memory is not None:
            self._memory.collect_if_grown()
        self.leave_if_due()

    def leave_if_due(self) -> None:
        """Ask to be replaced if this worker has handled its number of events or has grown beyond its memory limit."""
        spec = self.spec
        if self._leaving:
            return
        if spec.max_events is not None and self._events >= spec.max_events:
            self.ask_to_be_replaced(f"max_events_per_worker={spec.max_events} reached")
        elif spec.max_rss_bytes is not None and rss_bytes() > spec.max_rss_bytes:
            self.ask_to_be_replaced(f"max_rss_bytes={spec.max_rss_bytes} passed")

    def ask_to_be_replaced(self, why: str) -> None:
        """Ask to be replaced; the worker continues until the hub says stop."""
        self._leaving = True
        self.link.send(pack(Kind.LEAVING, why))

    def close(self) -> None:
        """Close the handlers, the last built first; what they raise is logged."""
        for close in reversed(self.closers):
            try:
                close_handler(close)
            except BaseException:  # also a sys.exit(): the others are closed as well
                _LOG.warning("the close() of a handler raised in worker %s", self.name, exc_info=True)


def start_failure(error: BaseException) -> list[Any]:
    """Return the message for a worker that cannot start, or cannot send or restore its states."""
    text = "".join(traceback.format_exception(error))
    return pack(Kind.FAILED, describe(error), text, "", 0, 0.0, frames=[pack_cause(error)])
