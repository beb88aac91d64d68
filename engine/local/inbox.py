"""The mail of a run: what its children say, turned into the inputs of core, crew and intake.

Decides which message may come from whom: what does not fit is a `ProtocolError` that names the peer, and the late words
of a process that is gone are dropped, but for its logs and prints.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from ...nodes.errors import ProtocolError
from ...nodes.ordering.dispatcher import Dispatcher
from ...nodes.ordering.worker_name import WorkerName
from ..hub.backend import RunHandle
from ..plan.plan import Plan
from ..reporting import failures
from ..tasks.task import AnswerMessage
from . import child_output
from .grants import Grants
from .remote_sources import RemoteSources
from .supervisor import Crew
from .transport import messages as wire
from .transport.router import Received, Router

_LOG = logging.getLogger("sluiceway")
#: Messages taken in before the core is asked what follows from them.
MOST_MESSAGES = 256


class Mail:
    """Takes in the messages of one run; used by the hub's thread."""

    def __init__(
        self, plan: Plan, run: RunHandle, port: Router, crew: Crew, sources: RemoteSources, grants: Grants
    ) -> None:
        self._plan, self._run, self._core, self._port = plan, run, run.core, port
        self._crew, self._sources, self._grants = crew, sources, grants

    def take_some(self) -> bool:
        """Take in messages, a bounded number; gives whether there may be more."""
        for _ in range(MOST_MESSAGES):
            letter = self._port.receive()
            if letter is None:
                return False
            self._message(letter)
        return True

    def take_all(self) -> None:
        """Take in all that is there: what the dead sent before their end still counts."""
        while self.take_some():
            continue

    def _message(self, letter: Received) -> None:
        peer, message = letter.peer, letter.open()
        kind = message.kind
        if kind is wire.Kind.LOG:
            child_output.log(peer, message)
        elif kind is wire.Kind.PRINT:
            child_output.show(*message.fields)
        elif not letter.registered:
            return  # late words of a process that is gone: its numbers are in other hands
        elif kind is wire.Kind.ANSWER:
            self._answer(peer, message)
        elif kind is wire.Kind.CHUNK:
            self._sources.record_chunk(peer, message)
        elif kind is wire.Kind.READY:
            self._ready(peer)
        elif kind is wire.Kind.STATED:
            self._core.stated(peer, message.fields[0], wire.unpack_fields(peer, message, wire.unpack_state))
        elif kind is wire.Kind.PARKED:
            self._tell(peer, Dispatcher.record_parked, *message.fields)
        elif kind is wire.Kind.RETURNED:
            self._grants.returned(peer, message.fields[0])
            self._tell(peer, Dispatcher.record_return, *message.fields)
        elif kind is wire.Kind.ENDED:
            self._sources.record_end(peer, message.fields[1])
        elif kind is wire.Kind.FAILED:
            self._failed(peer, message)
        elif kind is wire.Kind.NEED:
            self._define(peer, message.fields[0])
        elif kind is wire.Kind.LEAVING:
            self._crew.leaving(peer, message.fields[0])
            self._tell(peer, Dispatcher.record_leaving)
        else:
            raise ProtocolError(f"cannot take a {kind.name} from {peer}: only the calling process sends it")

    def _tell(self, peer: str, what: Callable[..., None], *fields: int) -> None:
        """Tell the dispatcher of a worker what it says of itself."""
        if (dispatcher := self._core.dispatcher_of(peer)) is not None:
            what(dispatcher, peer, *fields)

    def _answer(self, peer: str, message: wire.Message) -> None:
        if not self._crew.is_worker(peer):
            raise ProtocolError(f"cannot take an ANSWER from {peer}: it is no worker")
        shared, slot = self._grants.of(peer, message.fields[0])
        answer: AnswerMessage = wire.unpack_fields(peer, message, lambda it: wire.unpack_answer(it, shared, slot))
        wired = self._core.wiring.pools[WorkerName.parse(peer).pool]
        if (len(answer.exits), len(answer.tallies)) != (len(wired.exits), len(wired.program.steps)):
            raise ProtocolError(f"cannot take an ANSWER from {peer}: it is not that of a worker of pool {wired.name!r}")
        if answer.start + answer.size > self._core.sequencer.next:
            raise ProtocolError(f"cannot take an ANSWER from {peer}: it is for numbers that were never handed out")
        self._grants.answered(peer, answer)
        self._core.answered(
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

    def _ready(self, peer: str) -> None:
        self._port.flush_pending(peer)
        self._core.joined(peer)
        self._crew.ready(peer)
        self._run.record_up()

    def _failed(self, peer: str, message: wire.Message) -> None:
        if self._sources.is_source(peer):
            self._sources.record_failure(peer, message)
            return
        text, remote, *_ = message.fields
        pool = self._plan.pools[WorkerName.parse(peer).pool]
        why = failures.cause(message.frames, text, remote)
        self._run.fail(failures.start_error(pool.name, text, why))

    def _define(self, peer: str, name: str) -> None:
        packed = child_output.definition(name)
        self._port.send(peer, wire.pack(wire.Kind.DEFINE, name, packed is not None, frames=[packed or b""]))

    def listen(self) -> None:
        """Take in what children still say while they close: logs and prints; late answers are of no use."""
        for _ in range(MOST_MESSAGES):
            try:
                letter = self._port.receive()
                if letter is None:
                    return
                message = letter.open()
                if message.kind is wire.Kind.LOG:
                    child_output.log(letter.peer, message)
                elif message.kind is wire.Kind.PRINT:
                    child_output.show(*message.fields)
                elif message.kind is wire.Kind.READY:
                    self._port.flush_pending(letter.peer)
            except ProtocolError as error:
                _LOG.warning("%s", error)
