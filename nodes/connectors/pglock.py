"""A lock that one run at a time holds, kept by a session of PostgreSQL.

Decides that the session, not a lease, is the lock: the server frees it when the session ends, and `check` asks the
server whether this session still has it. Each holder gets a token one higher than the last, kept in a table.
"""

from __future__ import annotations

import hashlib
import math
import os
import socket
import threading
import time
from typing import Any

import sqlalchemy as sa

from ..errors import LockHeld, LockLost
from .sqlengine import connect, describe, driver, ensure_table, read_one_by_one, shown

#: How long one attempt waits inside the server, in seconds; between two of them Ctrl-C is noticed.
_STEP_S = 0.25
#: How long a check may take until the lock counts as lost, in seconds.
_ANSWER_S = 5
#: How libpq finds out that the server is gone: seconds to connect, and to give up what is not acknowledged.
_CONNECTION = {
    "connect_timeout": 10,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

_TOKENS = sa.Table(
    "penstock_locks",
    sa.MetaData(),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("token", sa.BigInteger, nullable=False),
)
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


class PostgresLock:
    """An advisory lock of a PostgreSQL session; made by `penstock.postgres_lock`. It is pickled without its session."""

    fenced = True

    def __init__(self, url: str, name: str, wait_s: float | None) -> None:
        self._url = url
        self._name = name
        self._wait_s = wait_s
        self._key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
        self._halves = {"high": (self._key >> 32) & 0xFFFFFFFF, "low": self._key & 0xFFFFFFFF}
        self._session: sa.Connection | None = None
        self._one_at_a_time = threading.Lock()

    def __repr__(self) -> str:
        return f"postgres_lock({shown(self._url)!r}, {self._name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return PostgresLock, (self._url, self._name, self._wait_s)

    def acquire(self) -> int:
        """Take the lock and give the fencing token, one higher than that of the holder before.

        Raises `LockHeld`, naming the session that has it, when `wait_s` is over, `ConnectionError` where the server
        cannot be reached and `RuntimeError` where it refuses the table of the tokens.
        """
        what = f"cannot take the lock {self._name!r}"
        session = connect(self._url, what, options=_CONNECTION if driver(self._url).startswith("psycopg") else None)
        try:
            read_one_by_one(session)
            self._introduce(session)
            if not self._take(session):
                raise self._held(session)
            session.execute(sa.select(sa.func.set_config("lock_timeout", f"{_ANSWER_S}s", False)))
            ensure_table(session, _TOKENS, what)
            token = self._next_token(session)
        except sa.exc.SQLAlchemyError as error:
            session.close()
            reason = describe(error)
        except BaseException:
            session.close()
            raise
        else:
            self._session = session
            return token
        raise RuntimeError(f"{what}: {reason}")

    def check(self) -> None:
        """Raise `LockLost` where the server does not say that this session has the lock."""
        with self._one_at_a_time:
            if self._session is None:
                raise LockLost(f"the lock {self._name!r} is not held: it was never taken, or is lost or given back")
            reason = "the session has it no more"
            try:
                held = self._session.execute(_MINE, self._halves).scalar_one() > 0
            except sa.exc.SQLAlchemyError as error:
                held, reason = False, describe(error)
            if held:
                return
            session, self._session = self._session, None
            session.close()
        raise LockLost(f"the lock {self._name!r} is lost: {reason}; another run may have begun, start this one again")

    def release(self) -> None:
        """Give the lock back; does nothing for one that is lost already."""
        with self._one_at_a_time:
            session, self._session = self._session, None
            if session is None:
                return
            try:
                session.execute(_FREE, {"key": self._key})
            except sa.exc.SQLAlchemyError:
                pass  # the session is gone, and the lock with it
            finally:
                session.close()

    # -- steps ------------------------------------------------------------------------------------------------------

    def _introduce(self, session: sa.Connection) -> None:
        """Say who holds it, for those that come later, and keep the server from ending the session while it rests."""
        who = f"penstock {socket.gethostname()}:{os.getpid()} {self._name}"
        settings = {
            "application_name": who.encode("ascii", "replace")[:63].decode(),
            "statement_timeout": f"{_ANSWER_S}s",
            "idle_in_transaction_session_timeout": "0",
            "idle_session_timeout": "0",  # since PostgreSQL 14
        }
        known = sa.text(
            "SELECT set_config(CAST(:name AS text), CAST(:value AS text), false)"
            " WHERE current_setting(CAST(:name AS text), true) IS NOT NULL"
        )
        for name, value in settings.items():
            session.execute(known, {"name": name, "value": value})

    def _take(self, session: sa.Connection) -> bool:
        """Take the lock, waiting in the server, where those that wait have their turn."""
        if session.execute(_TRY, {"key": self._key}).scalar_one():
            return True
        deadline = math.inf if self._wait_s is None else time.monotonic() + self._wait_s
        while (left_s := deadline - time.monotonic()) > 0:
            step_ms = max(1, round(1000 * min(left_s, _STEP_S)))
            session.execute(sa.select(sa.func.set_config("lock_timeout", f"{step_ms}ms", False)))
            try:
                session.execute(_WAIT, {"key": self._key})
                return True
            except sa.exc.DBAPIError as error:
                state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
                if state != "55P03":  # anything but the end of this step's wait
                    raise
                session.rollback()
        return False

    def _next_token(self, session: sa.Connection) -> int:
        token: int = session.execute(
            sa.text(
                "INSERT INTO penstock_locks (name, token) VALUES (:name, 1)"
                " ON CONFLICT (name) DO UPDATE SET token = penstock_locks.token + 1 RETURNING token"
            ),
            {"name": self._name},
        ).scalar_one()
        return token

    def _held(self, session: sa.Connection) -> LockHeld:
        holders = [f"session {pid} ({name or 'no name'})" for pid, name in session.execute(_HOLDERS, self._halves)]
        by = " and ".join(holders) or "a session that has ended just now"
        return LockHeld(
            f"cannot take the lock {self._name!r}: it is held by {by} of {shown(self._url)}; let that run end, or wait "
            "for it with wait_s"
        )
