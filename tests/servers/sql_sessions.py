"""Databases for the tests of SQL, and their sessions: who waits, who is terminated, that none is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import sql_checks as checks
from postgres_server import PostgresServer, postgres

__all__ = ["postgres"]


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.database()


_OTHERS = "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def until(done: Any) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def sessions_waiting(url: str) -> int:
    rows = checks.rows_of(
        url, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    waiting: int = rows[0][0]
    return waiting


def terminate_others(url: str) -> None:
    terminate(url, "true")


def terminate(url: str, which: str) -> None:
    """End sessions and wait until they are gone."""
    checks.rows_of(url, f"SELECT pg_terminate_backend(pid, 5000) FROM {_OTHERS} AND {which.replace('%', '%%')}")


@pytest.fixture(autouse=True)
def the_server_has_no_session_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a session in its database."""
    urls = [request.getfixturevalue(name) for name in ("url", "any_url") if name in request.fixturenames]
    yield
    for url in urls:
        if url.startswith("postgresql"):
            until(lambda url=url: checks.rows_of(url, f"SELECT pid FROM {_OTHERS}") == [])
