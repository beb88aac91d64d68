"""The number beside the rows: how far a sink has got, in the same database and the same transaction.

Decides the table `sluiceway_progress`. One row belongs to one sink in one run, with the last number whose rows are
committed. If the run has a lock, one more row for the sink's name, shared by all runs, holds the highest token that
has written: a transaction with a lower one fails there.
"""

from __future__ import annotations

import uuid

import sqlalchemy as sa

from ...errors import CheckpointError, LockLost
from .claim_table import ClaimTable
from .database import begin, describe, ensure_table

TABLE = "sluiceway_progress"
#: In place of a run: the row that holds the highest token.
_ANY_RUN = "any run"


def progress_table(schema: str | None) -> sa.Table:
    """Return the table as it is made."""
    return sa.Table(
        TABLE,
        sa.MetaData(),
        sa.Column("run", sa.String(36), primary_key=True),
        sa.Column("sink", sa.String(255), primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("fence", sa.BigInteger),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        schema=schema,
    )


class ProgressTable:
    """The rows of one sink in the progress table; `what` opens the text of every error.

    `claims` records beside them whose they are; it is `None` in a run without checkpoints.
    """

    def __init__(
        self, schema: str | None, sink: str, what: str, fence: int | None, claims: ClaimTable | None = None
    ) -> None:
        self.run = ""
        self.number = -1
        self._table = progress_table(schema)
        self._claims = claims
        self._sink = sink
        self._what = what
        self._fence = fence
        self._is_stored = False  # whether the row of this run is in the database

    def start(self, connection: sa.Connection) -> None:
        """Begin a new run; the first `advance` creates its row."""
        self._ensure(connection)
        self.run, self.number, self._is_stored = str(uuid.uuid4()), -1, False
        with begin(connection):
            self._raise_or_refuse(connection)

    def resume(self, connection: sa.Connection, run: str, number: int) -> None:
        """Find the row of a run that was at least at `number`; raises `CheckpointError` if there is none.

        It waits for a transaction that is still being committed for a process that has died meanwhile.
        """
        self._ensure(connection)
        with begin(connection):
            self._raise_or_refuse(connection)
            found = connection.execute(
                sa.select(self._table.c.number).where(self._row(run)).with_for_update()
            ).scalar_one_or_none()
            if found is not None and found >= number and self._claims is not None:
                self._claims.record(connection, run)
        if found is None:
            raise CheckpointError(
                f"{self._what}: the table {TABLE} knows nothing of the run that the checkpoint belongs to; use the "
                "database that the run wrote to, or begin anew with resume='never'"
            )
        if found < number:
            raise CheckpointError(
                f"{self._what}: the database holds the run up to number {found}, but the checkpoint says {number}; it "
                "is older than the checkpoint: restore the newer one, or begin anew with resume='never'"
            )
        self.run, self.number, self._is_stored = run, int(found), True

    def advance(self, connection: sa.Connection, number: int) -> None:
        """Write the number inside the open transaction; raises `LockLost` if a higher token has written.

        It is the last statement before the commit: until then it blocks every other holder of the lock.
        """
        if self._fence is not None and not self._raise_fence(connection):
            raise self._fenced(connection)
        values = {"number": number, "fence": self._fence, "changed_at": sa.func.now()}
        if self._is_stored:
            done = connection.execute(self._table.update().where(self._row(self.run)).values(values))
            if done.rowcount != 1:
                raise CheckpointError(
                    f"{self._what}: the row of this run has vanished from {TABLE}; nothing was committed, leave the "
                    "table alone while a run writes"
                )
        else:
            connection.execute(self._table.insert().values(run=self.run, sink=self._sink, **values))
            if self._claims is not None:
                self._claims.record(connection, self.run)

    def finish(self, connection: sa.Connection) -> None:
        """Record that the run has finished."""
        if self._claims is not None:
            self._claims.finish(connection, self.run)

    def committed(self, number: int) -> None:
        """Record that the transaction of the last `advance` is committed."""
        self.number, self._is_stored = number, True

    def _ensure(self, connection: sa.Connection) -> None:
        ensure_table(connection, self._table, self._what)
        if self._claims is not None:
            self._claims.ensure(connection, self._what)

    def _row(self, run: str) -> sa.ColumnElement[bool]:
        return sa.and_(self._table.c.run == run, self._table.c.sink == self._sink)

    def _raise_or_refuse(self, connection: sa.Connection) -> None:
        """Make this run's token the highest that has written."""
        if self._fence is None or self._raise_fence(connection):
            return
        if self._highest(connection) is not None:
            if self._raise_fence(connection):  # the row was created between the two statements, by a run of the same token
                return
            raise self._fenced(connection)
        try:
            with connection.begin_nested():
                connection.execute(
                    self._table.insert().values(run=_ANY_RUN, sink=self._sink, number=-1, fence=self._fence)
                )
        except sa.exc.IntegrityError as error:  # another run has created the row just now
            reason = describe(error)
            if not self._raise_fence(connection):
                raise self._fenced(connection, reason) from None

    def _raise_fence(self, connection: sa.Connection) -> bool:
        statement = self._table.update().where(self._row(_ANY_RUN), self._table.c.fence <= self._fence)
        return connection.execute(statement.values(fence=self._fence, changed_at=sa.func.now())).rowcount == 1

    def _highest(self, connection: sa.Connection) -> int | None:
        highest: int | None = connection.execute(
            sa.select(self._table.c.fence).where(self._row(_ANY_RUN))
        ).scalar_one_or_none()
        return highest

    def _fenced(self, connection: sa.Connection, reason: str = "") -> LockLost:
        highest = self._highest(connection)
        seen = f"token {highest} has written" if highest is not None else reason or f"its row in {TABLE} is gone"
        return LockLost(
            f"{self._what}: this run holds the lock with token {self._fence}, but for the sink {self._sink!r} {seen}; "
            "nothing was committed: another run has taken over. Where the lock itself was replaced by another one, "
            f"delete the row ({_ANY_RUN!r}, {self._sink!r}) of {TABLE}; where two graphs write to one table under "
            "locks of their own, give their sinks different names"
        )
