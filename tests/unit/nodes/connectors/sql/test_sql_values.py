"""On SQLite, what was written is read back equal or was refused, and stored values that are none are named."""

from __future__ import annotations

import datetime as dt
import decimal
from pathlib import Path
from typing import Any

import pytest
import sql_checks as checks
import sql_values
from sluiceway.nodes.connectors.sql.api import sql


@pytest.fixture
def url(tmp_path: Path) -> str:
    return checks.sqlite(tmp_path)


def test_existing_columns_change_nothing(url: str) -> None:
    sql_values.existing_columns_change_nothing(url, sql_values.SQLITE)


@pytest.mark.slow
def test_made_columns_change_nothing(url: str) -> None:
    sql_values.made_columns_change_nothing(url)


@pytest.mark.parametrize(
    ("kind", "stored", "read"),
    [
        ("NUMERIC", "9007199254740993", decimal.Decimal("9007199254740993")),
        ("DECIMAL(20,15)", "0.123456789012345", decimal.Decimal("0.123456789012345")),
        ("BOOLEAN", "1", True),
        ("DATETIME", "'2024-01-01T10:00:00Z'", dt.datetime(2024, 1, 1, 10, tzinfo=dt.UTC)),
    ],
)
def test_what_others_stored_is_read_exactly(url: str, kind: str, stored: str, read: Any) -> None:
    checks.execute(url, f"CREATE TABLE t (id INTEGER PRIMARY KEY, v {kind})", f"INSERT INTO t VALUES (1, {stored})")
    assert checks.read_all(sql(url, table="t")) == [{"id": 1, "v": read}]


@pytest.mark.parametrize(
    ("kind", "stored"), [("BOOLEAN", "'false'"), ("BOOLEAN", "2"), ("NUMERIC", "'secret'"), ("DATETIME", "'secret'")]
)
def test_a_stored_value_that_is_none_of_its_type_names_the_column(url: str, kind: str, stored: str) -> None:
    checks.execute(url, f"CREATE TABLE t (id INTEGER PRIMARY KEY, v {kind})", f"INSERT INTO t VALUES (1, {stored})")
    with pytest.raises(RuntimeError, match=rf"column 'v' is {kind} and a row holds a \w+ in it that is none") as caught:
        checks.read_all(sql(url, table="t"))
    assert "secret" not in str(caught.value)


def test_text_that_is_no_utf8_is_not_told(url: str) -> None:
    checks.execute(url, "CREATE TABLE t (id INTEGER PRIMARY KEY, note TEXT)")
    checks.execute(url, "INSERT INTO t VALUES (1, CAST(x'736563726574ff' AS TEXT))")
    with pytest.raises(RuntimeError, match="Could not decode to UTF-8 column 'note'") as caught:
        checks.read_all(sql(url, table="t"))
    assert "secret" not in str(caught.value)
