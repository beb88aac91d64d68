"""Receives the messages of a run's children and records them at the core, the supervisor and the remote sources.

Decides which message may come from which child: any other is a `ProtocolError` that names it. Late messages of a
process that has exited are dropped, except its logs and prints.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from ...nodes.dispatch.dispatcher import Dispatcher
from ...nodes.dispatch.worker_name import WorkerName
from ...nodes.errors import ProtocolError, with_article
from ..hub.backend import RunHandle
from ..plan.plan import Plan
from ..reporting import failures
from ..tasks.task import AnswerMessage
from . import child_output
from .grants import Grants
from .remote_sources import RemoteSources
from .supervisor import Supervisor
from .transport import messages
from .transport.router import Received, Router

_LOG = logging.getLogger("sluiceway")
#: How many messages are handled before the core is asked for effects.
MAX_MESSAGES = 256


class Inbox:
    """The messages of one run; used by the hub's thread."""

    def __init__(
        self,
        plan: Plan,
        run: RunHandle,
        router: Router,
        supervisor: Supervisor,
        sources: RemoteSources,
        grants: Grants,
        count: Callable[[str, int], None] | None,
    ) -> None:
        self._plan, self._run, self._core, self._router = plan, run, run.core, router
        self._supervisor, self._sources, self._grants = supervisor, sources, grants
        self._count = count  #: hears how many numbers each worker has answered
        self._output = child_output.ChildOutput()

    def receive_some(self) -> bool:
        """Handle the messages that are there, a bounded number of them; return whether there may be more."""
        for _ in range(MAX_MESSAGES):
            received = self._router.receive()
            if received is None:
                return False
            self._handle(received)
        return True

    def receive_all(self) -> None:
        """Handle all messages that are there: what a process sent before it exited still counts."""
        while self.receive_some():
            continue

    def _handle(self, received: Received) -> None:
        peer, message = received.peer, received.open()
        kind = message.kind
        if kind is messages.Kind.LOG:
            self._output.log(peer, message)
        elif kind is messages.Kind.PRINT:
            self._output.show(*message.fields)
        elif not received.registered:
            return  # late message of an exited process; its numbers were reassigned
        elif kind is messages.Kind.ANSWER:
            self._record_answer(peer, message)
        elif kind is messages.Kind.CHUNK:
            self._sources.record_chunk(peer, message)
        elif kind is messages.Kind.READY:
            self._record_ready(peer)
        elif kind is messages.Kind.STATED:
            self._core.record_state(peer, message.fields[0], messages.unpack_fields(peer, message, messages.unpack_state))
        elif kind is messages.Kind.PARKED:
            self._tell_dispatcher(peer, Dispatcher.record_parked, *message.fields)
        elif kind is messages.Kind.RETURNED:
            self._grants.record_return(peer, message.fields[0])
            self._tell_dispatcher(peer, Dispatcher.record_return, *message.fields)
        elif kind is messages.Kind.ENDED:
            self._sources.record_end(peer, message.fields[1])
        elif kind is messages.Kind.FAILED:
            self._record_failure(peer, message)
        elif kind is messages.Kind.NEED:
            self._send_definition(peer, message.fields[0])
        elif kind is messages.Kind.LEAVING:
            self._supervisor.record_leaving(peer, message.fields[0])
            self._tell_dispatcher(peer, Dispatcher.record_leaving)
        else:
            raise ProtocolError(f"cannot take {with_article(kind.name)} from {peer}: only the calling process sends it")

    def _tell_dispatcher(self, peer: str, method: Callable[..., None], *fields: int) -> None:
        """Call a method of the worker's dispatcher, unless the worker has exited."""
        if (dispatcher := self._core.dispatcher_of(peer)) is not None:
            method(dispatcher, peer, *fields)

    def _record_answer(self, peer: str, message: messages.Message) -> None:
        if not self._supervisor.is_worker(peer):
            raise ProtocolError(f"cannot take an ANSWER from {peer}: it is not a worker")
        shared, slot = self._grants.find(peer, message.fields[0])
        answer: AnswerMessage = messages.unpack_fields(peer, message, lambda it: messages.unpack_answer(it, shared, slot))
        wired = self._core.wiring.pools[WorkerName.parse(peer).pool]
        if (len(answer.exits), len(answer.tallies)) != (len(wired.exits), len(wired.program.steps)):
            raise ProtocolError(f"cannot take an ANSWER from {peer}: it is not that of a worker of pool {wired.name!r}")
        if answer.start + answer.size > self._core.sequencer.next:
            raise ProtocolError(f"cannot take an ANSWER from {peer}: it is for numbers that were never handed out")
        self._grants.record_answer(peer, answer)
        if self._count is not None:
            self._count(peer, answer.size)
        self._core.record_answer(
            peer,
            answer.task,
            answer.start,
            answer.size,
            answer.exits,
            answer.failures,
            answer.tallies,
            answer.seconds,
            monotonic(),
        )

    def _record_ready(self, peer: str) -> None:
        self._router.flush_pending(peer)
        self._core.record_ready(peer)
        self._supervisor.record_ready(peer)
        if self._sources.is_source(peer):
            self._sources.record_ready(peer)
        self._run.record_up()

    def _record_failure(self, peer: str, message: messages.Message) -> None:
        if self._sources.is_source(peer):
            self._sources.record_failure(peer, message)
            return
        text, remote, *_ = message.fields
        pool = self._plan.pools[WorkerName.parse(peer).pool]
        why = failures.rebuild_exception(message.frames, text, remote)
        self._run.fail(failures.start_error(pool.name, text, why))

    def _send_definition(self, peer: str, name: str) -> None:
        packed = child_output.definition(name)
        self._router.flush_pending(peer)  # one that asks before it is ready waits for the answer
        self._router.send(peer, messages.pack(messages.Kind.DEFINE, name, packed is not None, frames=[packed or b""]))

    def receive_output(self) -> None:
        """Handle what children still log and print while they close; late answers are dropped."""
        for _ in range(MAX_MESSAGES):
            try:
                received = self._router.receive()
                if received is None:
                    return
                message = received.open()
                if message.kind is messages.Kind.LOG:
                    self._output.log(received.peer, message)
                elif message.kind is messages.Kind.PRINT:
                    self._output.show(*message.fields)
                elif message.kind is messages.Kind.READY:
                    self._router.flush_pending(received.peer)
                elif message.kind is messages.Kind.NEED:
                    self._send_definition(received.peer, message.fields[0])
            except ProtocolError as error:
                _LOG.warning("%s", error)
