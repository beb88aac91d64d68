"""What children print and log, shown by the calling process; and what of its `__main__` they need.

Decides that the calling process's own logging settings and output streams rule.
"""

from __future__ import annotations

import contextlib
import logging
import sys

from ...nodes.errors import ProtocolError, describe
from ..codec.picklers import dumps_definition
from ..codec.pickling import find_of_script
from .transport.log_records import unpack_record
from .transport.messages import Message

_LOG = logging.getLogger("sluiceway")


def logger_levels() -> dict[str, int]:
    """Return the levels that are set in this process, by logger, so that children send no more than is wanted."""
    levels = {"": logging.root.level}
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and logger.level:
            levels[name] = logger.level
    return levels


def prints_are_captured() -> bool:
    """Whether stdout or stderr of this process is not the one that children inherit, as in a notebook or a test."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is None or stream.fileno() != number:
                return True
        except (OSError, ValueError, AttributeError):
            return True
    return False


def log(peer: str, message: Message) -> None:
    """Pass a child's log record to the logging of this process; raise `ProtocolError` if it is malformed."""
    try:
        record = unpack_record(list(message.frames))
    except (ValueError, TypeError, KeyError, IndexError):
        raise ProtocolError(f"cannot take a log record from {peer}: its fields are not those of the format") from None
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


class ChildOutput:
    """Shows what the children of one run log and print. What the calling process's own streams, logging handlers and
    filters raise is logged once for each of them, and the run goes on.
    """

    def __init__(self) -> None:
        self._broken: set[str] = set()

    def log(self, peer: str, message: Message) -> None:
        """Pass a child's log record to the logging of this process; raise `ProtocolError` if it is malformed."""
        try:
            log(peer, message)
        except ProtocolError:
            raise
        except Exception as error:
            self._complain(f"log records of {peer}: a logging handler or filter", error)

    def show(self, number: int, text: str) -> None:
        """Print what a child printed: `number` is 1 for stdout, 2 for stderr."""
        name = "stderr" if number == 2 else "stdout"
        stream = getattr(sys, name)
        if stream is None:
            return
        try:
            stream.write(text)
            stream.flush()
        except Exception as error:
            self._complain(f"what workers print: sys.{name}", error)

    def _complain(self, what: str, error: Exception) -> None:
        where, _, who = what.rpartition(": ")
        if who in self._broken:
            return
        self._broken.add(who)
        with contextlib.suppress(Exception):  # the logging of this process may be broken, and is all there is
            _LOG.warning("cannot show %s of the calling process raised %s; the run goes on", where + ": " + who, describe(error))


def definition(name: str) -> bytes | None:
    """Return the pickled value of a dotted name in the `__main__` of this process; `None` if it has none."""
    try:
        return dumps_definition(find_of_script(name))
    except Exception as error:  # whatever it is, the child reports it with the number it concerns
        _LOG.debug("there is no definition of %s to send: %s", name, type(error).__name__)
        return None
