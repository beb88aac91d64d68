"""The lock of PostgreSQL: one holder at a time, and what becomes of a lock that is lost."""

from __future__ import annotations

import os
import pickle
import threading
import time

import pytest
import sql_checks as checks
from postgres_server import postgres
from sluiceway.nodes.connectors.sql.api import postgres_lock, sql_sink
from sluiceway.nodes.errors import GraphError, LockHeld, LockLost
from sql_sessions import sessions_waiting, terminate, terminate_others, the_server_has_no_session_left, until, url

__all__ = ["postgres", "the_server_has_no_session_left", "url"]


def test_one_holder_at_a_time_with_rising_tokens(url: str) -> None:
    one, two, other = postgres_lock(url, "graph"), postgres_lock(url, "graph"), postgres_lock(url, "another")
    with pytest.raises(LockLost, match="is not held"):
        one.check()
    first = one.acquire()
    one.check()
    with pytest.raises(LockHeld, match=rf"'graph': it is held by session \d+ \(sluiceway .*:{os.getpid()} graph\)"):
        two.acquire()
    other.acquire()
    other.release()
    one.release()
    one.release()
    second = pickle.loads(pickle.dumps(two))
    assert second.acquire() == first + 1
    second.check()
    assert second.fenced is True
    second.release()
    with pytest.raises(LockLost, match="is not held"):
        second.check()


def test_waiting_takes_over_when_the_holder_ends(url: str) -> None:
    one, two = postgres_lock(url, "graph"), postgres_lock(url, "graph", wait_s=None)
    start = time.monotonic()
    token = one.acquire()
    with pytest.raises(LockHeld):
        postgres_lock(url, "graph", wait_s=0.4).acquire()
    assert 0.4 <= time.monotonic() - start < 5
    got: list[int] = []
    waiting = threading.Thread(target=lambda: got.append(two.acquire()))
    waiting.start()
    until(lambda: sessions_waiting(url) == 1)
    one.release()
    waiting.join(10)
    assert got == [token + 1]
    two.check()
    two.release()


def test_a_lock_whose_session_was_ended_is_lost(url: str) -> None:
    one, two = postgres_lock(url, "graph"), postgres_lock(url, "graph")
    one.acquire()
    terminate_others(url)
    two.acquire()
    for _ in range(2):
        with pytest.raises(LockLost, match="'graph' is "):
            one.check()
    one.release()
    two.check()
    two.release()


def test_a_lock_needs_postgres() -> None:
    with pytest.raises(GraphError, match="it needs a PostgreSQL URL"):
        postgres_lock("sqlite:///x.db", "x")
    with pytest.raises(GraphError, match="name must be a text"):
        postgres_lock("postgresql+psycopg://host/db", "")


def test_a_lost_lock_keeps_an_old_run_from_committing(url: str) -> None:
    """Lock and sink together: the new holder's token ends the old one's transaction, though it has not noticed."""
    checks.execute(url, "CREATE TABLE out (n INTEGER, text TEXT)")
    old_lock, new_lock = postgres_lock(url, "graph"), postgres_lock(url, "graph")
    old, new = sql_sink(url, table="out"), sql_sink(url, table="out")
    old.fence(old_lock.acquire())
    old.open()
    token = old.commit(-1)
    old.write(checks.numbered(0, 3))
    terminate(url, "application_name LIKE 'sluiceway%'")  # the lock's session; the sink does not know
    new.fence(new_lock.acquire())
    assert new.recover(token) == -1
    with pytest.raises(LockLost):
        old.commit(2)
    old.abort()
    new.write(checks.numbered(0, 3))
    new.commit(2)
    new.close()
    new_lock.release()
    assert checks.rows_of(url, "SELECT n FROM out ORDER BY n") == [(0,), (1,), (2,)]
