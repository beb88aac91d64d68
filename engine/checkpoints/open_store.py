"""Returns the store that `checkpoint=` names: a file, a PostgreSQL database, or a store of the user's own.

Decides which texts are addresses of a database; knows nothing of what is stored. SQLAlchemy is needed for databases only.
"""

from __future__ import annotations

import os
from pathlib import Path

from ...nodes.connectors.extras import need
from ...nodes.errors import CheckpointError, GraphError
from .sqlite_store import copy_file, describe_file, file_store
from .store import Resume, Store, TableStore

#: How long to wait for the store of an earlier run whose lock was free, in seconds. A server
#: notices sooner that a client has lost its power.
_RELEASE_S = 20.0


def postgres_store(url: str, *, name: str | None = None) -> TableStore:
    """Make a store of checkpoints in a PostgreSQL database, for `run(..., checkpoint=)`.

    `name` tells the runs of one database apart; by default it is the name of the graph. The tables `sluiceway_run`,
    `sluiceway_checkpoint`, `sluiceway_history` and `sluiceway_log` are made at first use. It does not work through a
    pooler that shares sessions (PgBouncer in transaction mode).

    Raises `GraphError` for a URL of another database and packages that are not installed; the database is reached when
    a run starts.
    """
    checked = _checked(url, "postgres_store()")
    if name is not None and (not isinstance(name, str) or not 0 < len(name) <= 255):
        raise GraphError("cannot make postgres_store(): name must be a text of 1 to 255 characters; leave it out, or pass one")
    from .postgres_store import PostgresTables

    return TableStore(PostgresTables(checked, name))


def store_of(given: str | os.PathLike[str] | Store, *, locked: bool) -> Store:
    """Return the store for the value of `checkpoint=`; nothing is opened yet.

    `locked` says that the run has a lock: no other run uses the store then, but the session of one that died may remain
    for a while. Raises `GraphError` for the address of any other database.
    """
    store: Store
    if isinstance(given, str) and is_address(given):
        store = postgres_store(given)
    else:
        store = file_store(Path(given)) if isinstance(given, (str, os.PathLike)) else given
    if locked and isinstance(store, TableStore):
        store.wait(_RELEASE_S)
    return store


def may_be_resumed(given: str | os.PathLike[str] | Store | None, resume: Resume) -> bool:
    """Whether a run may find a checkpoint in what `checkpoint=` names; nothing is opened or created."""
    if given is None or resume == "never":
        return False
    is_file = isinstance(given, (str, os.PathLike)) and not (isinstance(given, str) and is_address(given))
    return not is_file or os.path.exists(given)  # type: ignore[arg-type]


def describe_store(given: str, name: str | None = None) -> str:
    """Return a description of a store for a person, also while a run uses it; raises `CheckpointError` if there is none."""
    if not is_address(given):
        return describe_file(Path(given))
    checked = _checked(given, "a store of checkpoints")
    from .postgres_store import describe_postgres

    return describe_postgres(checked, name)


def copy_store(given: str, target: str) -> None:
    """Copy the store in a file as it is at one moment, also while a run uses it; raises `CheckpointError`."""
    if is_address(given):
        raise CheckpointError(f"cannot copy the store in a database to {target}; use pg_dump for its tables sluiceway_*")
    copy_file(Path(given), Path(target))


def is_address(given: str) -> bool:
    """Whether a text is the address of a database, and not the name of a file."""
    return "://" in given


def _checked(url: str, maker: str) -> str:
    need("sqlalchemy", "sql", maker)
    from ...nodes.connectors.sql.database import backend, checked_url

    checked = checked_url(url, maker)
    if backend(checked) != "postgresql":
        raise GraphError(f"cannot make {maker}: it is a file or a PostgreSQL URL, postgresql+psycopg://user@host/name; pass one")
    return checked
