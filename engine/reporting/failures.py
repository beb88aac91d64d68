"""Turns the failures of handlers, sources and workers into the exceptions that a run raises.

Decides how the error of another process becomes an exception of this one. Does not know how the failure got here.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Sequence
from typing import Any

from ...nodes.errors import (
    CheckpointError,
    HandlerError,
    HandlerTimeout,
    SluicewayError,
    SourceError,
    WorkerDied,
    describe,
)
from ...nodes.events import Failure
from ...nodes.ordering.barrier import FailureRecord
from ...nodes.program.failures import USER_ERRORS
from ..codec.codec import Payload, decode
from ..codec.errors import CodecError

_LOG = logging.getLogger("sluiceway")
#: The longest position that a text shows, in characters.
_LONGEST_POSITION = 40


class RemoteError(Exception):
    """Replaces an exception of another process that could not be sent; has its text."""


def warn_skipped(failure: Failure | FailureRecord) -> None:
    """Log a skipped event; callers log the first few only."""
    _LOG.warning(
        "node %r skipped number %d (index %d): %s", failure.node, failure.seq, failure.index, failure.error
    )


def rebuild_exception(frames: Sequence[Any], text: str, remote: str) -> BaseException:
    """Return the exception that a child sent, or a `RemoteError` with its text if it could not be sent or rebuilt."""
    packed = bytes(frames[0]) if frames else b""
    error: BaseException = RemoteError(text)
    if packed:
        try:
            loaded = pickle.loads(packed)
        except USER_ERRORS as why:  # a constructor of the user's that needs more arguments than were pickled
            _LOG.debug("an exception of another process cannot be rebuilt: %s", type(why).__name__)
        else:
            if isinstance(loaded, BaseException):
                error = loaded
    if remote:
        error.add_note("remote traceback:\n" + remote.rstrip())
    return error


def engine_error(error: BaseException) -> BaseException:
    """Return the error of a run that met `error` outside user code.

    An error from outside sluiceway is wrapped in one that explains it.
    """
    if isinstance(error, SluicewayError) or not isinstance(error, Exception):
        return error
    wrapped = SluicewayError(
        f"the run cannot go on in the calling process: {describe(error)}; if the system lacks descriptors, processes, memory"
        " or room in the folder for temporary files (TMPDIR), make room or set fewer workers"
    )
    wrapped.__cause__ = error
    return wrapped


def source_error(
    name: str, text: str, position: str, count: int, why: BaseException
) -> SourceError | CheckpointError:
    """Return the error for a source that raised; a `SourceError` or `CheckpointError` is returned unchanged."""
    if isinstance(why, (SourceError, CheckpointError)):
        return why
    error = SourceError(
        f"source {name!r} failed after {count} events{_shown_position(position)}: {text}; everything it gave before is"
        " released",
        node=name,
    )
    error.position = position
    error.__cause__ = why
    return error


def _shown_position(position: str) -> str:
    """Return a position for an error text: one of many parts says nothing to a person, and stays in the attribute."""
    return f" (position {position})" if position and len(position) <= _LONGEST_POSITION else ""


def start_error(pool: str, text: str, why: BaseException) -> HandlerError | CheckpointError:
    """Return the error for handlers that cannot be built in a worker, or cannot continue from a checkpoint."""
    if isinstance(why, CheckpointError):
        return why
    error = HandlerError(
        f"the handlers of {pool!r} cannot be built in a worker: {text}; no event was handled; correct the constructor"
        " or what the handler captures",
        node=pool,
    )
    error.__cause__ = why
    return error


def handler_error(record: FailureRecord) -> HandlerError:
    """Return the error that ends a run at the lowest failed number."""
    event_payload, packed = record.payload or (None, b"")
    return failure_error(record, event_of(event_payload), rebuild_exception([packed], record.error, record.traceback))


def failure_error(record: Any, event: Any, why: BaseException | None) -> HandlerError:
    """Return the error for a failure (a `Failure` or a `FailureRecord`) with its event and its cause."""
    times = f"{record.attempts} attempt" + ("s" if record.attempts != 1 else "")
    remedy = "set on_error='skip' or 'dead_letter' to go on without it"
    kinds = {"died": WorkerDied, "timeout": HandlerTimeout}
    error = kinds.get(record.kind, HandlerError)(
        f"node {record.node!r} failed on number {record.seq} (index {record.index}) after {times}: {record.error};"
        f" everything below {record.seq} is released, {remedy}",
        seq=record.seq,
        index=record.index,
        node=record.node,
        event=event,
    )
    if record.kind == "error":
        error.__cause__ = why
    return error


def lost_state(record: FailureRecord, delivered: int) -> WorkerDied:
    """Return the error for a number that was answered, and that no worker survives repeating after its state was lost."""
    return WorkerDied(
        f"node {record.node!r} cannot make its state again: each of {record.attempts} workers died while it repeated number"
        f" {record.seq}, which was answered before ({record.error}); everything below {delivered} is released, mend what"
        " happens when that event is unpacked, handled or freed",
        seq=record.seq,
        index=record.index,
        node=record.node,
    )


def event_of(payload: Payload | None) -> Any:
    """Return the one event of a failure, or `None` if there is none or it cannot be decoded."""
    if payload is None:
        return None
    try:
        return decode(payload)[0]
    except (CodecError, IndexError) as error:
        _LOG.warning("an event of a failure cannot be shown: %s", describe(error))
        return None
