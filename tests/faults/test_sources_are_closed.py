"""However a run ends, what runs in a source's process is closed: its `finally` is reached, and a journal has all it took."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw

EVENTS = 2000


class Taken:
    """Events that are given only once: a file counts how many were taken."""

    def __init__(self, folder: Path) -> None:
        self.taken, self.closed = folder / "taken", folder / "closed"

    def __call__(self) -> Iterator[int]:
        """Take one after the other."""
        try:
            while (n := int(self.taken.read_text()) if self.taken.exists() else 0) < EVENTS:
                self.taken.write_text(str(n + 1))
                yield n
        finally:
            self.closed.write_text("closed")


class Reader:
    """A source that reads blocks without end."""

    replay = "exact"

    def __init__(self, folder: Path, acknowledges: bool) -> None:
        self.acknowledges, self.closed, self.at = acknowledges, folder / "closed", 0

    def reader(self, position: Any) -> Reader:
        """Begin."""
        return self

    def read(self, limit: int) -> list[int]:
        """Give the next numbers."""
        self.at += limit
        return list(range(self.at - limit, self.at))

    def position(self) -> int:
        """How far it is."""
        return self.at

    def acknowledge(self, position: int) -> None:
        """Hear what is committed."""

    def close(self) -> None:
        """Say so."""
        self.closed.write_text("closed")


def fails_at(number: int) -> Any:
    def work(n: int) -> str:
        if n == number:
            raise ValueError("enough")
        return str(n)

    return work


@pytest.mark.parametrize("end", ["fail", "limit", "stop"])
@pytest.mark.parametrize("kind", ["generator", "reader", "acknowledges"])
def test_what_runs_in_a_sources_process_is_closed(kind: str, end: str, tmp_path: Path) -> None:
    source = Taken(tmp_path) if kind == "generator" else Reader(tmp_path, kind == "acknowledges")
    graph = sw.Graph("closed")
    graph.source(source).map(fails_at(300 if end == "fail" else -1)).sink(lambda text: None)
    options = {"limit": {"limit": 300}, "stop": {"time_limit_s": 0.3}, "fail": {}}[end]
    try:
        report = sw.run(graph, workers=1, **options)  # type: ignore[arg-type]
    except sw.HandlerError as error:
        report = error.report
    assert source.closed.exists()
    assert set(report.children.values()) == {"stopped"}


@pytest.mark.parametrize("number", [0, 300, 1100])
def test_a_failed_run_with_a_journal_loses_nothing(number: int, tmp_path: Path) -> None:
    def run(work: Any) -> None:
        graph = sw.Graph("once")
        graph.source(Taken(tmp_path), name="in", journal=True).map(work).sink(sw.lines(tmp_path / "out.txt"))
        sw.run(graph, workers=1, checkpoint=tmp_path / "run.db", checkpoint_interval_s=0.05)

    with pytest.raises(sw.HandlerError, match=f"failed on number {number} "):
        run(fails_at(number))
    assert (tmp_path / "closed").exists()
    run(fails_at(-1))
    assert (tmp_path / "out.txt").read_text().split() == [str(n) for n in range(EVENTS)]
