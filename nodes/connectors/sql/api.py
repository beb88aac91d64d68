"""The connector for SQL databases: `sluiceway.sql`, `sluiceway.sql_sink` and `sluiceway.postgres_lock`.

Decides the public arguments and what is refused before a database is reached. SQLAlchemy is needed when one of them
is called, not before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...checks import check_seconds, check_whole
from ...errors import GraphError
from ..extras import need

if TYPE_CHECKING:
    from .postgres_lock import PostgresLock
    from .sink import SqlSink
    from .source import SqlSource

__all__ = ["postgres_lock", "sql", "sql_sink"]


def sql(
    url: str,
    *,
    table: str | None = None,
    key: str | Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    where: str | None = None,
    query: str | None = None,
    params: Mapping[str, Any] | None = None,
    schema: str | None = None,
    poll_s: float | None = None,
    settle_s: float = 0.0,
    after: Any = None,
    batch_size: int = 1000,
) -> SqlSource:
    """Read the rows of a table, view or query as dicts, in the order of an increasing key.

    `url` is an SQLAlchemy URL. `key` names the column or columns that order the rows, by default the primary key;
    where they may be equal in two rows, the primary key comes behind them. Rows whose key is NULL are not there yet.
    `columns` picks columns; `where` is a condition in SQL and `query` a whole SELECT in place of `table`, both with
    `:name` for the values in `params`. `after` begins behind a key. `batch_size` bounds the rows of a page.

    Without `poll_s` the source ends behind the last row, else it looks for new ones every `poll_s` seconds. `settle_s`
    is for rows that are committed late: a row is read when the time in its key is that many seconds ago, or, where the
    key is no time, when a key as high was first seen that long ago.

    Raises `GraphError` for arguments that make no sense and packages that are not installed; the database is reached
    when a run starts.
    """
    need("sqlalchemy", "sql", "sql()")
    from .database import checked_url, is_sqlite
    from .parameters import bound, check_names
    from .queries import Wanted
    from .source import SqlSource

    if (table is None) == (query is None):
        raise GraphError("cannot make sql(): it reads either a table or a query; pass one of table= and query=")
    keys = (key,) if isinstance(key, str) else tuple(key or ())
    if query is not None and (not keys or where is not None or schema is not None):
        raise GraphError("cannot make sql(): query= needs key= and takes neither where= nor schema=; write them in it")
    if columns is not None and (isinstance(columns, str) or not columns):
        raise GraphError("cannot make sql(): columns must be a list of names; leave it out to read all")
    where_called = "cannot make sql()"
    if poll_s is not None:
        poll_s = check_seconds(where_called, "poll_s", poll_s, "pass for example 0.5, or None to end")
    settle_s = check_seconds(where_called, "settle_s", settle_s, "pass for example 0.5")
    batch_size = check_whole(where_called, "batch_size", batch_size, "pass for example 1000")
    url, values = checked_url(url, "sql()"), dict(params or {})
    check_names(where or query or "", values, where_called)
    bound(values, where_called, sqlite=is_sqlite(url))
    wanted = Wanted(
        table=table,
        query=query,
        schema=schema,
        key=keys,
        columns=None if columns is None else tuple(columns),
        where=where,
        params=tuple(values.items()),
        after=None if after is None else tuple(after) if isinstance(after, tuple | list) else (after,),
    )
    return SqlSource(url, wanted, poll_s, settle_s, batch_size)


def sql_sink(
    url: str,
    *,
    table: str,
    schema: str | None = None,
    create: bool | Mapping[str, Any] = False,
    numbers: Sequence[str] | None = None,
    name: str | None = None,
) -> SqlSink:
    """Insert dicts as rows of a table, exactly once: rows and the run's number are committed in one transaction.

    The number is in the table `sluiceway_progress`, which the sink makes, one row for each run. `create=True` makes
    the target table by the types of the first event, a dict of column names and types (of Python or SQLAlchemy) makes
    it before. `numbers=("seq", "index")` names two columns for the number of each event, the primary key of a table
    that is made. `name` tells sinks of one graph on the same table apart, and two graphs that write it under locks of
    their own; it is the table's name by default and must be the same on resume.

    Dead letters are rows of their fields, with the event as text. An event with other columns than the table, or that
    the database refuses, is a `BadEvent`, whose text names the column or the rule and no value.

    Raises `GraphError` for arguments that make no sense and packages that are not installed; the database is reached
    when a run starts.
    """
    need("sqlalchemy", "sql", "sql_sink()")
    from .database import checked_url
    from .sink import SqlSink, column_type

    if not isinstance(table, str) or not table:
        raise GraphError("cannot make sql_sink(): table must be the name of a table; pass table='...'")
    if name is not None and not 0 < len(name) <= 255:
        raise GraphError("cannot make sql_sink(): name must have 1 to 255 characters; shorten it")
    pair = tuple(numbers) if numbers is not None else None
    if pair is not None and (len(pair) != 2 or pair[0] == pair[1] or isinstance(numbers, str)):
        raise GraphError("cannot make sql_sink(): numbers must be two column names; pass for example ('seq', 'index')")
    if isinstance(create, Mapping):
        for column, kind in create.items():
            try:
                column_type(kind)
            except TypeError as error:
                raise GraphError(f"cannot make sql_sink(): column {column!r}: {error}") from None
    return SqlSink(
        checked_url(url, "sql_sink()"),
        table=table,
        schema=schema,
        create=create,
        numbers=None if pair is None else (pair[0], pair[1]),
        name=name,
    )


def postgres_lock(url: str, name: str, *, wait_s: float | None = 0) -> PostgresLock:
    """Make a lock that one run at a time holds, on all machines that reach the same PostgreSQL database.

    It is an advisory lock of a session, on a connection of its own: it ends with the process or the connection, within
    a quarter of a minute when the machine loses its power or the network. `name` says what is locked. `wait_s` is how
    long `acquire` waits for another holder: 0 not at all, `None` for ever. Its tokens come from the table
    `sluiceway_locks`, which it makes. It does not work through a pooler that shares sessions (PgBouncer in transaction
    mode).

    Raises `GraphError` for a URL of another database and packages that are not installed.
    """
    need("sqlalchemy", "sql", "postgres_lock()")
    from .database import backend, checked_url
    from .postgres_lock import PostgresLock

    checked = checked_url(url, "postgres_lock()")
    if backend(checked) != "postgresql":
        raise GraphError("cannot make postgres_lock(): it needs a PostgreSQL URL; pass postgresql+psycopg://...")
    if not isinstance(name, str) or not 0 < len(name) <= 255:
        raise GraphError("cannot make postgres_lock(): name must be a text of 1 to 255 characters; say what is locked")
    if wait_s is not None:
        wait_s = check_seconds("cannot make postgres_lock()", "wait_s", wait_s, "pass None to wait for ever")
    return PostgresLock(checked, name, wait_s)
