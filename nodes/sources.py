"""What a source is, and how anything that may be one is opened.

Decides the protocol between the engine and a source, and which reader reads which subject: a `Source`, an iterable,
or a function without arguments that gives an iterator or async iterator. It does not know who reads, nor numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any, Protocol, TypeVar

from .errors import GraphError
from .readers import GeneratorReader, IterableReader

T_co = TypeVar("T_co", covariant=True)

#: How long a reading thread pauses after an empty read, in seconds: doubling from the first to the second.
PAUSES_S = (0.001, 0.02)


class SourceReader(Protocol[T_co]):
    """Reads one source once, from a position on. `progress()` may be offered: the fraction read, 0..1, or `None`.

    Offered `one_by_one = True`, every read gives one event and `iterator` is the plain iterator behind it.
    """

    def read(self, limit: int, max_bytes: int, /) -> Sequence[T_co] | None:
        """Return up to `limit` events, about `max_bytes` together: `None` when ended, empty when none is there yet."""

    def position(self) -> object:
        """Return the place behind the last event read, for `Source.reader` to go on from; it must be picklable."""

    def close(self) -> None:
        """End the reading and free what it holds."""


class LimitReader(Protocol[T_co]):
    """A reader whose `read` takes only the number of events; it is as good as a `SourceReader`."""

    def read(self, limit: int, /) -> Sequence[T_co] | None:
        """Return up to `limit` events: `None` when ended, empty when nothing is there yet."""

    def position(self) -> object:
        """Return the place behind the last event read, for `Source.reader` to go on from; it must be picklable."""

    def close(self) -> None:
        """End the reading and free what it holds."""


class Source(Protocol[T_co]):
    """Gives readers. It is pickled to the process that reads, unless it has `in_caller = True`.

    `size_hint()` may be offered: the number of events to expect, or `None`. With `acknowledges = True` its readers
    have `acknowledge(position)`, called between reads when everything before a position is released by all ordered
    sinks and committed by those that commit, and may have `idle()`, called about once a second while nobody reads.

    Runs with checkpoints ask for `replay`: "exact" where a reader opened at a position gives the events behind it, in
    reads of any size; "logged" where it might cut or order them otherwise, so that readers have `extent()`, which
    tells what the last read gave, and `replay(extent)`, which gives exactly that again, before the first `read`. Any
    other source needs `journal=True`; `journaled(position)`, where a reader has it, is called when its events up to
    there are stored.
    """

    def reader(self, position: object | None, /) -> SourceReader[T_co] | LimitReader[T_co]:
        """Open the source at its beginning (`None`) or at a position that one of its readers gave."""


class _WithBytes:
    """Gives a `LimitReader` the `read` of a `SourceReader`."""

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


def read_with(reader: Any) -> Callable[[int, int], Sequence[Any] | None]:
    """Return the reader's `read` as a function of `(limit, max_bytes)`, also when it takes only `limit`.

    Raises `GraphError` for a `read` that takes neither.
    """
    read: Any = getattr(reader, "read", None)
    two: Callable[[int, int], Sequence[Any] | None] = read
    try:
        signature = inspect.signature(read) if callable(read) else None
    except ValueError:  # compiled code without a signature: taken at its word, the protocol
        return two
    for arguments in ((1, 1), (1,)):
        if signature is not None and _binds(signature, arguments):
            return two if len(arguments) == 2 else _WithBytes(reader).read
    raise GraphError(
        f"cannot read from a {type(reader).__name__}: a source reader needs the method read(limit, max_bytes) or "
        "read(limit); add it"
    )


def _binds(signature: inspect.Signature, arguments: tuple[int, ...]) -> bool:
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def open_reader(subject: Any, position: object | None = None) -> SourceReader[Any]:
    """Open a reader of whatever may stand in `Graph.source`; its `read` always takes `(limit, max_bytes)`.

    `position` goes to a `Source`; nothing else can go on from the middle. Raises `GraphError` for a subject that
    cannot be read, and whatever the user's part raises on opening.
    """
    if is_source(subject):
        reader = subject.reader(position)
        read = read_with(reader)
        return reader if read == getattr(reader, "read", None) else _WithBytes(reader)
    if position is not None:
        raise GraphError(
            f"cannot go on from a position in a {type(subject).__name__}: only a source with the method "
            "reader(position) can; wrap it in one"
        )
    if isinstance(subject, Iterable):
        return IterableReader(subject)
    if not callable(subject) or inspect.iscoroutinefunction(subject):
        raise _not_readable(f"a {type(subject).__name__}")
    return _read_function(subject)


def _read_function(function: Callable[[], Any]) -> SourceReader[Any]:
    made = function()
    if hasattr(made, "__anext__") or hasattr(made, "__aiter__"):
        from .async_reader import AsyncGeneratorReader

        return AsyncGeneratorReader(made.__aiter__ if hasattr(made, "__aiter__") else lambda: made)
    if isinstance(made, Iterable):
        return GeneratorReader(lambda: made)
    raise _not_readable(f"what {getattr(function, '__qualname__', type(function).__name__)} returned")


def _not_readable(what: str) -> GraphError:
    return GraphError(
        f"cannot read events from {what}: a source is an iterable, a generator function (sync or async) or an object "
        "with the method reader(position); pass one of these"
    )


def size_hint(subject: Any) -> int | None:
    """Return the number of events to expect from a subject, or `None` where it cannot know."""
    if is_source(subject):
        hint = getattr(subject, "size_hint", None)
        size: int | None = hint() if callable(hint) else None
        return size
    return len(subject) if isinstance(subject, Sized) else None
