"""Sources of a run with checkpoints: read from the position of the last checkpoint on.

Decides how a source is read again: a `Source` that returns the same events from a position on opens there and skips the
few after it that have numbers; one that may divide or order them otherwise repeats the logged reads first; plain
iterables and generator functions are read from their beginning, skipped up to the position, and compared with a digest
of what was skipped.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

import ormsgpack

from ...nodes.errors import CheckpointError
from ...nodes.ordering.order_log import Read
from ...nodes.ordering.source_positions import SourcePosition
from ...nodes.sources import is_source, open_reader, size_hint
from ..codec.copying import safe_copies
from .feed import is_lent
from .owned import source_ownership

#: The events that are read at once while skipping.
_SKIP_BATCH = 4096


class ResumedSource:
    """A source resumed at a checkpoint: repeats the logged reads, then continues.

    `known` is the position up to which answers are kept: what is read up to there must be what was read before.
    """

    marked = True

    def __init__(
        self,
        subject: Any,
        name: str,
        place: SourcePosition | None = None,
        reads: Sequence[Read] = (),
        known: SourcePosition | None = None,
    ) -> None:
        self._subject, self._name = subject, name
        self._known = known.position if known is not None else None
        self._place = place or SourcePosition()
        self._reads = tuple(reads)
        self.last_key = self._place.key
        self.logged = getattr(subject, "replay", "none") == "logged"
        self.acknowledges = bool(getattr(subject, "acknowledges", False))
        self.in_caller = bool(getattr(subject, "in_caller", False))

    def size_hint(self) -> int | None:
        """Return the number of events to expect in all, if it is known."""
        return size_hint(self._subject)

    def reader(self, position: object | None, /) -> _ResumedReader | SkippingReader:
        """Open the source at the position of the checkpoint."""
        place = self._place
        if is_source(self._subject):
            if self._known is not None and getattr(self._subject, "replay", "none") == "exact":
                open_reader(self._subject, self._known).close()  # raises for other contents than it had up to there
            reader = open_reader(self._subject, place.position)
            return _ResumedReader(reader, place.skip, self._reads, self._name)
        return SkippingReader(self._subject, place.position, place.skip, self._name, self._known)


class _ResumedReader:
    """A reader that repeats the logged reads first, and skips the events that have numbers."""

    def __init__(self, reader: Any, skip: int, reads: Sequence[Read], name: str) -> None:
        self._reader, self._skip, self._name = reader, skip, name
        self._reads = deque(reads)
        self._extent: object = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def read(self, limit: int, max_bytes: int, /) -> Sequence[Any] | None:
        """Return the next events, as any reader."""
        events = self._repeat() if self._reads else self._read_on(limit, max_bytes)
        if not self._skip:
            return events
        if events is None:
            raise too_short(self._name)
        left = min(self._skip, len(events))
        self._skip -= left
        return events[left:]

    def _repeat(self) -> Sequence[Any]:
        logged = self._reads.popleft()
        events: Sequence[Any] = self._reader.replay(logged.extent)
        if len(events) != logged.count:
            raise CheckpointError(
                f"cannot resume: source {self._name!r} gives {len(events)} events where the run before had read"
                f" {logged.count}; keep what it reads as it was, or begin afresh with resume='never'"
            )
        self._extent = logged.extent
        return events

    def _read_on(self, limit: int, max_bytes: int) -> Sequence[Any] | None:
        self._extent = None
        events: Sequence[Any] | None = self._reader.read(max(limit, self._skip), max_bytes)
        return events

    def extent(self) -> object:
        """Return the extent of the last read."""
        return self._reader.extent() if self._extent is None else self._extent


class SkippingReader:
    """A reader over an iterable or the result of a function; its position is the number of events read, and their digest."""

    def __init__(self, subject: Any, position: Any, skip: int, name: str, known: Any = None) -> None:
        self._reader = open_reader(subject)
        self._iterator = self._reader.iterator  # type: ignore[attr-defined]
        self._lent = is_lent(subject)
        if not self._lent:
            self._iterator = source_ownership().each(self._iterator)
        self._sized = isinstance(subject, (list, tuple, range))
        self._name = name
        self._count = 0
        self._digest = hashlib.blake2b(digest_size=16)
        #: The number of events at which the digest is compared next, and that digest.
        self._known: tuple[int, str] | None = None
        if self._sized and known is not None:  # before anything is done with them
            SkippingReader(subject, known, 0, name)
            known = None
        if position is not None:
            self._known = position
            self._skip_events(position[0])
            self._compare()
        self._known = known if known is not None and known[0] > self._count else None
        self._skip_events(skip)

    def _skip_events(self, count: int) -> None:
        while count:
            events = list(islice(self._iterator, min(count, _SKIP_BATCH)))
            if not events:
                raise too_short(self._name)
            self._count_events(events)
            count -= len(events)

    def _count_events(self, events: list[Any]) -> None:
        """Count events that are read; compare the digest where that is due, which may be between two of them."""
        if self._known is not None and self._count + len(events) >= self._known[0]:
            upto = self._known[0] - self._count
            self._add(events[:upto])
            self._compare()
            events = events[upto:]
        self._add(events)

    def _add(self, events: list[Any]) -> None:
        self._count += len(events)
        self._digest.update(_digestible(events))

    def _compare(self) -> None:
        """Raise `CheckpointError` unless the events up to here are those of the run before."""
        if self._known is not None and self._known != (self._count, self._digest.hexdigest()):
            self._reader.close()
            raise CheckpointError(
                f"cannot resume: source {self._name!r} gives other events than in the run before, among the first"
                f" {self._known[0]}; give the same input, store what cannot be read again in a file first, or begin"
                " afresh with resume='never'"
            )
        self._known = None

    def read(self, limit: int, max_bytes: int, /) -> Sequence[Any] | None:
        """Return what is there for certain: of a list or range many events, of all else the next one."""
        events = list(islice(self._iterator, min(limit, 1024) if self._sized else 1))
        if not events:
            if self._known is not None:
                raise too_short(self._name)
            return None
        self._count_events(events)
        return safe_copies(events) if self._lent else events

    def position(self) -> tuple[int, str]:
        """Return the number of events that were read, and their digest."""
        return self._count, self._digest.hexdigest()

    def close(self) -> None:
        """End the reading."""
        self._reader.close()


def _digestible(events: list[Any]) -> bytes:
    """Return bytes that distinguish events, the same however they are divided into reads.

    For an event that MessagePack does not carry only the type counts: a pickle may differ from process to process.
    """
    try:
        return b"".join([ormsgpack.packb(event) for event in events])
    except (TypeError, ValueError):
        return b"".join([_one(event) for event in events])


def _one(event: Any) -> bytes:
    try:
        return ormsgpack.packb(event)
    except (TypeError, ValueError):
        return type(event).__qualname__.encode()


def too_short(name: str) -> CheckpointError:
    """Return the error of a source that has fewer events than before."""
    return CheckpointError(
        f"cannot resume: source {name!r} has fewer events than were numbered before; give the same input, or begin"
        " afresh with resume='never'"
    )
