"""Values about one event: its place in the order, its context inside a handler, its failure, its dead letter.

This file knows nothing of batches, graphs or processes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

from .public import public

OnError = Literal["fail", "skip", "dead_letter"]


@public
@dataclass(frozen=True, slots=True)
class Context:
    """Where a handler stands: `(seq, index)` names the event, `attempt` counts from 1, `worker` from 0.

    `attempt` counts errors, time-outs and deaths of workers. Where a death does not show which event a worker was in, it
    counts for all that may have begun.

    In the constructor of a handler class there is no event yet: `seq` and `index` are -1, `attempt` is 0. A worker that
    replaces another has its number.
    """

    seq: int
    index: int
    node: str
    attempt: int
    worker: int

    @staticmethod
    def of_constructor(node: str, worker: int) -> Context:
        """Return the context in which the handler of a node is built."""
        return Context(-1, -1, node, 0, worker)


@public
@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that its handler gave up on, at its place in the order.

    `event` is what the node was given; `error` is one line (`"ValueError: bad date"`), `traceback` the remote text,
    `attempts` how often the handler was called.
    """

    seq: int
    index: int
    node: str
    event: Any
    error: str
    traceback: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Failure:
    """One event's final failure at one node, as the executor answers it.

    `kind` is "error" for an exception, "died" and "timeout" for a verdict of the engine; `cause` is the exception
    itself where it is at hand.
    """

    seq: int
    index: int
    node: str
    on_error: OnError
    error: str
    traceback: str
    attempts: int
    event: Any = None
    cause: BaseException | None = None
    kind: Literal["error", "died", "timeout"] = "error"


#: The context of the call that runs now: set by the executors for each step, read by `current`.
context_of_call: ContextVar[Callable[[], Context]] = ContextVar("sluiceway_context")


def current() -> Context:
    """Return the context of the event that the calling handler works on, or of the constructor of a handler class.

    Raises `LookupError` elsewhere, and in threads that a handler starts.
    """
    try:
        get = context_of_call.get()
    except LookupError:
        raise LookupError(
            "sluiceway.current() was called outside a handler; call it inside or in its constructor, in the handler's own thread"
        ) from None
    return get()
