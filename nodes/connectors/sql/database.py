"""How a database is reached: URLs, connections, tables, and what the text of an error may contain.

Decides what of a URL is shown (no password, no query), the settings of a connection, and that a database's error is
described by its rule, column and class, never by values. The only file that makes engines.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import DOMAIN, TIME, TIMESTAMP

from ...errors import GraphError
from .sqlite_types import StoredDatetime, exact_type

#: How long a statement waits for another connection's lock, in seconds.
LOCK_WAIT_S = 60.0
_BEGIN = "sluiceway_begin"
#: When a connection to PostgreSQL counts as dead: seconds of silence before the first keepalive probe, seconds between
#: probes, their number; and milliseconds for which sent data may stay unacknowledged.
_IDLE_S, _EACH_S, _TIMES, _UNACKNOWLEDGED_MS = 5, 2, 3, 10_000
#: Settings by which libpq notices that the server is gone.
_LIBPQ = {
    "connect_timeout": 10,
    "keepalives_idle": _IDLE_S,
    "keepalives_interval": _EACH_S,
    "keepalives_count": _TIMES,
    "tcp_user_timeout": _UNACKNOWLEDGED_MS,
}
#: Settings by which the server notices that this process is gone.
_SERVER = {
    "tcp_keepalives_idle": str(_IDLE_S),
    "tcp_keepalives_interval": str(_EACH_S),
    "tcp_keepalives_count": str(_TIMES),
    "tcp_user_timeout": str(_UNACKNOWLEDGED_MS),  # since PostgreSQL 12
}
_SET = sa.text(
    "SELECT set_config(CAST(:name AS text), CAST(:value AS text), false)"
    " WHERE current_setting(CAST(:name AS text), true) IS NOT NULL"
)


def checked_url(url: object, maker: str) -> str:
    """Return the URL as text, with its password; raises `GraphError` for anything else, and if its driver is missing."""
    try:
        parsed = sa.make_url(url) if isinstance(url, str | sa.URL) else None
        dialect = parsed.get_dialect() if parsed is not None else None
        package = getattr(dialect, "driver", "")
    except sa.exc.NoSuchModuleError:
        assert parsed is not None
        raise GraphError(
            f"cannot make {maker}: SQLAlchemy knows no database {parsed.drivername!r}; correct the URL, for example "
            "postgresql+psycopg://user@host/name or sqlite:///file.db"
        ) from None
    except (sa.exc.ArgumentError, ValueError):
        parsed = None  # the error's own text may hold the password
    if parsed is None or dialect is None:
        raise GraphError(
            f"cannot make {maker}: this is no database URL; pass a text like postgresql+psycopg://user@host/name or "
            "sqlite:///file.db"
        )
    try:
        dialect.import_dbapi()
    except ImportError:
        install = "psycopg[binary]" if package == "psycopg" else package
        raise GraphError(
            f"cannot make {maker}: the driver {package} of this URL is not installed; install {install}"
        ) from None
    if dialect.is_async:
        raise GraphError(
            f"cannot make {maker}: the driver {package} is for asyncio, and sources, sinks and locks are not awaited; "
            "name another one in the URL, for example psycopg or pysqlite"
        )
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise GraphError(f"cannot make {maker}: a database in memory is seen by one connection only; name a file")
    return parsed.render_as_string(hide_password=False)


def shown(url: str) -> str:
    """Return a URL without password and options, for texts."""
    return sa.make_url(url).set(query={}).render_as_string(hide_password=True)


def database(url: str) -> str:
    """Return which database a URL names: its kind, server and name, without user, password, driver and options."""
    parsed = sa.make_url(url)
    where = f"{parsed.host or ''}:{parsed.port}" if parsed.port else parsed.host or ""
    return f"{parsed.get_backend_name()}://{where}/{parsed.database or ''}"


def backend(url: str) -> str:
    """Return the kind of database, like `"sqlite"` and `"postgresql"`."""
    return sa.make_url(url).get_backend_name()


def is_sqlite(url: str) -> bool:
    """Whether a URL is of an SQLite database."""
    return sa.make_url(url).get_backend_name() == "sqlite"


def driver(url: str) -> str:
    """Return the name of the driver package, like `"psycopg"`."""
    return sa.make_url(url).get_dialect().driver


def connect(url: str, what: str, *, create: bool = False) -> sa.Connection:
    """Open a connection that hides values in errors, on an engine without a pool; settings in the URL take precedence.

    `what` opens the text of an error. An SQLite file is created only with `create`. Raises `FileNotFoundError`
    for a missing one and `ConnectionError` if the database cannot be reached.
    """
    parsed = sa.make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    file = parsed.database or ""
    if sqlite and not create and not file.startswith("file:") and not os.path.exists(file):
        raise FileNotFoundError(f"{what}: there is no file {file} in {os.getcwd()}; correct the URL")
    options: Mapping[str, Any] = {"timeout": LOCK_WAIT_S} if sqlite else _LIBPQ if driver(url).startswith("psycopg") else {}
    arguments = {name: value for name, value in options.items() if name not in parsed.query}
    engine = sa.create_engine(parsed, poolclass=sa.NullPool, hide_parameters=True, connect_args=arguments)
    if sqlite:
        sa.event.listen(engine, "connect", _begin_by_hand)
        sa.event.listen(engine, "begin", _begin_as_asked)
    try:
        return engine.connect()
    except sa.exc.SQLAlchemyError as error:
        reason = describe(error)
    raise ConnectionError(f"{what}: the database cannot be reached: {reason}; start it, or correct the URL")


def _begin_by_hand(connection: Any, record: Any) -> None:
    """Stop sqlite3 from opening transactions by itself: it does so late, and not before every statement."""
    connection.isolation_level = None


def _begin_as_asked(connection: sa.Connection) -> None:
    statement = connection.get_execution_options().get(_BEGIN, "BEGIN")
    if statement:
        connection.exec_driver_sql(statement)


def read_one_by_one(connection: sa.Connection) -> None:
    """Make every statement a transaction of its own, so that no snapshot and no lock is held between them."""
    if connection.dialect.name == "sqlite":
        connection.execution_options(**{_BEGIN: ""})
    else:
        connection.execution_options(isolation_level="AUTOCOMMIT")


def begin(connection: sa.Connection, *, write: bool = True) -> sa.RootTransaction:
    """Begin a transaction, or return the open one; on SQLite it acquires the right to write at once."""
    open_one = connection.get_transaction()
    if open_one is not None:
        return open_one
    if connection.dialect.name == "sqlite":
        connection.execution_options(**{_BEGIN: "BEGIN IMMEDIATE" if write else "BEGIN"})
    return connection.begin()


def set_where_known(connection: sa.Connection, setting: str, value: str) -> None:
    """Change a setting of a PostgreSQL session; does nothing if this server does not have it."""
    connection.execute(_SET, {"name": setting, "value": value})


def end_when_gone(connection: sa.Connection) -> None:
    """Let the server end the session, and free its locks, soon after this process or its machine is gone."""
    for name, value in _SERVER.items():
        set_where_known(connection, name, value)


def wait_for_locks(connection: sa.Connection) -> None:
    """Bound the wait for locks, and let the transaction stay open between writes while this process exists."""
    if connection.dialect.name == "postgresql":
        end_when_gone(connection)
        settings: Mapping[str, str] = {
            "lock_timeout": f"{LOCK_WAIT_S * 1000:.0f}",
            "idle_in_transaction_session_timeout": "0",
        }
        for name, value in settings.items():
            connection.execute(sa.select(sa.func.set_config(name, value, False)))
        connection.commit()


def is_time(kind: Any) -> bool:
    """Whether a column's type is date and time of day."""
    return isinstance(kind, sa.DateTime | StoredDatetime)


def reflected(connection: sa.Connection, name: str, schema: str | None) -> sa.Table | None:
    """Return the table or view as it is in the database, or `None`; ends the transaction that it used."""
    try:
        with begin(connection, write=False):
            table = sa.Table(name, sa.MetaData(), schema=schema, autoload_with=connection, resolve_fks=False)
    except sa.exc.NoSuchTableError:
        return None
    if connection.dialect.name == "sqlite":
        for column in table.columns:
            column.type = exact_type(column.type, column.name)
    for column in table.columns:
        if isinstance(column.type, DOMAIN):
            column.type = _below(connection, column)
        if isinstance(column.type, sa.JSON):
            column.type.none_as_null = True
    return table


def _below(connection: sa.Connection, column: sa.Column[Any]) -> Any:
    """Return the type below a domain with its lengths and digits, which a look at the table does not tell."""
    kind = column.type.data_type  # type: ignore[attr-defined]
    table = column.table
    with begin(connection, write=False):
        row = connection.execute(
            sa.text(
                "SELECT numeric_precision, numeric_scale, character_maximum_length, datetime_precision FROM "
                "information_schema.columns WHERE table_schema = coalesce(:schema, current_schema()) AND table_name = :name "
                "AND column_name = :column"
            ),
            {"schema": table.schema, "name": table.name, "column": column.name},
        ).one_or_none()
    if row is None:
        return column.type
    if isinstance(kind, sa.Numeric) and not isinstance(kind, sa.Float):
        return sa.Numeric(row[0], row[1])
    if isinstance(kind, sa.String) and not isinstance(kind, sa.Enum):
        return type(kind)(row[2])
    if isinstance(kind, TIMESTAMP | TIME):
        return type(kind)(kind.timezone, row[3])
    return kind


def ensure_table(connection: sa.Connection, table: sa.Table, what: str) -> None:
    """Create a table unless it exists, in its own transaction; raises `RuntimeError` if that is refused."""
    reason = ""
    for _ in range(2):  # another session may create it between the check and the statement
        try:
            with begin(connection, write=False):
                there = sa.inspect(connection).has_table(table.name, table.schema)
            if not there:
                with begin(connection):
                    table.create(connection, checkfirst=True)
            return
        except sa.exc.SQLAlchemyError as error:
            reason = describe(error)
    raise RuntimeError(f"{what}: the table {table.name} cannot be made: {reason}; make it, or allow it to be made")


# -- texts of errors ---------------------------------------------------------------------------------------------


def lost(error: BaseException) -> bool:
    """Whether an error means that the connection is gone, and not that a statement was refused."""
    return isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated


def describe(error: BaseException) -> str:
    """Return in one line what the database refused: the rule and its class, never a value."""
    original = getattr(error, "orig", None)
    if original is None:
        return type(error).__name__
    name = type(original).__name__
    module = type(original).__module__.partition(".")[0]
    if module == "sqlite3":
        text = str(original).partition(" with text ")[0]  # behind it stands what could not be decoded
    elif module in ("psycopg", "psycopg2"):
        text = _postgres_text(original)
    else:
        code = original.args[0] if original.args and isinstance(original.args[0], int) else None
        text = f"error {code}" if code is not None else ""
    text = " ".join(text.split())
    return f"{text} ({name})" if text else name


def _postgres_text(error: Any) -> str:
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state is None:
        # from the driver itself: a connection, or a type that it cannot send
        speaks = type(error).__name__ in ("OperationalError", "ProgrammingError", "ConnectionTimeout")
        return str(error)[:300] if speaks else ""
    text = str(getattr(error.diag, "message_primary", None) or "")
    if state[:2] in ("P0", "XX", "HV", "F0"):  # written by a trigger or a function: it may contain anything
        return f"SQLSTATE {state}"
    if state[:2] == "22" and '"' in text:  # the value stands in quotes
        return f'{text[: text.index(chr(34))]}"..."{text[text.rindex(chr(34)) + 1 :]}'
    return text
