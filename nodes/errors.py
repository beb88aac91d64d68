"""The errors that sluiceway raises, and how their texts name an exception and the type of a value.

Every error says what was attempted, on which node and number, which rule broke and what to do. A text never holds
an event; `.event` does.
"""

from __future__ import annotations

from typing import Any


class SluicewayError(Exception):
    """Base of every error of sluiceway; `report` is the `RunReport` of the run that failed, where there was one."""

    report: Any = None


class GraphError(SluicewayError):
    """A graph that cannot run as it is wired; the text names the node and the remedy."""


class ProtocolError(SluicewayError):
    """Bytes on a socket that no peer of this run may send; the text names the peer."""


class LostEvents(SluicewayError):
    """A run that ended without an answer for some numbers; the text names the numbers and what is known of them."""


class NodeError(SluicewayError):
    """User code failed at a node.

    Attributes: `seq` and `index` name the event (`None` where no single event is to blame), `node` the node, `event`
    is the event itself as the node was given it (`None` where it is unknown).
    """

    def __init__(
        self, message: str, *, seq: int | None = None, index: int | None = None, node: str = "", event: Any = None
    ) -> None:
        super().__init__(message)
        self.seq = seq
        self.index = index
        self.node = node
        self.event = event


class HandlerError(NodeError):
    """A handler raised under `on_error="fail"`; the original exception is `__cause__`."""


class WorkerDied(HandlerError):
    """A process of the run died; `seq` and `node` say which event it was on, where one is to blame."""


class HandlerTimeout(HandlerError):
    """A handler worked on one event for longer than its `timeout_s`."""


class SourceError(NodeError):
    """A source raised or broke its promise; everything read before is released. `position` is how far it was read."""

    position: Any = None


class SinkError(NodeError):
    """A sink raised; nothing above `seq` was delivered to any ordered sink."""


class CheckpointError(SluicewayError):
    """A run cannot go on from a checkpoint, or cannot make one: the text says what differs and what to do."""


class LockError(SluicewayError):
    """A run was not started because its lock could not be acquired; the lock's own error is `__cause__`."""


class LockHeld(LockError):
    """A run was not started because another one holds its lock."""


class LockLost(LockError):
    """A run was stopped because its lock is lost or may be: another run may have begun to work."""


class GiveUp(Exception):
    """Raised by a handler that knows that another attempt will not help: the event fails at once, whatever its `retries`.

    `on_error` decides what becomes of it, as of every failed event. `raise sw.GiveUp("gone") from error` keeps the cause in
    the traceback.
    """


#: How much of an exception's text a line shows, in characters; the exception itself keeps all of it.
_LONGEST_TEXT = 2000


def describe(error: BaseException) -> str:
    """Return `Type: text` on one line of bounded length, also for an exception whose `__str__` raises."""
    try:
        text = " ".join(str(error).split())
    except Exception as second:
        text = f"<text unavailable: its __str__ raised {type(second).__name__}>"
    if len(text) > _LONGEST_TEXT:
        text = f"{text[:_LONGEST_TEXT]}... ({len(text):,} characters)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


#: The beginnings of names that take "an".
_SAID_WITH_VOWEL = ("a", "e", "i", "o", "ndarray", "unbound", "undefined", "unknown")


def kind_of(value: object) -> str:
    """Return what a value is, with its article: "an int", "a dict", "None"."""
    return "None" if value is None else with_article(type(value).__name__)


def with_article(name: str) -> str:
    """Return the name of a type with its article: "an int", "an ndarray", "a UUID"."""
    return f"an {name}" if name.lower().startswith(_SAID_WITH_VOWEL) else f"a {name}"
