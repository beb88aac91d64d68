"""What a sink is, and how anything that may be one is called.

Decides the protocol between the engine and a sink, what a batch is for a sink, and how the event that a sink failed
on is found: by the exception's `position`, else by the position where a plain callable stood.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Iterable, Sequence
from operator import length_hint
from typing import Any, Protocol, TypeVar

from .errors import GraphError

T = TypeVar("T")
T_in = TypeVar("T_in", contravariant=True)

Numbers = list[tuple[int, int]]


class Sink(Protocol[T_in]):
    """Takes events in batches, in order, in the thread that runs the graph.

    Methods that may be offered: `open()` at the start of each run; `abort()` in place of `close` when the run failed;
    `check_sink()`, raising `GraphError` while the graph is built; `commit(n)`, which makes everything up to number
    `n`, all that was written so far, durable: called about every `checkpoint_interval_s` and at the end where the sink
    says `commits = True`, or a source wants to hear of it. An exception with an integer `position` says which
    event of the batch is to blame.

    With checkpoints, `commit` gives a token to be kept, and `recover(token)` stands for `open` in the run that goes
    on: it puts the sink back to its last commit and gives the number up to which it has everything, which is not sent
    again. A sink that has both gets every event exactly once; `delivery` may say otherwise. `fence(token)` is called
    before either with the lock's token, for a sink that checks it in its own transaction.
    """

    def write(self, events: Sequence[T_in], /) -> None:
        """Take a batch; `events.numbers` gives `(seq, index)` of each event."""

    def close(self) -> None:
        """Finish: the run has succeeded and everything is written."""


class Batch(list[T]):
    """A list of events whose `numbers` are worked out when they are asked for."""

    __slots__ = ("_numbers",)

    def __init__(self, events: Iterable[T], numbers: Callable[[], Numbers] | Numbers) -> None:
        super().__init__(events)
        self._numbers = numbers

    @property
    def numbers(self) -> Numbers:
        """The `(seq, index)` of every event, in order."""
        if callable(self._numbers):
            self._numbers = self._numbers()
        return self._numbers

    def __reduce__(self) -> tuple[Any, ...]:
        return Batch, (list(self), self.numbers)


class BadEvent(Exception):
    """An event that a sink cannot take: `position` in the batch; everything before it is written."""

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position


def delivery_of(subject: object, *, ordered: bool = True) -> str:
    """Say how often a sink gets an event over all runs that share checkpoints: "exactly-once", or what it says of itself."""
    if not ordered:
        return "at-least-once"
    held = callable(getattr(subject, "commit", None)) and callable(getattr(subject, "recover", None))
    return str(getattr(subject, "delivery", "exactly-once" if held else "at-least-once"))


def checks_lock(subject: object) -> bool:
    """Whether a sink checks the lock's token inside its own transaction, so that a lost lock surely holds it back."""
    return callable(getattr(subject, "fence", None))


class CallableSink:
    """Calls a function with each event; after a failure `position` is where in the batch it failed."""

    __slots__ = ("function", "position")

    def __init__(self, function: Callable[[Any], object]) -> None:
        self.function = function
        self.position: int | None = None

    def write(self, events: Sequence[Any], /) -> None:
        """Call the function with each event in order."""
        function = self.function
        batch = events if isinstance(events, list) else list(events)
        rest = iter(batch)
        self.position = None
        try:
            for event in rest:
                function(event)
        except BaseException:
            # a list iterator knows how much is left, which spares a count per event
            self.position = len(batch) - length_hint(rest) - 1
            raise

    def close(self) -> None:
        """Do nothing: the function is the user's own."""


def as_sink(subject: Any) -> Sink[Any]:
    """Return the sink that `subject` is, or one around a plain callable.

    Raises `GraphError` for a subject that is neither, and for one that says so itself in `check_sink()`.
    """
    if isinstance(subject, io.IOBase):
        raise GraphError(
            "cannot sink to an open file: a sink is a callable or an object with write(events) and close(); use "
            "sluiceway.lines(path), or pass the file's method write"
        )
    if not isinstance(subject, type) and callable(getattr(subject, "write", None)):
        if not callable(getattr(subject, "close", None)):
            raise GraphError(f"cannot sink to a {type(subject).__name__}: it has write but not close(); add close()")
        check = getattr(subject, "check_sink", None)
        if callable(check):
            check()
        sink: Sink[Any] = subject
        return sink
    name = getattr(subject, "__qualname__", f"a {type(subject).__name__}")
    if isinstance(subject, type) and callable(getattr(subject, "write", None)):
        raise GraphError(f"cannot sink to the class {name}: a sink is an object; pass {name}(...)")
    if not callable(subject):
        raise GraphError(f"cannot sink to {name}: a sink is a callable or an object with write(events) and close()")
    if inspect.iscoroutinefunction(subject) or inspect.isasyncgenfunction(subject):
        raise GraphError(f"cannot sink to {name}: sinks are not awaited; map it before the sink, or use a plain def")
    return CallableSink(subject)


def failed_position(sink: Any, error: BaseException, size: int) -> int | None:
    """Return the position of the event in a batch of `size` that made `sink` raise `error`, or `None` if unknown."""
    position = sink.position if isinstance(sink, CallableSink) else getattr(error, "position", None)
    known = isinstance(position, int) and not isinstance(position, bool) and 0 <= position < size
    return position if known else None
