"""Kept answers in PostgreSQL: the same as in a file, for runs that are killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from paid_calls import counting_service
from postgres_server import PostgresServer, postgres
from test_paid_once import check

__all__ = ["postgres"]


@pytest.mark.parametrize("how", ["two", pytest.param("async", marks=pytest.mark.slow)])
def test_killed_runs_over_a_database(tmp_path: Path, postgres: PostgresServer, how: str) -> None:
    with counting_service() as service:
        total, kills = (300, 2) if how == "two" else (3000, 20)
        check(tmp_path, service, how, total=total, kills=kills, where=postgres.database())


def test_a_map_gives_its_results_again(postgres: PostgresServer) -> None:
    url = postgres.database()
    words: Any = {"checkpoint": sw.postgres_store(url, name="again"), "workers": 1}
    assert list(sw.imap(str, range(40), **words)) == [str(n) for n in range(40)]
    results = sw.imap(str, range(60), **words)
    assert list(results) == [str(n) for n in range(60)]
    assert results.report.recalled == 40
    database = url.rpartition("/")[2]
    assert postgres.execute("SELECT sum(size)::int FROM sluiceway_answer WHERE name = 'again'", database) == [(60,)]
    list(sw.imap(str, range(3), resume="never", **words))
    assert postgres.execute("SELECT sum(size)::int FROM sluiceway_answer", database) == [(3,)]
