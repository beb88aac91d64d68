"""The reader of a Redis stream as a consumer of a group.

Decides what is read first (what this consumer was assigned before and did not acknowledge), what is acknowledged when,
and that a lost answer loses no entry: the entries in it are pending, and are read again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from .client import ANSWER_S, FIRST, Position, entry_of, id_key, newest_id, package, text_of
from .entry import RedisEntry

LOG = logging.getLogger("sluiceway")
_WAIT_MS = 100
#: Entries of one read, and ids of one command.
MAX_ENTRIES = 10_000
MAX_IDS = 1_000
#: Ids that an error names.
MAX_SHOWN = 100


class GroupReader:
    """Reads what a group assigns to one consumer."""

    def __init__(
        self,
        client: Any,
        position: Position | None,
        *,
        stream: str,
        group: str,
        consumer: str,
        start: str,
        stop_at_end: bool,
    ) -> None:
        errors = package("redis").exceptions
        self._passing = (errors.ConnectionError, errors.TimeoutError)
        self._client = client
        self._stream = stream
        self._group = group
        self._consumer = consumer
        self._last, self._end = position or (FIRST, None)
        #: The id behind which pending entries are read, `None` after the last of them.
        self._pending: str | None = self._last
        self._given: deque[str] = deque()
        self._done: list[str] = []
        self._extent: tuple[str, ...] = ()
        self._failing_since: float | None = None
        self._entry_bytes = 0.0
        self._thread = 0
        self._closed = False
        self._create_group(start, errors.ResponseError)
        if stop_at_end and self._end is None:
            self._end = newest_id(client, stream)
        if position is not None:
            self._acknowledge_up_to(position[0])

    def __repr__(self) -> str:
        return f"redis({self._stream!r}, group={self._group!r})"

    def _create_group(self, start: str, refused: type[Exception]) -> None:
        try:
            self._client.xgroup_create(self._stream, self._group, start, mkstream=True)
        except refused as error:
            if not str(error).startswith("BUSYGROUP"):  # the group exists already
                raise

    def _acknowledge_up_to(self, last: str) -> None:
        """Acknowledge what a run that died had finished, but not acknowledged, when it made its last checkpoint."""
        while pending := self._client.xpending_range(
            self._stream, self._group, "-", last, MAX_IDS, consumername=self._consumer
        ):
            self._client.xack(self._stream, self._group, *[entry["message_id"] for entry in pending])

    def read(self, limit: int, max_bytes: int, /) -> Sequence[RedisEntry] | None:
        """Return what is pending, then what is new, waiting a moment if there is nothing; `None` at the end.

        Raises `LookupError` if a pending entry was deleted, and the client's own error if the server stays away.
        """
        self._thread = threading.get_ident()
        self._acknowledge_done()
        if self._closed:
            return None
        count = max(1, min(limit, MAX_ENTRIES, int(max_bytes / self._entry_bytes) if self._entry_bytes else limit))
        if self._pending is not None:
            entries = self._read_group(self._pending, count)
            if entries or entries is None:
                return entries or []
            self._pending = None
        if self._end is not None and id_key(self._last) >= id_key(self._end):
            return None
        entries = self._read_group(">", count)
        # with an end, reading ends too when the group has nothing more: other consumers have the rest
        return None if entries == [] and self._end is not None else entries or []

    def _read_group(self, begin: str, count: int) -> list[RedisEntry] | None:
        """Return entries of the group, or `None` if the server did not answer."""
        wait = _WAIT_MS if begin == ">" and self._end is None else None
        try:
            raw = self._client.xreadgroup(self._group, self._consumer, {self._stream: begin}, count, block=wait)
        except self._passing as error:
            self._raise_if_away_too_long(error)
            self._pending = self._last  # what was in a lost answer is pending now
            return None
        self._failing_since = None
        entries = [entry_of(entry_id, fields, repr(self)) for entry_id, fields in (raw[0][1] if raw else ())]
        if any(not entry.fields for entry in entries):
            raise self._deleted()
        if entries:
            self._remember(entries)
            if begin != ">":
                self._pending = entries[-1].id
        return entries

    def _deleted(self) -> LookupError:
        """Return the error that names every pending entry of this consumer that was deleted, so that one XACK is enough."""
        gone: list[str] = []
        after, part = FIRST, [(b"", None)]
        while part:
            raw = self._client.xreadgroup(self._group, self._consumer, {self._stream: after}, MAX_IDS)
            part = raw[0][1] if raw else []
            gone += [text_of(entry_id) for entry_id, fields in part if not fields]
            after = text_of(part[-1][0]) if part else after
        shown = " ".join(gone[:MAX_SHOWN]) + (f" and {len(gone) - MAX_SHOWN} more" if len(gone) > MAX_SHOWN else "")
        entries = f"the entry {shown}" if len(gone) == 1 else f"{len(gone)} entries ({shown})"
        return LookupError(
            f"cannot read from {self!r}: {entries}, which consumer {self._consumer!r} was given and did not acknowledge, "
            f"{'was' if len(gone) == 1 else 'were'} deleted; acknowledge with XACK to go on without"
        )

    def _remember(self, entries: Sequence[RedisEntry]) -> None:
        self._extent = tuple(entry.id for entry in entries)
        self._given.extend(self._extent)
        self._last = self._extent[-1]
        nbytes = sum(len(name) + len(value) for entry in entries for name, value in entry.fields.items())
        self._entry_bytes = nbytes / len(entries)

    def _raise_if_away_too_long(self, error: Exception) -> None:
        """Raise the client's error if the server has not answered for `ANSWER_S` seconds."""
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if now - self._failing_since > ANSWER_S:
            raise error

    def position(self) -> Position:
        """Return the id of the last entry returned, and of the last one to read if the source ends."""
        return self._last, self._end

    def extent(self) -> tuple[str, ...]:
        """Return the ids that the last read returned."""
        return self._extent

    def replay(self, extent: Iterable[str]) -> list[RedisEntry]:
        """Return exactly the entries with these ids again, to be called before the first `read`.

        Raises `LookupError` if one of them is gone.
        """
        ids = list(extent)
        pipe = self._client.pipeline(transaction=False)
        for entry_id in ids:
            pipe.xrange(self._stream, entry_id, entry_id)
        entries = []
        for entry_id, found in zip(ids, pipe.execute(), strict=True):
            if not found:
                raise LookupError(
                    f"cannot replay {self!r}: the entry {entry_id} was deleted; keep entries until they are "
                    "acknowledged, or start anew with resume='never'"
                )
            entries.append(entry_of(found[0][0], found[0][1], repr(self)))
        if entries:
            self._remember(entries)
            self._pending = self._last
        return entries

    def acknowledge(self, position: Sequence[Any]) -> None:
        """Acknowledge every entry up to a position; the next `read` repeats it if the server is away."""
        behind = id_key(position[0])
        while self._given and id_key(self._given[0]) <= behind:
            self._done.append(self._given.popleft())
        self._acknowledge_done()

    def _acknowledge_done(self) -> None:
        while self._done:
            part = self._done[:MAX_IDS]
            try:
                self._client.xack(self._stream, self._group, *part)
            except self._passing as error:
                self._raise_if_away_too_long(error)
                return
            self._failing_since = None
            del self._done[:MAX_IDS]

    def close(self) -> None:
        """Stop reading. Called by another thread than the reading one, it only makes that one stop."""
        self._closed = True
        if self._thread in (0, threading.get_ident()):
            if self._done:
                LOG.warning("%r: %d entries could not be acknowledged; they are given again", self, len(self._done))
            self._client.close()
