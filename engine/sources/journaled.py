"""Journaled sources: events that cannot be read again are stored before they get numbers, so that a resumed run gets them.

Decides what is stored when, what a reader returns (the stored events, exactly as a resumed run gets them), and when the
source learns that its events are safe. `journal_file` knows the file, `read_ahead` reads plain iterators ahead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ormsgpack

from ...nodes.errors import CheckpointError, SourceError
from ...nodes.sources import is_source, open_reader, size_hint
from ..codec.codec import Encoder, Payload, decode, decode_part, is_atomic
from ..codec.errors import CodecError
from .journal_file import JournalFile, StoredBatch, check_journal, create_journal
from .read_ahead import ReadAhead

_LOG = logging.getLogger("sluiceway")
#: How long a read waits for a plain iterator, in seconds.
_WAIT_S = 0.1
#: Bounds of what is read ahead of a plain iterator while other events are stored, in bytes (about) and events.
_AHEAD_BYTES = 1 << 20
_MAX_AHEAD = 8192
#: Bounds of a stored batch of several events, and of one event (what SQLite takes), in bytes.
_BATCH_BYTES = 64 << 20
_MAX_EVENT_BYTES = 900_000_000


class Journaled:
    """A source whose events are kept in a journal at `path` until they are committed.

    With `afresh` a new journal is created, else that of the run which is resumed is checked; both in the process that
    makes this object, while the reader opens the file in the process that reads. Raises `CheckpointError` for a journal that is
    missing or cannot be used.
    """

    replay = "exact"
    acknowledges = True

    def __init__(self, subject: Any, path: Path, name: str, *, afresh: bool = False) -> None:
        self._subject, self._name = subject, name
        self._path = path.absolute()
        self.in_caller = bool(getattr(subject, "in_caller", False))
        if afresh:
            create_journal(self._path)
        else:
            check_journal(self._path)

    def size_hint(self) -> int | None:
        """Return the number of events to expect in all, if it is known."""
        return size_hint(self._subject)

    def reader(self, position: object | None, /) -> JournaledReader:
        """Return a reader of the events stored from `position` on, which counts from the journal's beginning, then of new ones.

        Raises `CheckpointError` for a position that is not in the journal.
        """
        return JournaledReader(self._subject, JournalFile(self._path, self._name), self._name, position)


class JournaledReader:
    """Reads a journal, then its source, which it opens at the end of the journal.

    Like every reader with acknowledgements it is used by one thread.
    """

    def __init__(self, subject: Any, file: JournalFile, name: str, position: object) -> None:
        self._subject, self._file, self._name = subject, file, name
        self._encoder = Encoder()
        self._pending: list[Any] = []  # stored, and not returned yet
        self._error: BaseException | None = None  # raised after them
        self._inner: Any = None
        self._ahead: ReadAhead | None = None
        self._tell: Callable[[object], object] | None = None
        self._closed = False
        try:
            self._position = _checked_position(file, name, position)
        except BaseException:
            file.close()
            raise

    def read(self, limit: int, max_bytes: int, /) -> Sequence[Any] | None:
        """Return the next events, all of them stored: `None` at the end, empty if nothing is there yet.

        Raises what the source raises, and `SourceError` for an event that cannot be stored, each after the events
        before it.
        """
        if self._closed:
            return None
        if not self._pending and self._error is None:
            if self._position < self._file.count:
                self._reload()
            elif not self._file.ended:
                self._read_on(max(limit, 1), max_bytes)
        if not self._pending:
            if self._error is not None:
                raise self._error
            return None if self._file.ended else []
        events = self._pending[: max(limit, 1)]
        del self._pending[: len(events)]
        self._position += len(events)
        return events

    def position(self) -> int:
        """Return the number of events returned since the journal began."""
        return self._position

    def acknowledge(self, position: int) -> None:
        """Forget the events below a position: they are committed."""
        self._file.forget(position)

    def idle(self) -> None:
        """Call the source's `idle`, for what it must do while nothing is read."""
        idle = getattr(self._inner, "idle", None)
        if callable(idle):
            idle()

    def progress(self) -> float | None:
        """Return the fraction of the source that was read, if it knows."""
        progress = getattr(self._inner, "progress", None)
        return progress() if callable(progress) else None

    def close(self) -> None:
        """End the reading; what was read from a plain iterator is stored for the run that resumes."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._ahead is not None:
                self._store_rest(self._ahead)
            elif self._inner is not None:
                self._inner.close()
        finally:
            self._file.close()

    # -- what is stored -----------------------------------------------------------------------------------------

    def _reload(self) -> None:
        first, batch = self._file.load(self._position)
        try:
            events = decode(_payload(batch), batch.count)
        except CodecError as error:
            raise CheckpointError(
                f"cannot resume: event {first} of source {self._name!r} or one behind it cannot be unpacked from"
                f" {self._file.path}: {error}"
            ) from error
        self._pending.extend(events[self._position - first :])

    def _store(self, events: Sequence[Any], *, ended: bool = False) -> float:
        """Store events in one transaction, to be returned; return the size of one in bytes, about.

        The error of an event that cannot be stored is raised after those that are.
        """
        packed: list[StoredBatch] = []
        copies: list[Any] = []
        refused = self._encode(events if isinstance(events, range) else list(events), packed, copies)
        try:
            if packed or ended:
                self._file.append(packed, ended=ended)
            self._pending.extend(copies)
        except SourceError as error:
            self._error = error
        if refused is not None and self._error is None:
            self._error = SourceError(
                f"cannot store event {self._file.count} of source {self._name!r}, which has journal=True: {refused};"
                " neither it nor what was read behind it is stored",
                node=self._name,
            )
            self._error.__cause__ = refused
        return sum(len(batch.body) for batch in packed) / max(1, len(copies))

    def _encode(self, events: Sequence[Any], packed: list[StoredBatch], copies: list[Any]) -> CodecError | None:
        """Encode events, and decode them as a resumed run would; return the error of the first that is not in `packed`."""
        failed: CodecError | None = None
        while events:
            try:
                payload = self._encoder.encode(events)
                if payload.nbytes > _BATCH_BYTES and len(events) > 1:
                    middle = len(events) // 2
                    refused = self._encode(events[:middle], packed, copies)
                    return refused or self._encode(events[middle:], packed, copies) or failed
                if payload.nbytes > _MAX_EVENT_BYTES:
                    raise CodecError(f"it takes {payload.nbytes:,} bytes; give the path of a file instead", position=0)
                batch = StoredBatch(len(events), payload.codec, ormsgpack.packb([bytes(frame) for frame in payload.frames]))
                given = events if is_atomic(list(events)) else self._decoded(batch)
            except CodecError as error:
                failed, events = error, events[: error.position or 0]
                continue
            packed.append(batch)
            copies.extend(given)
            break
        return failed

    def _decoded(self, batch: StoredBatch) -> list[Any]:
        """Decode events again; raises `CodecError` with the position of the first that cannot be decoded."""
        payload = _payload(batch)
        try:
            return decode(payload, batch.count)
        except CodecError:
            errors = decode_part(payload, 0, batch.count, batch.count)[1]
            if not errors:
                raise
            raise errors[min(errors)] from None

    # -- the source ---------------------------------------------------------------------------------------------

    def _read_on(self, limit: int, max_bytes: int) -> None:
        if self._inner is None and self._ahead is None:
            self._open()
        if self._ahead is not None:
            self._store_ahead(self._ahead)
            return
        events = self._inner.read(limit, max_bytes)
        if events is None:
            self._file.append([], ended=True)
            return
        if events:
            self._store(events)
            if self._error is None and self._tell is not None:
                self._tell(self._inner.position())

    def _open(self) -> None:
        """Open the source; a plain iterator is read ahead, and opened in the thread that reads it."""
        if not is_source(self._subject):
            self._ahead = ReadAhead(partial(open_reader, self._subject), self._name)
            return
        reader: Any = open_reader(self._subject)
        if getattr(reader, "one_by_one", False):
            self._ahead = ReadAhead(lambda: reader, self._name)
            return
        self._inner = reader
        # Stored events are safe, so the source is told at once, not when they are committed.
        journaled = getattr(reader, "journaled", None)
        if callable(journaled):
            self._tell = journaled
        elif getattr(self._subject, "acknowledges", False):
            self._tell = reader.acknowledge

    def _store_ahead(self, ahead: ReadAhead) -> None:
        """Store the events that are there and those that come meanwhile; then the iterator pauses, with none in memory alone."""
        events = ahead.read(_WAIT_S)
        if events and not ahead.done:
            ahead.most = max(1, min(_MAX_AHEAD, int(_AHEAD_BYTES / max(1.0, self._store(events)))))
            if self._failed:
                return
            events = ahead.pause()
        done = ahead.done
        if events or done:
            self._store(events, ended=done and ahead.ended)
        if done and self._error is None:
            self._error = ahead.error

    def _store_rest(self, ahead: ReadAhead) -> None:
        """Store the last events. No read follows that could raise their error, so it is logged."""
        rest = ahead.close()
        if self._error is None and (rest or ahead.ended):
            self._store(rest, ended=ahead.ended)
            rest = []
            if self._failed:
                _LOG.error("%s", self._error)
        if rest:
            _LOG.error("%d events of source %r were read behind its failure and are lost", len(rest), self._name)

    @property
    def _failed(self) -> bool:
        return self._error is not None


def _payload(batch: StoredBatch) -> Payload:
    try:
        return Payload(batch.codec, tuple(ormsgpack.unpackb(batch.body)))
    except ValueError as error:
        raise CodecError("its frames are damaged") from error


def _checked_position(file: JournalFile, name: str, position: object) -> int:
    """Return `position` as an event of the journal, its beginning for `None`; raises `CheckpointError` for any other."""
    at = 0 if position is None else position
    if not isinstance(at, int) or not file.first <= at <= file.count:
        raise CheckpointError(
            f"cannot resume: the checkpoint goes on at event {at!r} of source {name!r}, and the journal {file.path} has the"
            f" events from {file.first} to {file.count}, so the two do not belong together; restore them together, or"
            " begin afresh with resume='never'"
        )
    return at
