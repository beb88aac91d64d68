"""What arrives in the calling process beside answers: logs, prints and errors of children, turned into the caller's own.

Decides how a remote error becomes an exception here, and that the caller's own logging settings rule.
"""

from __future__ import annotations

import logging
import pickle
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ormsgpack
import zmq

from ...nodes.errors import (
    CheckpointError,
    HandlerError,
    HandlerTimeout,
    ProtocolError,
    SourceError,
    WorkerDied,
    describe,
)
from ...nodes.events import Failure
from ...nodes.ordering.barrier import FailureRecord
from ..codec.codec import Payload, decode
from ..codec.errors import CodecError
from ..codec.pickling import dumps
from ..local.transport.messages import Message

if TYPE_CHECKING:
    from zmq.auth.thread import ThreadAuthenticator

_LOG = logging.getLogger("sluiceway")


class RemoteError(Exception):
    """Stands for an exception of another process that could not be sent; its text is that exception's."""


def logger_levels() -> dict[str, int]:
    """Give the levels that are set in this process, so that children send no more than is wanted."""
    levels = {"": logging.root.level}
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and logger.level:
            levels[name] = logger.level
    return levels


def prints_are_captured() -> bool:
    """Whether stdout or stderr of this process is not the one that children inherit: a notebook, a test."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is None or stream.fileno() != number:
                return True
        except (OSError, ValueError, AttributeError):
            return True
    return False


def log(peer: str, message: Message) -> None:
    """Give a child's log record to this process's logging."""
    try:
        fields = ormsgpack.unpackb(message.frames[0])
        record = logging.makeLogRecord(fields)
        name = str(fields["name"])
    except (ValueError, TypeError, KeyError, IndexError):
        raise ProtocolError(f"cannot take a log record from {peer}: its fields are not those of the format") from None
    logger = logging.getLogger(name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def show(number: int, text: str) -> None:
    """Print what a child printed, a line at a time."""
    stream = sys.stderr if number == 2 else sys.stdout
    if stream is not None:
        stream.write(text)
        stream.flush()


def warn_skipped(failure: Failure | FailureRecord) -> None:
    """Log one of the first skipped events."""
    _LOG.warning(
        "node %r skipped number %d (index %d): %s", failure.node, failure.seq, failure.index, failure.error
    )


def cause(frames: Sequence[Any], text: str, remote: str) -> BaseException:
    """Give the exception that a child sent, or one that carries its text when it could not be sent."""
    packed = bytes(frames[0]) if frames else b""
    error: BaseException = RemoteError(text)
    if packed:
        try:
            loaded = pickle.loads(packed)
        except Exception as why:  # a constructor of the user's that needs more than it was pickled with
            _LOG.debug("an exception cannot be rebuilt here: %s", type(why).__name__)
        else:
            if isinstance(loaded, BaseException):
                error = loaded
    if remote:
        error.add_note("remote traceback:\n" + remote.rstrip())
    return error


def source_error(
    name: str, text: str, position: str, count: int, why: BaseException
) -> SourceError | CheckpointError:
    """Build the error for a source that raised; what says enough of itself is given as it is."""
    if isinstance(why, (SourceError, CheckpointError)):
        return why
    error = SourceError(
        f"source {name!r} failed after {count} events (position {position}): {text}; everything it gave before is"
        " released",
        node=name,
    )
    error.position = position
    error.__cause__ = why
    return error


def start_error(pool: str, text: str, why: BaseException) -> HandlerError | CheckpointError:
    """Return the error for handlers that cannot be built in a worker, or cannot go on from the state of a checkpoint."""
    if isinstance(why, CheckpointError):
        return why
    error = HandlerError(
        f"the handlers of {pool!r} cannot be built in a worker: {text}; no event was handled, mend the constructor"
        " or what the handler captures",
        node=pool,
    )
    error.__cause__ = why
    return error


def handler_error(record: FailureRecord) -> HandlerError:
    """Build the error that ends a run at the lowest failed number."""
    event_payload, packed = record.payload or (None, b"")
    return failure_error(record, event_of(event_payload), cause([packed], record.error, record.traceback))


def failure_error(record: Any, event: Any, why: BaseException | None) -> HandlerError:
    """Build the error for a failure (a `Failure` or a `FailureRecord`) with its event and cause at hand."""
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


def event_of(payload: Payload | None) -> Any:
    """Decode the one event of a failure, or give `None` where it is not there or cannot be decoded."""
    if payload is None:
        return None
    try:
        return decode(payload)[0]
    except (CodecError, IndexError) as error:
        _LOG.warning("an event of a failure cannot be shown: %s", describe(error))
        return None


def definition(name: str) -> bytes | None:
    """Pack what a dotted name stands for in this process's `__main__`, for a child that needs it; `None` without one."""
    value: Any = sys.modules.get("__main__")
    try:
        for part in name.split("."):
            value = getattr(value, part)
        return dumps(value)
    except Exception as error:  # whatever it is, the child reports it with the number it concerns
        _LOG.debug("there is no definition of %s to send: %s", name, type(error).__name__)
        return None


def allow_only(socket: zmq.Socket[bytes], secret: bytes, key: bytes) -> ThreadAuthenticator:
    """Make a TCP socket take only peers that hold the run's own key (CURVE, https://rfc.zeromq.org/spec/26/)."""
    from zmq.auth.thread import ThreadAuthenticator  # brings asyncio along; only TCP needs it

    class OneKey:
        def callback(self, domain: str, given: bytes) -> bool:
            return given == key

    authenticator = ThreadAuthenticator(socket.context)
    authenticator.start()
    authenticator.configure_curve_callback(domain="sluiceway", credentials_provider=OneKey())
    socket.set(zmq.CURVE_SECRETKEY, secret)
    socket.set(zmq.CURVE_PUBLICKEY, zmq.curve_public(secret))
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.ZAP_DOMAIN, b"sluiceway")
    return authenticator
