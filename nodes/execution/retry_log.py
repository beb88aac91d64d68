"""The line of the log that says that an event is tried again; a process that does not show it pays next to nothing."""

from __future__ import annotations

import logging

from ..errors import describe
from ..program.program import Step

_LOG = logging.getLogger("sluiceway")


def log_retry(step: Step, name: tuple[int, int], error: BaseException, attempt: int) -> None:
    """Log that attempt number `attempt` at an event follows an error of the one before."""
    if _LOG.isEnabledFor(logging.INFO):
        _LOG.info(
            "node %r tries number %d (index %d) again, attempt %d of %d: %s",
            step.node, *name, attempt, 1 + step.options.retries, describe(error),
        )  # fmt: skip
