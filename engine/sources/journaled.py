"""Journaled sources: what cannot be read again is stored before it gets a number, so a resumed run gets the same events.

Decides what is stored when, what a reader gives (what was stored, exactly as a resumed run gets it), and when the
source itself hears that its events are safe. The file is `journalfile`'s, the reading ahead of plain iterators `pump`'s.
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
from .journal_file import JournalFile, Piece, begin, check_there
from .read_ahead import Pump

_LOG = logging.getLogger("sluiceway")
#: How long a read waits for a plain iterator, in seconds.
_WAIT_S = 0.1
#: About so many bytes of a plain iterator are read ahead while others are stored, in no more than so many events.
_AHEAD_BYTES = 1 << 20
_MOST = 8192
#: A piece of more than one event is not larger than this, and none than what an SQLite file takes.
_PIECE_BYTES = 64 << 20
_LARGEST_BYTES = 900_000_000


class Journaled:
    """A source whose events are kept in a journal at `path` until they are committed.

    With `afresh` the journal is made new, else it is one of a run that goes on; both in the process that makes this
    object, while the reader has the file in the process that reads. Raises `CheckpointError` for a journal that is
    missing or cannot be used.
    """

    replay = "exact"
    acknowledges = True

    def __init__(self, subject: Any, path: Path, name: str, *, afresh: bool = False) -> None:
        self._subject, self._name = subject, name
        self._path = path.absolute()
        self.in_caller = bool(getattr(subject, "in_caller", False))
        if afresh:
            begin(self._path)
        else:
            check_there(self._path)

    def size_hint(self) -> int | None:
        """Give how many events to expect in all."""
        return size_hint(self._subject)

    def reader(self, position: object | None, /) -> JournaledReader:
        """Give the events that are stored behind `position`, so many since the journal began, then those to come.

        Raises `CheckpointError` for a position that is not in the journal.
        """
        return JournaledReader(self._subject, JournalFile(self._path, self._name), self._name, position)


class JournaledReader:
    """Reads a journal, then its source, which it opens when it has come to the end of the journal.

    Like every reader that is acknowledged to, it is used by one thread.
    """

    def __init__(self, subject: Any, file: JournalFile, name: str, position: object) -> None:
        self._subject, self._file, self._name = subject, file, name
        self._encoder = Encoder()
        self._pending: list[Any] = []  # stored, and not given yet
        self._error: BaseException | None = None  # comes behind them
        self._inner: Any = None
        self._pump: Pump | None = None
        self._tell: Callable[[object], object] | None = None
        self._closed = False
        try:
            self._given = _checked(file, name, position)
        except BaseException:
            file.close()
            raise

    def read(self, limit: int, max_bytes: int, /) -> Sequence[Any] | None:
        """Give the next events, all of them stored: `None` at the end, empty when nothing is there yet.

        Raises what the source raises, and `SourceError` for an event that cannot be stored, each behind the events
        before it.
        """
        if self._closed:
            return None
        if not self._pending and self._error is None:
            if self._given < self._file.count:
                self._reload()
            elif not self._file.ended:
                self._read_on(max(limit, 1), max_bytes)
        if not self._pending:
            if self._error is not None:
                raise self._error
            return None if self._file.ended else []
        events = self._pending[: max(limit, 1)]
        del self._pending[: len(events)]
        self._given += len(events)
        return events

    def position(self) -> int:
        """Give how many events were given since the journal began."""
        return self._given

    def acknowledge(self, position: int) -> None:
        """Forget the events below a position: they are committed."""
        self._file.forget(position)

    def idle(self) -> None:
        """Let the source do what it must while nobody reads."""
        idle = getattr(self._inner, "idle", None)
        if callable(idle):
            idle()

    def progress(self) -> float | None:
        """Give the fraction of the source that was read, where it can tell."""
        progress = getattr(self._inner, "progress", None)
        return progress() if callable(progress) else None

    def close(self) -> None:
        """End the reading; what a plain iterator has given already is stored for the run that goes on."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._pump is not None:
                self._keep_rest(self._pump)
            elif self._inner is not None:
                self._inner.close()
        finally:
            self._file.close()

    # -- what is stored -----------------------------------------------------------------------------------------

    def _reload(self) -> None:
        first, piece = self._file.load(self._given)
        try:
            events = decode(_payload(piece), piece.count)
        except CodecError as error:
            raise CheckpointError(
                f"cannot resume: event {first} of source {self._name!r} or one behind it cannot be unpacked from"
                f" {self._file.path}: {error}"
            ) from error
        self._pending.extend(events[self._given - first :])

    def _store(self, events: Sequence[Any], *, ended: bool = False) -> float:
        """Store events in one transaction, to be given; gives about how many bytes one has.

        What cannot be stored becomes the error that comes behind those that are.
        """
        packed: list[Piece] = []
        copies: list[Any] = []
        refused = self._pack(events if isinstance(events, range) else list(events), packed, copies)
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
        return sum(len(piece.body) for piece in packed) / max(1, len(copies))

    def _pack(self, events: Sequence[Any], packed: list[Piece], copies: list[Any]) -> CodecError | None:
        """Pack events, and unpack them as a resumed run would; gives why the first cannot be that is not in `packed`."""
        failed: CodecError | None = None
        while events:
            try:
                payload = self._encoder.encode(events)
                if payload.nbytes > _PIECE_BYTES and len(events) > 1:
                    middle = len(events) // 2
                    refused = self._pack(events[:middle], packed, copies)
                    return refused or self._pack(events[middle:], packed, copies) or failed
                if payload.nbytes > _LARGEST_BYTES:
                    raise CodecError(f"it takes {payload.nbytes:,} bytes; give the path of a file instead", position=0)
                piece = Piece(len(events), payload.codec, ormsgpack.packb([bytes(frame) for frame in payload.frames]))
                given = events if is_atomic(list(events)) else self._unpacked(piece)
            except CodecError as error:
                failed, events = error, events[: error.position or 0]
                continue
            packed.append(piece)
            copies.extend(given)
            break
        return failed

    def _unpacked(self, piece: Piece) -> list[Any]:
        """Unpack events again; raises `CodecError` with the position of the first that cannot be."""
        payload = _payload(piece)
        try:
            return decode(payload, piece.count)
        except CodecError:
            errors = decode_part(payload, 0, piece.count, piece.count)[1]
            if not errors:
                raise
            raise errors[min(errors)] from None

    # -- the source ---------------------------------------------------------------------------------------------

    def _read_on(self, limit: int, max_bytes: int) -> None:
        if self._inner is None and self._pump is None:
            self._open()
        if self._pump is not None:
            self._read_pump(self._pump)
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
        """Open the source; a plain iterator goes into a pump, opened in the thread that reads it."""
        if not is_source(self._subject):
            self._pump = Pump(partial(open_reader, self._subject), self._name)
            return
        reader: Any = open_reader(self._subject)
        if getattr(reader, "one_by_one", False):
            self._pump = Pump(lambda: reader, self._name)
            return
        self._inner = reader
        # Here they are safe: what is kept for the source's sake until all is committed is kept in the journal now.
        journaled = getattr(reader, "journaled", None)
        if callable(journaled):
            self._tell = journaled
        elif getattr(self._subject, "acknowledges", False):
            self._tell = reader.acknowledge

    def _read_pump(self, pump: Pump) -> None:
        """Store what has come, and what came meanwhile; then the iterator pauses, with nothing of it in memory alone."""
        events = pump.take(_WAIT_S)
        if events and not pump.done:
            pump.most = max(1, min(_MOST, int(_AHEAD_BYTES / max(1.0, self._store(events)))))
            if self._failed:
                return
            events = pump.rest()
        done = pump.done
        if events or done:
            self._store(events, ended=done and pump.ended)
        if done and self._error is None:
            self._error = pump.error

    def _keep_rest(self, pump: Pump) -> None:
        """Store what came last. Nobody asks for more, so nobody else would say what cannot be."""
        rest = pump.close()
        if self._error is None and (rest or pump.ended):
            self._store(rest, ended=pump.ended)
            rest = []
            if self._failed:
                _LOG.error("%s", self._error)
        if rest:
            _LOG.error("%d events of source %r were read behind its failure and are lost", len(rest), self._name)

    @property
    def _failed(self) -> bool:
        return self._error is not None


def _payload(piece: Piece) -> Payload:
    try:
        return Payload(piece.codec, tuple(ormsgpack.unpackb(piece.body)))
    except ValueError as error:
        raise CodecError("its frames are damaged") from error


def _checked(file: JournalFile, name: str, position: object) -> int:
    """Give the place in a journal that a position is; raises `CheckpointError`."""
    at = 0 if position is None else position
    if not isinstance(at, int) or not file.first <= at <= file.count:
        raise CheckpointError(
            f"cannot resume: the checkpoint goes on at event {at!r} of source {name!r}, and the journal {file.path} has the"
            f" events from {file.first} to {file.count}, so the two do not belong together; restore them together, or"
            " begin afresh with resume='never'"
        )
    return at
