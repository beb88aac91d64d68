"""Sources of a run with checkpoints: read from the place of the last one, giving their places as they go.

Decides how anything that can be read again is: a `Source` that gives the same events from a position opens there and
leaves out the few behind it that have numbers; plain iterables and generator functions are read from their beginning,
left out up to the place, and held against a digest of what was left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import islice
from typing import Any

import ormsgpack

from ..nodes.errors import CheckpointError
from ..nodes.sources import is_source, open_reader, size_hint
from .copying import safe_copies

#: Events that are left out are read in such portions.
_PORTION = 4096


class Again:
    """A source that begins at a place of an earlier run: `skip` events behind `position` (`None`: the beginning)."""

    marked = True

    def __init__(self, subject: Any, name: str, position: object, skip: int) -> None:
        self._subject, self._name = subject, name
        self._position, self._skip = position, skip
        self.acknowledges = bool(getattr(subject, "acknowledges", False))
        self.in_caller = bool(getattr(subject, "in_caller", False))

    def size_hint(self) -> int | None:
        """Give how many events to expect in all."""
        return size_hint(self._subject)

    def reader(self, position: object | None, /) -> _SourceAgain | _Plain:
        """Open the source at its place."""
        if is_source(self._subject):
            return _SourceAgain(open_reader(self._subject, self._position), self._skip, self._name)
        return _Plain(self._subject, self._position, self._skip, self._name)


class _SourceAgain:
    """A reader that leaves out its first events."""

    def __init__(self, reader: Any, skip: int, name: str) -> None:
        self._reader, self._skip, self._name = reader, skip, name
        self.position, self.close = reader.position, reader.close
        self.progress = getattr(reader, "progress", lambda: None)
        self.acknowledge = getattr(reader, "acknowledge", lambda position: None)
        self.idle = getattr(reader, "idle", lambda: None)

    def read(self, limit: int, max_bytes: int, /) -> Sequence[Any] | None:
        """Read on."""
        events: Sequence[Any] | None = self._reader.read(max(limit, self._skip), max_bytes)
        if not self._skip:
            return events
        if events is None:
            raise _shorter(self._name)
        left = min(self._skip, len(events))
        self._skip -= left
        return events[left:]


class _Plain:
    """A reader over an iterable or what a function gives; its position is a count and a digest of so many events."""

    def __init__(self, subject: Any, position: Any, skip: int, name: str) -> None:
        self._reader = open_reader(subject)
        self._iterator = self._reader.iterator  # type: ignore[attr-defined]
        self._lent = not callable(subject) and iter(subject) is not subject and type(subject) is not range
        self._sized = isinstance(subject, (list, tuple, range))
        self._count = 0
        self._digest = hashlib.blake2b(digest_size=16)
        if position is not None:
            self._leave_out(position[0], name)
            if self._digest.hexdigest() != position[1]:
                self._reader.close()
                raise CheckpointError(
                    f"cannot resume: source {name!r} gives other events than in the run before, among the first"
                    f" {position[0]}; give the same input, store what cannot be read again in a file first, or begin"
                    " afresh with resume='never'"
                )
        self._leave_out(skip, name)

    def _leave_out(self, count: int, name: str) -> None:
        while count:
            events = list(islice(self._iterator, min(count, _PORTION)))
            if not events:
                raise _shorter(name)
            self._take_in(events)
            count -= len(events)

    def _take_in(self, events: list[Any]) -> None:
        self._count += len(events)
        self._digest.update(_packed(events))

    def read(self, limit: int, max_bytes: int, /) -> Sequence[Any] | None:
        """Give what is there for certain: of a list or range many, of all else the next event."""
        events = list(islice(self._iterator, min(limit, 1024) if self._sized else 1))
        if not events:
            return None
        self._take_in(events)
        return safe_copies(events) if self._lent else events

    def position(self) -> tuple[int, str]:
        """Give the number of events that were read, and their digest."""
        return self._count, self._digest.hexdigest()

    def close(self) -> None:
        """End the reading."""
        self._reader.close()


def _packed(events: list[Any]) -> bytes:
    """Give bytes that tell events apart, the same for any portions they come in.

    Of what MessagePack does not carry only the type counts: a pickle may differ from process to process.
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


def _shorter(name: str) -> CheckpointError:
    return CheckpointError(
        f"cannot resume: source {name!r} has fewer events than were numbered before; give the same input, or begin"
        " afresh with resume='never'"
    )
