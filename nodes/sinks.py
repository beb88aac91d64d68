"""What a sink is, and how anything that can serve as one is called.

Decides the protocol between the engine and a sink, what a batch is for a sink, and how the event that a sink failed
on is found: by the exception's `position`, else by how far a plain callable had come.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Iterable, Sequence
from operator import length_hint
from typing import Any, Protocol, TypeVar

from .errors import GraphError, kind_of
from .given import refuse_unrun, unrun_members

T_in = TypeVar("T_in", contravariant=True)
T_co = TypeVar("T_co", covariant=True)

#: What a function of a sink often gives, such as `write` of a file.
_RUN = frozenset({int, bool, str, float})
_HERE = "use a plain def, or await in a map before the sink"
_CALLED = ("write", "close", "open", "abort", "commit", "recover", "recover_finished", "claim", "fence", "check_sink")

Numbers = list[tuple[int, int]]


class Sink(Protocol[T_in]):
    """Receives events in batches, in order, in the thread that runs the graph.

    `write` and `close` are required. A sink may have these members too; each works without the others unless it
    says otherwise:

    - `check_sink()`: called while the graph is built; raises `GraphError` for arguments that do not make a sink.
    - `open()`: called at the start of each run.
    - `abort()`: called in place of `close` when the run has failed.
    - `commit(n)`: makes everything written so far, all numbers up to `n`, durable. In a run with checkpoints it
      returns a token, plain values that are stored with the checkpoint.
    - `commits`: `True` has `commit` called about every `checkpoint_interval_s` also without checkpoints. Otherwise it is
      called with checkpoints, where a source acknowledges, and at the end.
    - `recover(token)`: called in place of `open` when a run resumes. It undoes what was written after the commit that
      returned `token`, and returns the number up to which the sink has everything; those events are not sent again.
      A sink with `commit` and `recover` receives every event exactly once.
    - `claim(run, place)`: called in a run with checkpoints before any sink is opened. `run` is the id that the run keeps
      however often it is resumed, `place` says where its checkpoints are kept. The sink stores both with what it
      commits, until `close`, and returns `(run, n)`: the last number `n` that it has committed of this run, else of an
      unfinished run with the same place; `None` if it has nothing of either. It changes nothing yet. So a store that was
      lost, or is older than what the sink holds, is refused instead of writing events twice.
    - `recover_finished(token)`: called in place of `recover` when the resumed run had already finished, so that nothing
      more will be written; it returns the same. Without it `recover` is called.
    - `delivery`: "exactly-once" or "at-least-once", where that differs from what the members above imply.
    - `fence(token)`: called before `open` or `recover` with the token of the run's lock, for a sink that checks in its
      own transaction that no higher token has written.
    - `settings()`: every option that decides where events are stored and what is then stored there, as a mapping of names
      to JSON values, without passwords. It is compared when a run goes on, so that a sink holds one form from its first
      event to its last.
    - `files_written()`: the paths of files that it writes. A run that reads one, or has two sinks for it, is refused.
    - `path`, `paths` or `name`: names the node where the graph gives it no name.

    All are called and none is awaited: one that is async, or gives what has yet to be awaited, is refused.

    An exception with an integer `position` says which event of the batch is to blame; see `BadEvent`.
    """

    def write(self, events: Batch[T_in], /) -> None:
        """Write a batch; `events.numbers` holds `(seq, index)` of each event."""

    def close(self) -> None:
        """Finish: the run has succeeded and everything is written."""


class Batch(list[T_co]):  # type: ignore[type-var]  # a sink reads it only: it is covariant in effect
    """A list of events whose `numbers` are worked out when they are asked for."""

    __slots__ = ("_numbers",)

    def __init__(self, events: Iterable[T_co], numbers: Callable[[], Numbers] | Numbers) -> None:
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
    """Return how often a sink receives an event over all runs that share checkpoints: "exactly-once" or "at-least-once"."""
    if not ordered:
        return "at-least-once"
    held = callable(getattr(subject, "commit", None)) and callable(getattr(subject, "recover", None))
    return str(getattr(subject, "delivery", "exactly-once" if held else "at-least-once"))


def checks_lock(subject: object) -> bool:
    """Whether a sink checks the lock's token in its own transaction, so that a lost lock certainly stops its writes."""
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
                if (given := function(event)) is not None and type(given) not in _RUN:
                    refuse_unrun(given, "the function", _HERE, futures=False)
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
            raise GraphError(f"cannot sink to {kind_of(subject)}: it has write but not close(); add close()")
        if unrun := unrun_members(subject, _CALLED):
            raise GraphError(
                f"cannot sink to {kind_of(subject)}: nothing awaits or iterates its {' and '.join(unrun)}; use a plain def,"
                " or await in a map before the sink"
            )
        check = getattr(subject, "check_sink", None)
        if callable(check):
            check()
        sink: Sink[Any] = subject
        return sink
    name = getattr(subject, "__qualname__", f"{kind_of(subject)}")
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
