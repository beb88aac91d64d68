"""A session of PostgreSQL that lasts, and the advisory lock that it may hold.

Decides that no limit of the server ends an idle session, and how to wait for a lock of another session so that Ctrl-C
is still noticed. The lock of a machine that has lost its power is free within a quarter of a minute.
"""

from __future__ import annotations

import hashlib
import math
import os
import socket
import time

import sqlalchemy as sa

from .database import connect, end_when_gone, read_one_by_one, set_where_known

#: How long one attempt waits inside the server, in seconds; between two of them Ctrl-C is noticed.
_STEP_S = 0.25
#: Limits of the server that are switched off for this session.
_SETTINGS = {
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",  # since PostgreSQL 14
}

_TRY = sa.text("SELECT pg_try_advisory_lock(CAST(:key AS bigint))")
_WAIT = sa.text("SELECT pg_advisory_lock(CAST(:key AS bigint))")
_FREE = sa.text("SELECT pg_advisory_unlock(CAST(:key AS bigint))")
#: Locks with this key, as pg_locks shows them: the halves of the key as two unsigned numbers.
_LOCKS = (
    "pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted"
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND l.classid = CAST(:high AS bigint)::oid AND l.objid = CAST(:low AS bigint)::oid"
)
_MINE = sa.text(f"SELECT count(*) FROM {_LOCKS} AND l.pid = pg_backend_pid()")
_HOLDERS = sa.text(
    "SELECT a.pid, a.application_name FROM pg_stat_activity a WHERE a.pid IN (SELECT l.pid FROM " + _LOCKS + ")"
)


def open_session(url: str, what: str, name: str, *, answer_s: float) -> sa.Connection:
    """Open a session that commits each statement by itself; `name` shows its purpose to anybody who inspects the server.

    No statement may take longer than `answer_s` (0 for no limit). Raises `ConnectionError` if the server cannot be
    reached, and SQLAlchemy's errors for what it refuses.
    """
    session = connect(url, what)
    try:
        read_one_by_one(session)
        end_when_gone(session)
        who = f"sluiceway {socket.gethostname()}:{os.getpid()} {name}".encode("ascii", "replace")[:63].decode()
        for setting, value in {**_SETTINGS, "application_name": who}.items():
            set_where_known(session, setting, value)
        set_where_known(session, "statement_timeout", f"{1000 * answer_s:.0f}")
    except BaseException:
        session.close()
        raise
    return session


class AdvisoryLock:
    """The advisory lock of a name: held by one session of a database at a time, and freed when that ends."""

    def __init__(self, name: str) -> None:
        key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
        self._key = {"key": key}
        self._halves = {"high": (key >> 32) & 0xFFFFFFFF, "low": key & 0xFFFFFFFF}

    def acquire(self, session: sa.Connection, wait_s: float | None) -> bool:
        """Acquire the lock and return whether that was in time; sessions wait in the server's queue."""
        if session.execute(_TRY, self._key).scalar_one():
            return True
        deadline = math.inf if wait_s is None else time.monotonic() + wait_s
        while (left_s := deadline - time.monotonic()) > 0:
            set_where_known(session, "lock_timeout", f"{max(1, round(1000 * min(left_s, _STEP_S)))}ms")
            try:
                session.execute(_WAIT, self._key)
                return True
            except sa.exc.DBAPIError as error:
                state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
                if state != "55P03":  # anything but the end of this attempt's wait
                    raise
                session.rollback()
        return False

    def mine(self, session: sa.Connection) -> bool:
        """Whether this session holds the lock, by the server's records."""
        held: int = session.execute(_MINE, self._halves).scalar_one()
        return held > 0

    def release(self, session: sa.Connection) -> None:
        """Release the lock."""
        session.execute(_FREE, self._key)

    def holders(self, session: sa.Connection) -> str:
        """Return the sessions that hold the lock as a text, by the names they have set."""
        rows = session.execute(_HOLDERS, self._halves)
        holders = [f"session {pid} ({name or 'no name'})" for pid, name in rows]
        return " and ".join(holders) or "a session that has ended just now"
