"""Checkpoints in PostgreSQL, for runs that may be resumed on another machine.

Decides that one session does everything for a run: it holds an advisory lock as long as the run lasts, and writes. The
run's row has an epoch, which each run raises when it acquires the store and checks in every transaction, so that a run
whose session was ended, or shared by a pooler, cannot write after its successor has begun. Texts about a database's
errors contain no password and no value of a statement. SQLAlchemy is needed here: import it late.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from ...nodes.connectors.sql.database import connect, database, describe, ensure_table, set_where_known, shown
from ...nodes.connectors.sql.postgres_session import AdvisoryLock, open_session
from ...nodes.errors import CheckpointError
from .store import VERSION, Execute, describe_run

#: How long the server may take to end the session of a run that has just ended, in seconds.
_ENDING_S = 2.0
#: How long statements wait for the lock of another session, in seconds.
_LOCKED_S = 60

_METADATA = sa.MetaData()
_RUN = sa.Table(
    "sluiceway_run",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("identity", sa.Text),
    sa.Column("began", sa.Text),
    sa.Column("form", sa.Integer, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
)
_CHECKPOINT = sa.Table(
    "sluiceway_checkpoint",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
)
_HISTORY = sa.Table(
    "sluiceway_history",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("n", sa.BigInteger),
    sa.Column("at", sa.Text),
    sa.Column("bytes", sa.BigInteger),
    sa.Column("finished", sa.Boolean),
    sa.Column("note", sa.Text),
)
_LOG = sa.Table(
    "sluiceway_log",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("source", sa.Integer, nullable=False),
    sa.Column("first", sa.BigInteger, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("extent", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
)
#: Made where a run has something to keep in it, and not among the others.
_ANSWER = sa.Table(
    "sluiceway_answer",
    sa.MetaData(),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("first", sa.BigInteger, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
)
#: Makes this run the last one to acquire the store.
_ACQUIRE = sa.text(
    "INSERT INTO sluiceway_run AS known (name, form, epoch) VALUES (:name, :form, 1)"
    " ON CONFLICT (name) DO UPDATE SET epoch = known.epoch + 1 RETURNING form, epoch"
)
#: The commit of this transaction does not wait for the server's disk; the next one that does waits for both.
_ASYNCHRONOUS = sa.text("SET LOCAL synchronous_commit TO off")
_EPOCH = sa.text("SELECT epoch FROM sluiceway_run WHERE name = :name FOR UPDATE")


class PostgresTables:
    """The tables of one database; without a `name` a run is stored under the name of its graph."""

    noun = "store"
    is_local = False

    def __init__(self, url: str, name: str | None) -> None:
        self.wait_s = _ENDING_S
        self._url, self._name = url, name
        self._run_name = ""
        self._epoch = 0
        self._advisory: AdvisoryLock | None = None
        self._session: sa.Connection | None = None

    @property
    def where(self) -> str:
        """The address without its password, and the name."""
        name = self._run_name or self._name
        return shown(self._url) + (f" (name {name!r})" if name else "")

    @property
    def place(self) -> str:
        """The database without user and password, and the name."""
        return f"{database(self._url)} {self._run_name or self._name or ''}"

    def is_there(self) -> bool:
        """Whether there may be tables: a database tells only when it is reached."""
        return True

    def acquire(self, graph: str, *, fresh: bool) -> str:
        """Open the session, lock the name in it, make the tables that are missing, and raise the epoch."""
        self._run_name = self._name or graph
        what = f"cannot use {self.where} for checkpoints"
        try:
            session = self._session = open_session(self._url, what, f"checkpoints of {self._run_name}", answer_s=0)
            self._lock(session, what)
            set_where_known(session, "lock_timeout", f"{_LOCKED_S}s")
            self._make_durable(session)
            for table in _METADATA.sorted_tables:
                ensure_table(session, table, what)
            session.execution_options(isolation_level="READ COMMITTED")
            with session.begin():
                form, self._epoch = session.execute(_ACQUIRE, {"name": self._run_name, "form": VERSION}).one()
                self._check_form(session, form, fresh)
            return self._run_name
        except (ConnectionError, RuntimeError) as error:
            reason = str(error)
        except sa.exc.SQLAlchemyError as error:
            reason = f"{what}: {describe(error)}; correct the URL, or let its user do this"
        raise CheckpointError(reason)

    @contextlib.contextmanager
    def transaction(self, *, synced: bool = True) -> Iterator[Execute]:
        """Return a transaction of the run that was the last to acquire the store."""
        session = self._session
        assert session is not None, "the store is not open"
        try:
            with session.begin():
                epoch = session.execute(_EPOCH, {"name": self._run_name}).scalar_one_or_none()
                if epoch != self._epoch:
                    raise CheckpointError(
                        f"cannot keep checkpoints in {self.where}: another run has taken it over; this one wrote nothing"
                        " since, let the other one finish"
                    )
                if not synced:
                    session.execute(_ASYNCHRONOUS)
                yield _executing(session)
        except sa.exc.SQLAlchemyError as error:
            raise CheckpointError(
                f"cannot keep checkpoints in {self.where}: {describe(error)}; correct that and run again: it goes on from the"
                " last one"
            ) from None

    def make_answers(self) -> None:
        """Make the table of kept answers unless there is one."""
        assert self._session is not None, "the store is not open"
        try:
            ensure_table(self._session, _ANSWER, f"cannot keep answers in {self.where}")
        except RuntimeError as error:
            raise CheckpointError(str(error)) from None

    def damaged(self, reason: object) -> CheckpointError:
        """Return the error for contents that cannot be right."""
        return CheckpointError(
            f"cannot use {self.where} for checkpoints: what it holds is damaged ({reason}); restore a copy, or use"
            " another name"
        )

    def close(self) -> None:
        """Release the name and end the session."""
        session, self._session = self._session, None
        if session is None:
            return
        try:
            if self._advisory is not None:
                session.rollback()
                self._advisory.release(session)
        except sa.exc.SQLAlchemyError:
            pass  # the session is gone, and the lock with it
        finally:
            self._advisory = None
            session.close()

    # -- parts ------------------------------------------------------------------------------------------------------

    def _lock(self, session: sa.Connection, what: str) -> None:
        advisory = AdvisoryLock(f"sluiceway_run {self._run_name}")
        if not advisory.acquire(session, self.wait_s):
            raise CheckpointError(
                f"{what}: another run uses it, {advisory.holders(session)}; wait for its end, or use another name"
            )
        self._advisory = advisory

    def _make_durable(self, session: sa.Connection) -> None:
        """Let a commit wait for the disk if the database is set not to; stricter settings stay."""
        if session.execute(sa.text("SHOW synchronous_commit")).scalar_one() == "off":
            set_where_known(session, "synchronous_commit", "on")

    def _check_form(self, session: sa.Connection, form: int, fresh: bool) -> None:
        if form == VERSION:
            return
        if not fresh:
            raise CheckpointError(
                f"cannot use {self.where}: it was written by another version of sluiceway (form {form}, this one has"
                f" {VERSION}); finish the run with that one, or begin afresh with resume='never'"
            )
        session.execute(_RUN.update().where(_RUN.c.name == self._run_name).values(form=VERSION))


def describe_postgres(url: str, name: str | None) -> str:
    """Return a description of a run's store for a person, also while it is used; without a name, of all in the database.

    Raises `CheckpointError` if there is none.
    """
    what = f"cannot look into {shown(url)}"
    try:
        with contextlib.closing(connect(url, what)) as session, session.begin():
            if not sa.inspect(session).has_table(_RUN.name):
                raise CheckpointError(f"{what}: it holds no checkpoints; name the database given as checkpoint=")
            return _describe_runs(session, what, url, name)
    except ConnectionError as error:
        reason = str(error)
    except sa.exc.SQLAlchemyError as error:
        reason = f"{what}: {describe(error)}"
    except ValueError as error:
        reason = f"{what}: its tables are damaged or no store ({error})"
    raise CheckpointError(reason)


def _describe_runs(session: sa.Connection, what: str, url: str, name: str | None) -> str:
    rows = session.execute(sa.select(_RUN.c.name, _RUN.c.form, _RUN.c.began).order_by(_RUN.c.name)).all()
    if name is None and len(rows) > 1:
        lines = [f"{known!r}, begun {began}" for known, _, began in rows]
        return "\n".join([f"{shown(url)}: {len(rows)} runs; name one", *lines])
    found = next((row for row in rows if name in (None, row.name)), None)
    if found is None:
        of = "" if name is None else f" of the name {name!r}"
        raise CheckpointError(f"{what}: it holds no checkpoints{of}; names are those of graphs or given to postgres_store")
    if found.form != VERSION:
        raise CheckpointError(f"{what}: it was written by another version of sluiceway (form {found.form}); use that one")
    return describe_run(f"{shown(url)} (name {found.name!r})", found.name, _executing(session))


@lru_cache(64)
def _text(statement: str) -> sa.TextClause:
    return sa.text(statement.format(t="sluiceway_"))


def _executing(session: sa.Connection) -> Execute:
    def execute(
        statement: str, values: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (), /
    ) -> list[tuple[Any, ...]]:
        result = session.execute(_text(statement), values or None)
        return [tuple(row) for row in result] if result.returns_rows else []

    return execute
