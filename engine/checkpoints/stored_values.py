"""Values out of a store of checkpoints, unpacked again.

Decides what is said where one cannot be: what is there was written, so most often code that it names has moved since.
"""

from __future__ import annotations

from typing import Any

import cloudpickle

from ...nodes.errors import CheckpointError, describe
from ...nodes.state.stateful import States


def unpacked(packed: Any, what: str) -> Any:
    """Return a value that was packed; `what` is what errors call it.

    Raises `CheckpointError` for one that cannot be unpacked, whatever pickle or the classes of its parts raise.
    """
    try:
        return cloudpickle.loads(packed)
    except Exception as error:
        raise unreadable(what, error) from error


def take_on(states: States, packed: Any, what: str) -> None:
    """Unpack the states of handlers and let them take them on; raises `CheckpointError` where either cannot be."""
    values = unpacked(packed, what)
    try:
        states.restore(values)
    except Exception as error:
        raise CheckpointError(
            f"cannot resume: {what} cannot be taken on ({describe(error)}); run the handlers as they were, or begin"
            " afresh with resume='never'"
        ) from error


def unreadable(what: str, error: BaseException) -> CheckpointError:
    """Return the error for a stored value that cannot be unpacked."""
    if isinstance(error, (ImportError, AttributeError)):
        why = "it names a module or class that cannot be imported here; put that back under its old name"
    else:
        why = "it is damaged, or its classes are others now; put back what it was written with"
    return CheckpointError(
        f"cannot resume: {what} cannot be unpacked ({describe(error)}): {why}, or begin afresh with resume='never'"
    )
