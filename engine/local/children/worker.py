"""The loop of a worker whose program does not await: one task after the other.

Decides nothing about order or credit, nor how a task is run: it receives messages and passes tasks to the runner.
"""

from __future__ import annotations

from ....nodes.dispatch.blame import Phase
from ....nodes.errors import ProtocolError, with_article
from ...tasks.runner import TaskRunner
from ..transport.messages import Kind
from .setup import send_ready
from .worker_host import WorkerHost

_POLL_MS = 500


class Worker:
    """Serves tasks one after the other."""

    def __init__(self, host: WorkerHost) -> None:
        self._host = host
        spec = host.spec
        self._runner = TaskRunner(
            spec.program, host.build_handlers(), worker=host.index, ordered=spec.ordered, progress=host.page, outbox=host
        )

    def serve(self) -> None:
        """Answer tasks until the hub says stop."""
        host, link, page, runner = self._host, self._host.link, self._host.page, self._runner
        send_ready(link)
        page.phase(Phase.IDLE)
        while True:
            message = link.receive(_POLL_MS)
            if message is None:
                continue
            if message.kind is Kind.STOP:
                return
            if message.kind is Kind.TASK:
                runner.run(host.read_task(message))
                page.phase(Phase.IDLE)
                host.tidy()
            elif message.kind in (Kind.STATE, Kind.RESTORE):
                host.handle_state(runner.executor.states, message)
            elif message.kind is not Kind.DEFINE:
                raise ProtocolError(f"a worker cannot take {with_article(message.kind.name)} from the calling process")
