"""Whose rows a sink holds: the run that wrote them, and where that run keeps its checkpoints.

Decides the table `sluiceway_claims`: one row for each row of `sluiceway_progress` that a run with checkpoints has
written. Its `place` is emptied when that run has finished, and when the next one begins at the same place.
"""

from __future__ import annotations

import sqlalchemy as sa

from .database import begin, ensure_table

TABLE = "sluiceway_claims"


def _table(schema: str | None) -> sa.Table:
    return sa.Table(
        TABLE,
        sa.MetaData(),
        sa.Column("run", sa.String(36), primary_key=True),
        sa.Column("sink", sa.String(255), primary_key=True),
        sa.Column("claimed_by", sa.String(64), nullable=False),
        sa.Column("place", sa.Text),
        schema=schema,
    )


class ClaimTable:
    """The claims of one sink by one run; `run` is the run's own id, `place` where its checkpoints are."""

    def __init__(self, schema: str | None, sink: str, run: str, place: str) -> None:
        self._table = _table(schema)
        self._schema = schema
        self._sink = sink
        self._run = run
        self._place = place

    def held(self, connection: sa.Connection, progress: sa.Table) -> tuple[str, int] | None:
        """Return the last number that this sink holds of the run, else the run and number of an unfinished one of its place.

        It waits for a transaction that is still being committed for a process that has died meanwhile.
        """
        claims = self._table
        with begin(connection, write=False):
            inspector = sa.inspect(connection)
            if not all(inspector.has_table(table.name, self._schema) for table in (claims, progress)):
                return None
            rows = connection.execute(
                sa.select(claims.c.claimed_by, progress.c.number)
                .join(progress, sa.and_(progress.c.run == claims.c.run, progress.c.sink == claims.c.sink))
                .where(claims.c.sink == self._sink)
                .where(sa.or_(claims.c.claimed_by == self._run, claims.c.place == self._place))
                .with_for_update(of=progress)
            ).all()
        found = [(str(run), int(number)) for run, number in rows]
        own = [held for held in found if held[0] == self._run]
        return max(own or found, key=lambda held: held[1], default=None)

    def ensure(self, connection: sa.Connection, what: str) -> None:
        """Make the table unless it is there."""
        ensure_table(connection, self._table, what)

    def record(self, connection: sa.Connection, row: str) -> None:
        """Record in the open transaction that the progress row `row` is this run's, and that no other is of its place."""
        claims = self._table
        of_sink = claims.c.sink == self._sink
        earlier = sa.and_(of_sink, claims.c.place == self._place, claims.c.claimed_by != self._run)
        connection.execute(claims.update().where(earlier).values(place=None))
        values = {"claimed_by": self._run, "place": self._place}
        if connection.execute(claims.update().where(of_sink, claims.c.run == row).values(values)).rowcount == 0:
            connection.execute(claims.insert().values(run=row, sink=self._sink, **values))

    def finish(self, connection: sa.Connection, row: str) -> None:
        """Record that the run has finished, so that another one may begin at its place."""
        with begin(connection):
            mine = sa.and_(self._table.c.sink == self._sink, self._table.c.run == row)
            connection.execute(self._table.update().where(mine).values(place=None))
