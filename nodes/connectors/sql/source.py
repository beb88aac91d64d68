"""Rows as a source: pages by key, polled on request, with rows left alone until they are settled.

Decides when a row is read. A row that is committed late, with a key below one that was already read, would never be
seen. So with `settle_s` a row is read when it is old enough: by the time in its key, or, for other keys, when a key at
least as high was first seen that long ago.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import sqlalchemy as sa

from ...errors import kind_of
from ..compared import digest, digests
from .database import connect, database, describe, lost, read_one_by_one, shown
from .queries import Key, Selection, Wanted
from .sqlite_types import NotOfItsType

#: How long one empty read may wait, in seconds.
_WAIT_S = 0.1
#: Rows of the first page; the size of the rows decides for later ones.
_FIRST_ROWS = 64
_REPLAY_ROWS = 1000
#: How many sightings of the highest key are stored.
_SIGHTS = 16


@dataclass(frozen=True, slots=True, repr=False)
class SqlSource:
    """A source of rows as dicts; made by `sluiceway.sql`. It holds no connection, its readers do."""

    replay: ClassVar[str] = "logged"

    url: str
    wanted: Wanted
    poll_s: float | None
    settle_s: float
    batch_size: int

    def __repr__(self) -> str:
        of = f"table={self.wanted.table!r}" if self.wanted.query is None else "query=..."
        return f"sql({shown(self.url)!r}, {of})"

    @property
    def name(self) -> str:
        """The table, which names the node."""
        return self.wanted.table or "query"

    def settings(self) -> dict[str, Any]:
        """Return what decides which rows are read and in which order; values for `:name` as digests."""
        wanted = self.wanted
        return {
            "database": database(self.url),
            "table": wanted.table,
            "query": wanted.query,
            "schema": wanted.schema,
            "key": list(wanted.key),
            "columns": None if wanted.columns is None else list(wanted.columns),
            "where": wanted.where,
            "params": digests(dict(wanted.params)),
            "after": None if wanted.after is None else digest(repr(wanted.after)),
        }

    def reader(self, position: object | None, /) -> SqlReader:
        """Connect and read from the beginning or from a position.

        Raises `ConnectionError` if the database cannot be reached, `LookupError` for a missing table or
        column, `ValueError` for a table without a key and a position of another key.
        """
        return SqlReader(self, position)


class _KeySightings:
    """When which key was the highest. Pure."""

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._seen: deque[tuple[float, Key]] = deque()
        self.settled: Key | None = None

    def record(self, now: float, top: Callable[[], Key | None]) -> None:
        """Record the highest key, not too often, and find the one that was seen long enough ago."""
        if not self._seen or now - self._seen[-1][0] >= self._settle_s / _SIGHTS:
            key = top()
            if key is not None:
                self._seen.append((now, key))
        while self._seen and now - self._seen[0][0] >= self._settle_s:
            self.settled = self._seen.popleft()[1]

    @property
    def waits(self) -> bool:
        """Whether a key was seen that is not settled yet."""
        return bool(self._seen)


class SqlReader:
    """Reads the rows of one source, on a connection of its own, without a transaction between two reads."""

    def __init__(
        self, source: SqlSource, position: object | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._what = f"cannot read {source!r}"
        self._clock = clock
        self._closed = threading.Event()
        self._busy = threading.Lock()
        self._connection: sa.Connection | None = self._connect()
        try:
            self._selection: Selection = self._with_connection(
                lambda connection: Selection(connection, source.wanted, self._what)
            )
            self._after = self._parse_position(position)
            self._check_forms()
        except BaseException:
            self.close()
            raise
        self._rows: deque[tuple[dict[str, Any], Key, int]] = deque()
        self._given: tuple[Key, ...] = ()
        self._page_rows = min(_FIRST_ROWS, source.batch_size)
        self._due = -math.inf
        self._ended = False
        by_sight = source.settle_s > 0 and not self._selection.timed
        self._sights = _KeySightings(source.settle_s) if by_sight else None
        self._upto: Key | None = None  # the last key to be read, where the reading ends at one

    def _parse_position(self, position: object | None) -> Key | None:
        match position:
            case None:
                return None
            case {"key": key, "after": after} if tuple(key) == self._selection.key:
                return None if after is None else tuple(after)
            case {"key": key, "after": _}:
                raise ValueError(
                    f"{self._what} from this position: it is of the key {', '.join(key)}, not of "
                    f"{', '.join(self._selection.key)}; set key= as it was, or begin anew"
                )
        raise ValueError(f"{self._what} from {kind_of(position)}: it is no position of this source")

    def _check_forms(self) -> None:
        """Refuse to begin among times that SQLite cannot compare; raises `ValueError`."""
        if self._after is not None:
            self._selection.check_form(self._after)
            return
        for statement in self._selection.ends():
            for row in self._ask(statement):
                self._selection.check_form(tuple(row))

    # -- what the engine calls --------------------------------------------------------------------------------------

    def read(self, limit: int, max_bytes: int, /) -> Sequence[dict[str, Any]] | None:
        """Return the next rows: `None` behind the last one without polling, empty when none is there yet.

        Raises `ConnectionError` if the database is gone, also at a second attempt, `RuntimeError` if it refuses a
        statement, `ValueError` for two rows with the same key.
        """
        try:
            with self._busy:
                return self._read(max(limit, 1), max_bytes)
        finally:
            if self._closed.is_set():
                self.close()

    def position(self) -> dict[str, Any]:
        """Return the key of the last row that was returned."""
        return {"key": self._selection.key, "after": self._after}

    def extent(self) -> tuple[Any, ...]:
        """Return the keys of the last read that returned rows; consecutive whole numbers as first and last."""
        keys = self._given
        if len(self._selection.key) > 1:
            return ("keys", *keys)
        values = [key[0] for key in keys]
        if values and all(type(value) is int for value in values) and values[-1] - values[0] == len(values) - 1:
            return "numbers", values[0], values[-1]
        return ("keys", *values)

    def replay(self, extent: object) -> Sequence[dict[str, Any]]:
        """Return exactly the rows of an extent again, as they are now, and continue behind them.

        Raises `LookupError` if some are gone, `ValueError` for what is no extent.
        """
        keys = self._keys_of(extent)
        with self._busy:
            found = self._found(keys)
            missing = [at for at, key in enumerate(keys) if key not in found]
            if missing:
                raise LookupError(
                    f"{self._what} once more: {len(missing)} of {len(keys)} rows that the run had read are gone or have "
                    f"another key now, the first is row {missing[0]} of its read; put them back, or begin anew with "
                    "resume='never'; read rows that do not change"
                )
            self._rows.clear()
            self._given = keys
            self._after = keys[-1]
            return [found[key] for key in keys]

    def close(self) -> None:
        """Stop reading; a `read` that waits in another thread returns."""
        self._closed.set()
        if self._busy.acquire(blocking=False):  # else the reading thread closes when its read is done
            try:
                connection, self._connection = self._connection, None
                if connection is not None:
                    connection.close()
            finally:
                self._busy.release()

    # -- pages ------------------------------------------------------------------------------------------------------

    def _read(self, limit: int, max_bytes: int) -> Sequence[dict[str, Any]] | None:
        if not self._rows and not self._closed.is_set() and not self._ended:
            self._fill(max_bytes)
        if not self._rows or self._closed.is_set():
            return None if self._ended or self._closed.is_set() else []
        events: list[dict[str, Any]] = []
        keys: list[Key] = []
        size = 0
        while self._rows and len(events) < limit and (not events or size < max_bytes):
            event, key, weight = self._rows.popleft()
            size += weight
            events.append(event)
            keys.append(key)
        self._given = tuple(keys)
        self._after = keys[-1]
        return events

    def _fill(self, max_bytes: int) -> None:
        """Fetch the next page, or wait for it to be due."""
        early_s = self._due - self._clock()
        if early_s > 0:
            self._closed.wait(min(early_s, _WAIT_S))
            if self._closed.is_set() or self._clock() < self._due:
                return
        if self._sights is not None and not self._update_settled(self._sights):
            return
        wanted = self._page_rows
        # one row more than wanted shows whether there is another page, and whether a key repeats across the border
        page = self._ask(self._selection.page(self._after, self._upto, wanted + 1))
        self._refuse_twins(page)
        settled = self._settled(page[:wanted])
        self._accept_page(page[:settled], max_bytes)
        if len(page) > wanted and settled == wanted:
            return
        if self._source.poll_s is None:
            self._ended = True
        else:
            self._due = self._clock() + self._source.poll_s

    def _update_settled(self, sights: _KeySightings) -> bool:
        """Whether there may be settled rows; without polling, those that were there at first are read."""
        now = self._clock()
        if self._source.poll_s is not None:
            sights.record(now, self._top)
            self._upto = sights.settled
        elif self._upto is None:
            sights.record(now, self._top) if not sights.waits else sights.record(now, lambda: None)
            self._upto = sights.settled
            self._ended = self._upto is None and not sights.waits
        if self._upto is None and not self._ended:
            self._due = now + min(self._source.poll_s or _WAIT_S, _WAIT_S)
        return self._upto is not None

    def _top(self) -> Key | None:
        rows = self._ask(self._selection.top(self._after))
        return tuple(rows[0]) if rows else None

    def _refuse_twins(self, page: Sequence[Any]) -> None:
        """Refuse two rows with one key: a page that ends between them would lose the second."""
        if self._selection.unique:
            return
        keys = [self._selection.split(row)[1] for row in page]
        if any(one == other for one, other in pairwise(keys)):
            raise ValueError(
                f"{self._what}: two rows have the same key ({', '.join(self._selection.key)}), so that there is no "
                "place between them to go on from; add columns to key= until it differs in every row"
            )

    def _settled(self, page: Sequence[Any]) -> int:
        """Return how many rows of a page are settled."""
        if self._source.settle_s <= 0 or not self._selection.timed:
            return len(page)
        for at, row in enumerate(page):
            if self._selection.age_s(row) < self._source.settle_s:
                return at
        return len(page)

    def _accept_page(self, page: Sequence[Any], max_bytes: int) -> None:
        total = 0
        for row in page:
            event, key = self._selection.split(row)
            self._selection.check_form(key)
            weight = _weight(event)
            total += weight
            self._rows.append((event, key, weight))
        if page:
            fitting = max(1, max_bytes * len(page) // total)
            self._page_rows = max(1, min(self._source.batch_size, 2 * self._page_rows, fitting))

    def _found(self, keys: tuple[Key, ...]) -> dict[Key, dict[str, Any]]:
        """Return the rows with these keys that are there; rows that came between them later are ignored, page by page."""
        wanted = set(keys)
        found: dict[Key, dict[str, Any]] = {}
        after: Key | None = None
        while True:
            page = self._ask(self._selection.between(keys[0], keys[-1], after, _REPLAY_ROWS))
            for row in page:
                event, after = self._selection.split(row)
                if after in wanted:
                    found[after] = event
            if len(page) < _REPLAY_ROWS:
                return found

    def _keys_of(self, extent: object) -> tuple[Key, ...]:
        match extent:
            case ["numbers", int(first), int(last)] if first <= last:
                return tuple((number,) for number in range(first, last + 1))
            case ["keys", _, *_] if isinstance(extent, tuple | list):
                keys = extent[1:]
                return tuple(tuple(key) if len(self._selection.key) > 1 else (key,) for key in keys)
        raise ValueError(f"{self._what} once more: this is no extent of its rows")

    # -- the connection ---------------------------------------------------------------------------------------------

    def _connect(self) -> sa.Connection:
        connection = connect(self._source.url, self._what)
        read_one_by_one(connection)
        return connection

    def _ask(self, statement: sa.Select[Any]) -> Sequence[Any]:
        rows: Sequence[Any] = self._with_connection(
            lambda connection: connection.execute(statement, self._selection.params).all()
        )
        return rows

    def _with_connection(self, question: Callable[[sa.Connection], Any]) -> Any:
        """Query the database; once more on a new connection if the old one is lost."""
        reason = ""
        for _ in range(2):
            if self._connection is None:
                self._connection = self._connect()
            try:
                answer = question(self._connection)
                self._connection.rollback()
                return answer
            except sa.exc.SQLAlchemyError as error:
                reason, gone = describe(error), lost(error)
            except NotOfItsType as error:
                reason, gone = str(error), False
            except (ValueError, TypeError) as error:
                # from a type of SQLAlchemy: the text of the error may contain the value
                reason, gone = f"a value does not fit the type of its column ({type(error).__name__})", False
            if not gone:
                raise RuntimeError(f"{self._what}: {reason}")
            self._connection.close()
            self._connection = None
        raise ConnectionError(f"{self._what}: the connection is lost: {reason}; start the database again")


def _weight(row: dict[str, Any]) -> int:
    """Return roughly how many bytes a row occupies."""
    return sum(len(value) if isinstance(value, str | bytes) else 16 for value in row.values()) + 16
