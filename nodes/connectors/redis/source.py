"""The Redis Streams source, and its reader by ids.

Decides how a single reader reads a stream: from a position on, by ranges that begin with the last entry read, so that
it notices entries which were trimmed before they were read.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import GraphError, kind_of
from ..compared import address
from .client import FIRST, Position, connect, entry_of, id_key, newest_id, read_pairs, stream_info, text_of
from .entry import RedisEntry
from .group_reader import GroupReader

_WAIT_MS = 100
#: Entries of one read.
MAX_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class RedisSource:
    """A stream as a source; made by `sluiceway.redis`."""

    stream: str
    url: str = field(repr=False)
    group: str | None = None
    consumer: str = "sluiceway"
    stop_at_end: bool = False
    start: str = FIRST

    def __repr__(self) -> str:
        return f"redis({self.stream!r})" if self.group is None else f"redis({self.stream!r}, group={self.group!r})"

    @property
    def name(self) -> str:
        """The stream, which names the node."""
        return self.stream

    def settings(self) -> dict[str, Any]:
        """Return what decides which entries are read; a consumer's pending entries are its own."""
        return {
            "server": address(self.url),
            "stream": self.stream,
            "group": self.group,
            "consumer": self.consumer if self.group is not None else None,
            "start": self.start,
        }

    @property
    def replay(self) -> str:
        """What reading again returns: the same entries by their ids, or what the group assigns."""
        return "exact" if self.group is None else "logged"

    @property
    def acknowledges(self) -> bool:
        """Whether its readers acknowledge entries: those of a group do."""
        return self.group is not None

    def reader(self, position: object | None, /) -> StreamReader | GroupReader:
        """Open the stream at its beginning, or at a position that one of its readers returned.

        Raises `ConnectionError` if the server does not answer.
        """
        if position is not None and not (isinstance(position, list | tuple) and len(position) == 2):
            raise GraphError(f"cannot go on from {kind_of(position)}: the position in a stream is a pair of ids")
        after = None if position is None else (position[0], position[1])
        client = connect(self.url, "redis")
        read_pairs(client)
        try:
            if self.group is not None:
                return GroupReader(
                    client,
                    after,
                    stream=self.stream,
                    group=self.group,
                    consumer=self.consumer,
                    start=self.start,
                    stop_at_end=self.stop_at_end,
                )
            return StreamReader(self, client, after)
        except BaseException:
            client.close()
            raise


class StreamReader:
    """Reads one stream by ids."""

    def __init__(self, source: RedisSource, client: Any, after: Position | None) -> None:
        self._source = source
        self._client = client
        self._last, self._end = after or (source.start, None)
        #: Whether the entry `_last` was read: while it exists, nothing behind it was trimmed.
        self._anchored = after is not None and after[0] not in (source.start, FIRST)
        self._thread = 0
        self._closed = False
        self._entry_bytes = 0.0
        if self._last == "$" or (source.stop_at_end and self._end is None):
            newest = newest_id(client, source.stream)
            self._end = newest if source.stop_at_end else None
            self._last = newest if self._last == "$" else self._last

    def read(self, limit: int, max_bytes: int, /) -> Sequence[RedisEntry] | None:
        """Return the entries that are there, waiting a moment if there are none; `None` at the end.

        Raises `LookupError` if entries were trimmed before they were read.
        """
        self._thread = threading.get_ident()
        if self._closed or (self._end is not None and id_key(self._last) >= id_key(self._end)):
            return None
        count = max(1, min(limit, MAX_ENTRIES, int(max_bytes / self._entry_bytes) if self._entry_bytes else limit))
        entries = self._range(count)
        if entries:
            self._last, self._anchored = entries[-1].id, True
            self._entry_bytes = sum(map(_size, entries)) / len(entries)
        elif self._end is not None:
            return None  # the rest up to the end was deleted
        else:
            # only to wait: the next call reads the entries as a range
            self._client.xread({self._source.stream: self._last}, count=1, block=_WAIT_MS)
        return entries

    def _range(self, count: int) -> list[RedisEntry]:
        anchored = self._anchored
        least = self._last if anchored else "(" + self._last
        raw = self._client.xrange(self._source.stream, least, self._end or "+", count + anchored)
        entries = [entry_of(entry_id, fields, repr(self._source)) for entry_id, fields in raw]
        if not anchored:
            return entries
        if entries and entries[0].id == self._last:
            return entries[1:]
        self._check_trimmed()
        return entries[:count]

    def _check_trimmed(self) -> None:
        """The last entry read is gone: raise `LookupError` unless certainly no other was trimmed before it was read."""
        info = stream_info(self._client, self._source.stream)
        if info is not None and text_of(info["last-generated-id"]) == self._last:
            return  # nothing came after it
        if info is not None and id_key(text_of(info["last-generated-id"])) < id_key(self._last):
            raise LookupError(
                f"cannot read from {self._source!r}: the entry {self._last} was read, but the stream has never had an id as "
                "high, so it was deleted and made anew; start anew to read it from its beginning"
            )
        first = info and info["first-entry"]
        if first and id_key(text_of(first[0])) < id_key(self._last):
            return  # only this entry was deleted: older ones are still there
        raise LookupError(
            f"cannot read from {self._source!r}: the entry {self._last}, the last one read, is gone and the stream begins "
            "behind it, so entries may have been trimmed before they were read; keep entries for longer than a run may "
            "pause, or start anew to go on without them"
        )

    def position(self) -> Position:
        """Return the id of the last entry read, and of the last one to read if the source ends."""
        return self._last, self._end

    def close(self) -> None:
        """Stop reading. Called by another thread than the reading one, it only makes that one stop."""
        self._closed = True
        if self._thread in (0, threading.get_ident()):
            self._client.close()


def _size(entry: RedisEntry) -> int:
    return sum(len(name) + len(value) for name, value in entry.fields.items())
