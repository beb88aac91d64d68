"""A table as a sink: rows and the number together in one transaction.

Decides what is in that transaction and when it ends. Between two commits rows wait in the open transaction, on SQLite
in a spool (`sqlite_spool`). `progress_table` decides what is written beside them.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import sqlalchemy as sa

from ...errors import CheckpointError, with_article
from ...scalars import plain_value
from ...sinks import BadEvent
from .claim_table import ClaimTable
from .column_values import Fit, fit_of
from .database import begin, connect, database, describe, ensure_table, reflected, shown, wait_for_locks
from .progress_table import ProgressTable, progress_table
from .rows import RowChunk, chunks, insert, row_of
from .sqlite_spool import Spool

#: The type that a column is created with, by the Python type of its values.
TYPES: dict[type, Any] = {
    bool: sa.Boolean(),
    int: sa.BigInteger(),
    float: sa.Double(),
    str: sa.Text(),
    bytes: sa.LargeBinary(),
    decimal.Decimal: sa.Numeric(),
    dt.datetime: sa.DateTime(timezone=True),
    dt.date: sa.Date(),
    dt.time: sa.Time(),
    uuid.UUID: sa.Uuid(),
    dict: sa.JSON(),
    list: sa.JSON(),
}


class _Stage(Protocol):
    """Where rows are between `write` and `commit`."""

    def add(self, chunk: RowChunk) -> None: ...
    def apply(self) -> None: ...
    def applied(self) -> None: ...


class _DirectInsert:
    """Rows go to the table at once, in the transaction that stays open."""

    def __init__(self, connection: sa.Connection, table: sa.Table, what: str) -> None:
        self._connection, self._table, self._what = connection, table, what

    def add(self, chunk: RowChunk) -> None:
        begin(self._connection)
        insert(self._connection, self._table, chunk, self._what)

    def apply(self) -> None:
        """Do nothing: the rows are there."""

    def applied(self) -> None:
        """Do nothing: nothing waits."""


class SqlSink:
    """Inserts dicts as rows; made by `sluiceway.sql_sink`. It is pickled without its connection."""

    delivery = "exactly-once"
    #: It commits during the run, so that little is lost and little waits.
    commits = True

    def __init__(
        self,
        url: str,
        *,
        table: str,
        schema: str | None = None,
        create: bool | Mapping[str, Any] = False,
        numbers: tuple[str, str] | None = None,
        name: str | None = None,
    ) -> None:
        self._arguments = {
            "table": table, "schema": schema, "create": create, "numbers": numbers, "name": name,
        }  # fmt: skip
        self._url = url
        self._name, self._schema, self._create, self._numbers = table, schema, create, numbers
        self._sink = name or table
        self._fence: int | None = None
        self._claims: ClaimTable | None = None
        self._connection: sa.Connection | None = None
        self._progress: ProgressTable | None = None
        self._stage: _Stage | None = None
        self._known: dict[str, Fit | None] = {}
        self._pending: int | None = None  # the last number written since the last commit

    def __repr__(self) -> str:
        return f"sql_sink({shown(self._url)!r}, table={self._name!r})"

    @property
    def name(self) -> str:
        """The table, which names the node."""
        return self._name

    def settings(self) -> dict[str, Any]:
        """Return what decides where rows are stored and what is in them."""
        return {
            "database": database(self._url),
            "table": self._name,
            "schema": self._schema,
            "name": self._sink,
            "numbers": None if self._numbers is None else list(self._numbers),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self._url, self._arguments)

    # -- the life of a run ------------------------------------------------------------------------------------------

    def fence(self, token: int) -> None:
        """Store the token of the run's lock; every later transaction checks that no higher one has written."""
        self._fence = token

    def claim(self, run: str, place: str) -> tuple[str, int] | None:
        """Return what the database holds of a run, or of an unfinished one of the same place; nothing is changed."""
        self._claims = ClaimTable(self._schema, self._sink, run, place)
        what = f"cannot write to {self!r}"
        try:
            connection = connect(self._url, what)
        except FileNotFoundError:  # an SQLite file that `open` makes
            return None
        with connection:
            wait_for_locks(connection)
            return self._claims.held(connection, progress_table(self._schema))

    def open(self) -> None:
        """Begin a new run; raises `LookupError` for a missing table that may not be created."""
        self._begin().start(self._connected())

    def recover(self, token: object) -> int:
        """Continue the run of `token` and return the last number whose rows are committed.

        Raises `CheckpointError` if the database does not know that run or is older than the token.
        """
        match token:
            case {"run": str(run), "number": int(number)}:
                pass
            case _:
                raise CheckpointError(f"cannot go on writing to {self!r}: the token is not one of an SQL sink")
        progress = self._begin()
        progress.resume(self._connected(), run, number)
        return progress.number

    def _begin(self) -> ProgressTable:
        claims = self._claims
        self.abort()
        what = f"cannot write to {self!r}"
        self._connection = connect(self._url, what, create=True)
        try:
            wait_for_locks(self._connection)
            if isinstance(self._create, Mapping):
                self._make_table({name: column_type(kind) for name, kind in self._create.items()})
            self._open_table()
            if self._stage is None and self._create is not True:
                raise LookupError(f"{what}: there is no table {self._name!r}; make it, or pass create=True")
            self._progress = ProgressTable(self._schema, self._sink, what, self._fence, claims)
        except BaseException:
            self.abort()
            raise
        return self._progress

    def write(self, events: Sequence[Any], /) -> None:
        """Insert events as rows in the open transaction.

        Raises `BadEvent`, with the `position` in the batch, for an event that is no row or that the database refuses,
        all before it inserted; its text names the column or the rule, never a value.
        """
        if not events:
            return
        what = f"cannot write to {self!r}"
        if self._stage is None:
            self._make_table(self._types_of(events[0]))
            self._open_table()
        assert self._stage is not None
        if self._pending is None:
            self._pending = self._running().number
        for chunk in chunks(events, self._known, self._numbers, what):
            self._stage.add(chunk)
        if numbers := getattr(events, "numbers", None):
            self._pending = numbers[-1][0]

    def commit(self, number: int, /) -> dict[str, Any]:
        """Commit what was written together with `number`, and return the token to recover with.

        Raises `LockLost`, with nothing committed, if the sink has a token and a higher one has written;
        `RuntimeError` if the database refuses, which rolls back everything since the last commit.
        """
        progress, connection = self._running(), self._connected()
        if number < progress.number:
            raise ValueError(f"cannot commit {self!r} at {number}: it is at {progress.number} already")
        reason = ""
        try:
            with begin(connection):
                if self._stage is not None:
                    self._stage.apply()
                progress.advance(connection, number)
        except sa.exc.SQLAlchemyError as error:
            reason = describe(error)
        if reason:
            raise RuntimeError(f"cannot commit {self!r} at number {number}: {reason}")
        if self._stage is not None:
            self._stage.applied()
        progress.committed(number)
        self._pending = None
        return {"run": progress.run, "number": number}

    def close(self) -> None:
        """Commit what is left, record that the run has finished, and close the connection."""
        if self._connection is not None and self._pending is not None:
            self.commit(max(self._pending, self._running().number))
        if self._connection is not None:
            self._running().finish(self._connection)
        self.abort()

    def abort(self) -> None:
        """Roll back what is not committed and close the connection."""
        connection, self._connection = self._connection, None
        self._stage, self._progress, self._pending, self._claims = None, None, None, None
        if connection is not None:
            connection.close()

    # -- the table --------------------------------------------------------------------------------------------------

    def _open_table(self) -> None:
        connection = self._connected()
        table = reflected(connection, self._name, self._schema)
        if table is None:
            return
        sqlite = connection.dialect.name == "sqlite"
        self._known = {column.name: fit_of(column.type, sqlite=sqlite) for column in table.columns}
        missing = [name for name in self._numbers or () if name not in self._known]
        if missing:
            raise LookupError(
                f"cannot write to {self!r}: the table has no column {missing[0]!r} for the events' numbers; add it, or "
                "name others with numbers="
            )
        stage = Spool if sqlite else _DirectInsert
        self._stage = stage(connection, table, f"cannot write to {self!r}")

    def _make_table(self, types: Mapping[str, Any]) -> None:
        numbers = self._numbers or ()
        columns = [sa.Column(name, sa.BigInteger, primary_key=True, autoincrement=False) for name in numbers]
        columns += [sa.Column(name, kind) for name, kind in types.items() if name not in numbers]
        table = sa.Table(self._name, sa.MetaData(), *columns, schema=self._schema)
        ensure_table(self._connected(), table, f"cannot write to {self!r}")

    def _types_of(self, event: Any) -> dict[str, Any]:
        """Return the column types for the first event; raises `BadEvent` if it does not determine them."""
        try:
            row = row_of(event)
            return {name: self._type_for(value) for name, value in row.items()}
        except TypeError as error:
            message = f"cannot write to {self!r}: {error}"
        raise BadEvent(message, 0)

    def _type_for(self, value: Any) -> Any:
        """Return the column type for a first value: one that takes it as it is."""
        value = plain_value(value)
        if isinstance(value, dt.datetime) and value.tzinfo is None:
            return sa.DateTime()
        if isinstance(value, uuid.UUID) and self._connected().dialect.name == "sqlite":
            raise TypeError("SQLite has no column type for a UUID, which it would give back as a text; map it to str")
        return column_type(type(value))

    def _connected(self) -> sa.Connection:
        if self._connection is None:
            raise RuntimeError(f"cannot write to {self!r}: it is not open; call open() or recover() first")
        return self._connection

    def _running(self) -> ProgressTable:
        self._connected()
        assert self._progress is not None
        return self._progress


def _unpickled(url: str, arguments: dict[str, Any]) -> SqlSink:
    return SqlSink(url, **arguments)


def column_type(kind: Any) -> Any:
    """Return the SQL type for a Python type; an SQL type stays itself. Raises `TypeError` for any other."""
    if isinstance(kind, sa.types.TypeEngine) or (isinstance(kind, type) and issubclass(kind, sa.types.TypeEngine)):
        return kind
    if kind in TYPES:
        return TYPES[kind]
    name = "None" if kind is type(None) else with_article(getattr(kind, "__name__", str(kind)))
    raise TypeError(
        f"there is no column type for {name}; make the table beforehand, or pass create= a dict of columns and types"
    )
