"""How a run over a backend ended, and which error that is for the caller."""

from __future__ import annotations

from msgspec import Struct, field

from ...nodes.errors import HandlerError, LostEvents
from ..core.effects import Finish
from ..reporting import failures


class Outcome(Struct):
    """How a run ended: why, with which error, and what it took to stop each of its workers and remote sources."""

    ended_by: str
    finish: Finish | None = None
    error: BaseException | None = None
    children: dict[str, str] = field(default_factory=dict)

    @property
    def orderly(self) -> bool:
        """Whether the workers are idle, so that it is worth waiting for their handlers to close."""
        finish = self.finish
        return finish is not None and self.error is None and finish.failure is None and finish.lost_state is None


def error_of(outcome: Outcome, delivered: int, read: int) -> BaseException | None:
    """Return the error that an ended run raises, if any; `delivered` of `read` numbers have reached the sinks."""
    finish = outcome.finish
    if outcome.error is not None or finish is None:
        return outcome.error
    if finish.failure is not None:
        return failures.handler_error(finish.failure)
    if finish.source_error is not None:
        error: BaseException = finish.source_error
        return error
    if finish.start_up is not None:
        pool, worker, cause = finish.start_up
        return HandlerError(
            f"the workers of {pool!r} die at their start, before any event: worker {worker} {cause}; look at what"
            " the handlers import or build",
            node=pool,
        )
    if finish.lost_state is not None:
        return failures.lost_state(finish.lost_state, delivered)
    if delivered < read:
        return LostEvents(
            f"numbers {delivered} to {read - 1} were read and never released; this is a fault of sluiceway, report it"
        )
    return None
