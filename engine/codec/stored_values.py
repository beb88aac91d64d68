"""Values that a checkpoint, an order log or a snapshot holds, decoded again.

Decides what the error says of one that cannot be decoded: it was written whole, so code that it names has probably moved.
Where such values are kept is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cloudpickle

from ...nodes.errors import CheckpointError, describe


def decode_stored(packed: Any, what: str) -> Any:
    """Return the value that was pickled in `packed`; `what` is its name in error texts.

    Raises `CheckpointError` for one that cannot be unpickled, whatever pickle or the classes of its parts raise.
    """
    try:
        return cloudpickle.loads(packed)
    except Exception as error:
        raise unreadable(what, error) from error


def restore_stored(restore: Callable[[Any], object], packed: Any, what: str) -> None:
    """Decode the states of handlers and pass them to `restore`; raises `CheckpointError` where either fails."""
    values = decode_stored(packed, what)
    try:
        restore(values)
    except Exception as error:
        raise CheckpointError(
            f"cannot resume: {what} cannot be taken on ({describe(error)}); run the handlers as they were, or begin"
            " afresh with resume='never'"
        ) from error


def unreadable(what: str, error: BaseException) -> CheckpointError:
    """Return the error for a stored value that cannot be decoded."""
    if isinstance(error, (ImportError, AttributeError)):
        why = "it names a module or class that cannot be imported here; put that back under its old name"
    else:
        why = "it is damaged, or its classes are others now; put back what it was written with"
    return CheckpointError(
        f"cannot resume: {what} cannot be unpacked ({describe(error)}): {why}, or begin afresh with resume='never'"
    )
