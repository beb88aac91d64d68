"""What a source is, and how anything that can serve as one is opened.

Decides the protocol between the engine and a source, and which reader reads which subject: a `Source`, an iterable,
or a function without arguments that returns an iterator or async iterator. It does not know who reads, nor numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any, Protocol, TypeVar

from .errors import GraphError, kind_of
from .given import refuse_table, unrun_members
from .readers import GeneratorReader, IterableReader

T_co = TypeVar("T_co", covariant=True)

#: How long a reading thread pauses after an empty read, in seconds: doubling from the first to the second.
PAUSES_S = (0.001, 0.02)


class SourceReader(Protocol[T_co]):
    """Reads one source once, from a position on.

    `read`, `position` and `close` are required. A reader may have these members too:

    - `progress()`: the fraction read, from 0 to 1, or `None` while it is unknown; called behind each read that was not the end.
    - `one_by_one = True`: every read returns one event and may wait for it; `iterator` is then the plain iterator behind
      the reader, for loops that read without a call in between.
    - `interruptible = True`, beside `one_by_one`: `close` called by another thread ends a `read` that waits.
    - `acknowledge(position)`, where the source has `acknowledges`: called between reads, when all ordered sinks have
      released everything before a position, and those that commit have committed it.
    - `gives_own = True`: every read returns a new list of new events, which the reader keeps no part of, so that nothing
      is looked at and copied.
    - `idle()`: called about once a second by the reading thread while nothing is read.
    - `extent()` and `replay(extent)`, where the source's `replay` is "logged": a description of what the last read
      returned, as plain values, and exactly those events again, before the first `read`.
    - `journaled(position)`: called when the engine's journal has stored all events before a position.
    """

    def read(self, limit: int, max_bytes: int, /) -> Sequence[T_co] | None:
        """Return up to `limit` events, about `max_bytes` together: `None` when ended, empty when none is there yet."""

    def position(self) -> object:
        """Return the position behind the last event read, which `Source.reader` resumes at; it must be picklable."""

    def close(self) -> None:
        """Stop reading and free all resources."""


class LimitReader(Protocol[T_co]):
    """A reader whose `read` takes only the number of events; it is as good as a `SourceReader`."""

    def read(self, limit: int, /) -> Sequence[T_co] | None:
        """Return up to `limit` events: `None` when ended, empty when nothing is there yet."""

    def position(self) -> object:
        """Return the position behind the last event read, which `Source.reader` resumes at; it must be picklable."""

    def close(self) -> None:
        """Stop reading and free all resources."""


class Source(Protocol[T_co]):
    """Opens readers. It is pickled to the process that reads, unless it has `in_caller = True`.

    `reader` is required. A source may have these members too:

    - `size_hint()`: the number of events to expect, or `None`.
    - `in_caller = True`: it is read in the process that called `run`, because it cannot be pickled.
    - `acknowledges = True`: its readers have `acknowledge`.
    - `replay`, which runs with checkpoints ask for: "exact" if a reader opened at a position returns the events behind
      it, in reads of any size; "logged" if it may split or order them differently, so that its readers have `extent`
      and `replay`. Any other source needs `journal=True`.
    - `settings()`: every option that decides what is read and how, as a mapping of names to JSON values, without
      passwords. It is compared when a run goes on: a position means something only together with all that says how to
      read. Options that change only when and how fast (waits, sizes of pages, retries) are not in it.
    - `check_source()`: called in the calling process before anything of a run is opened or started; raises `GraphError`
      where there is nothing to read.
    - `files_read()`: the paths and patterns of files that it reads. A run whose sink would write one is refused.
    - `path`, `paths` or `name`: names the node where the graph gives it no name.

    Three more are set only by the engine's source for a resumed run: `marked` and `logged` (its reads are recorded one by
    one, and with their extents), and `last_key` (the key of the last event before the position, in a sequence by key).
    """

    def reader(self, position: object | None, /) -> SourceReader[T_co] | LimitReader[T_co]:
        """Open the source at its beginning (`None`) or at a position that one of its readers gave."""


class _WithBytes:
    """Wraps a `LimitReader` so that it has the `read` of a `SourceReader`."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.position: Callable[[], object] = reader.position
        self.close: Callable[[], None] = reader.close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)  # whatever else it offers

    def read(self, limit: int, max_bytes: int, /) -> Sequence[Any] | None:
        """Read up to `limit` events, of any size."""
        events: Sequence[Any] | None = self._reader.read(limit)
        return events


def is_source(subject: object) -> bool:
    """Whether `subject` is a `Source`: an object (not a class) with a method `reader`."""
    return not isinstance(subject, type) and callable(getattr(subject, "reader", None))


_CALLED = ("read", "position", "close", "acknowledge", "idle", "extent", "replay", "journaled")
_ROWS = "its events are taken one by one"


def read_with(reader: Any) -> Callable[[int, int], Sequence[Any] | None]:
    """Return the reader's `read` as a function of `(limit, max_bytes)`, also when it takes only `limit`.

    Raises `GraphError` for a `read` that takes neither.
    """
    read: Any = getattr(reader, "read", None)
    if unrun := unrun_members(reader, _CALLED):
        raise GraphError(
            f"cannot read from {kind_of(reader)}: nothing awaits or iterates its {' and '.join(unrun)}; use a plain def, or"
            " give an async generator function as the source"
        )
    two: Callable[[int, int], Sequence[Any] | None] = read
    try:
        signature = inspect.signature(read) if callable(read) else None
    except ValueError:  # compiled code without a signature: assumed to follow the protocol
        return two
    for arguments in ((1, 1), (1,)):
        if signature is not None and _binds(signature, arguments):
            return two if len(arguments) == 2 else _WithBytes(reader).read
    raise GraphError(
        f"cannot read from {kind_of(reader)}: a source reader needs the method read(limit, max_bytes) or "
        "read(limit); add it"
    )


def _binds(signature: inspect.Signature, arguments: tuple[int, ...]) -> bool:
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def open_reader(subject: Any, position: object | None = None) -> SourceReader[Any]:
    """Open a reader of anything that `Graph.source` accepts; its `read` always takes `(limit, max_bytes)`.

    `position` goes to a `Source`; nothing else can go on from the middle. Raises `GraphError` for a subject that
    cannot be read, and whatever the user's part raises on opening.
    """
    if is_source(subject):
        reader = subject.reader(position)
        read = read_with(reader)
        return reader if read == getattr(reader, "read", None) else _WithBytes(reader)
    if position is not None:
        raise GraphError(
            f"cannot go on from a position in {kind_of(subject)}: only a source with the method "
            "reader(position) can; wrap it in one"
        )
    if isinstance(subject, Iterable):
        return IterableReader(subject)
    if not callable(subject) or inspect.iscoroutinefunction(subject):
        raise _not_readable(f"{kind_of(subject)}")
    return _read_function(subject)


def _read_function(function: Callable[[], Any]) -> SourceReader[Any]:
    made = function()
    if hasattr(made, "__anext__") or hasattr(made, "__aiter__"):
        from .async_reader import AsyncGeneratorReader

        return AsyncGeneratorReader(made.__aiter__ if hasattr(made, "__aiter__") else lambda: made)
    refuse_table(made, f"source function {getattr(function, '__qualname__', type(function).__name__)} gave", _ROWS)
    if isinstance(made, Iterable):
        return GeneratorReader(lambda: made)
    raise _not_readable(f"what {getattr(function, '__qualname__', type(function).__name__)} returned")


def _not_readable(what: str) -> GraphError:
    return GraphError(
        f"cannot read events from {what}: a source is an iterable, a generator function (sync or async) or an object "
        "with the method reader(position); pass one of these"
    )


def size_hint(subject: Any) -> int | None:
    """Return the number of events to expect from a subject, or `None` if that is unknown."""
    if is_source(subject):
        hint = getattr(subject, "size_hint", None)
        size: int | None = hint() if callable(hint) else None
        return size
    return len(subject) if isinstance(subject, Sized) else None
