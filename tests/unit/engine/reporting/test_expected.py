"""How many events a run will read, and the bar that shows it."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from sluiceway.engine.reporting.expected import ExpectedEvents
from sluiceway.engine.reporting.progress import Bar


@pytest.mark.parametrize(
    ("hints", "limit", "first", "read", "fraction", "expected"),
    [
        ([100], None, 0, 0, None, 100),
        ([100, 20], None, 0, 7, None, 120),
        ([100, None], None, 0, 7, None, None),
        ([100], 30, 0, 7, None, 30),
        ([100], None, 60, 7, None, 40),
        ([None], None, 0, 25, 0.25, 100),
        ([None], None, 50, 25, 0.75, 50),
        ([None], 40, 0, 25, 0.25, 40),
        ([None], 400, 0, 25, 0.25, 100),
        ([None], 400, 0, 0, None, 400),
        ([None], None, 0, 0, 0.0, None),
    ],
)
def test_what_is_expected(
    hints: list[int | None], limit: int | None, first: int, read: int, fraction: float | None, expected: int | None
) -> None:
    assert ExpectedEvents(hints, limit, first).estimate(read, fraction) == expected


def test_the_bar_shows_a_share_as_soon_as_it_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar()
    bar(sw.RunReport(graph="etl", released=10, wall_s=1.0))
    assert "10 events" in capsys.readouterr().err
    bar(sw.RunReport(graph="etl", released=20, wall_s=2.0, expected=80))
    shown = capsys.readouterr().err
    assert "25%" in shown
    assert "20/80" in shown
    bar(sw.RunReport(graph="etl", released=90, wall_s=3.0, expected=85))  # an estimate that was too low
    assert "90/90" in capsys.readouterr().err
    bar.close()


@pytest.mark.parametrize("options", [{"runner": "inline"}, {"workers": 1}, {}])
def test_the_size_of_files_is_estimated_by_how_much_is_read(tmp_path: Path, options: dict[str, Any]) -> None:
    with gzip.open(tmp_path / "in.gz", "wt") as file:
        file.writelines(f"{n}\n" for n in range(20_000))
    graph = sw.Graph()
    graph.source(sw.lines(tmp_path / "in.gz")).map(len).sink(lambda size: None)
    assert sw.run(graph, **options).expected == 20_000
