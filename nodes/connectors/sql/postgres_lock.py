"""A lock that one run at a time holds, kept by a session of PostgreSQL.

Decides that the session, not a lease, is the lock: the server releases it when the session ends, and `check` asks the
server whether this session still holds it. Each holder gets a token one higher than the last, stored in a table.
"""

from __future__ import annotations

import threading
from typing import Any

import sqlalchemy as sa

from ...errors import LockHeld, LockLost
from .database import describe, ensure_table, set_where_known, shown
from .postgres_session import AdvisoryLock, open_session

#: How long a check may take until the lock counts as lost, in seconds.
_ANSWER_S = 5

_TOKENS = sa.Table(
    "sluiceway_locks",
    sa.MetaData(),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("token", sa.BigInteger, nullable=False),
)


class PostgresLock:
    """An advisory lock of a PostgreSQL session; made by `sluiceway.postgres_lock`. It is pickled without its session."""

    fenced = True

    def __init__(self, url: str, name: str, wait_s: float | None) -> None:
        self._url = url
        self._name = name
        self._wait_s = wait_s
        self._advisory = AdvisoryLock(name)
        self._session: sa.Connection | None = None
        self._one_at_a_time = threading.Lock()

    def __repr__(self) -> str:
        return f"postgres_lock({shown(self._url)!r}, {self._name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return PostgresLock, (self._url, self._name, self._wait_s)

    def acquire(self) -> int:
        """Acquire the lock and return the fencing token, one higher than that of the holder before.

        Raises `LockHeld`, naming the session that holds it, when `wait_s` is over, `ConnectionError` if the server
        cannot be reached and `RuntimeError` if it refuses the table of the tokens.
        """
        what = f"cannot acquire the lock {self._name!r}"
        session = None
        try:
            session = open_session(self._url, what, self._name, answer_s=_ANSWER_S)
            if not self._advisory.acquire(session, self._wait_s):
                raise self._held(session)
            set_where_known(session, "lock_timeout", f"{_ANSWER_S}s")
            ensure_table(session, _TOKENS, what)
            token = self._next_token(session)
        except BaseException as error:
            if session is not None:
                session.close()
            if not isinstance(error, sa.exc.SQLAlchemyError):
                raise
            reason = describe(error)
        else:
            self._session = session
            return token
        raise RuntimeError(f"{what}: {reason}")

    def check(self) -> None:
        """Raise `LockLost` unless the server confirms that this session holds the lock."""
        with self._one_at_a_time:
            if self._session is None:
                raise LockLost(f"the lock {self._name!r} is not held: it was never acquired, or is lost or released")
            reason = "the session has it no more"
            try:
                held = self._advisory.mine(self._session)
            except sa.exc.SQLAlchemyError as error:
                held, reason = False, describe(error)
            if held:
                return
            session, self._session = self._session, None
            session.close()
        raise LockLost(f"the lock {self._name!r} is lost: {reason}; another run may have begun, start this one again")

    def release(self) -> None:
        """Release the lock; does nothing if it is already lost."""
        with self._one_at_a_time:
            session, self._session = self._session, None
            if session is None:
                return
            try:
                self._advisory.release(session)
            except sa.exc.SQLAlchemyError:
                pass  # the session is gone, and the lock with it
            finally:
                session.close()

    # -- steps ------------------------------------------------------------------------------------------------------

    def _next_token(self, session: sa.Connection) -> int:
        token: int = session.execute(
            sa.text(
                "INSERT INTO sluiceway_locks (name, token) VALUES (:name, 1)"
                " ON CONFLICT (name) DO UPDATE SET token = sluiceway_locks.token + 1 RETURNING token"
            ),
            {"name": self._name},
        ).scalar_one()
        return token

    def _held(self, session: sa.Connection) -> LockHeld:
        return LockHeld(
            f"cannot acquire the lock {self._name!r}: it is held by {self._advisory.holders(session)} of"
            f" {shown(self._url)}; let that run end, or wait for it with wait_s"
        )
