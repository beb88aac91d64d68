"""A store that does not match its sinks is refused before anything is changed: lost, emptied, older, of another run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw

EVENTS = 40


class Table:
    """What a database would hold: rows, and beside them whose they are and up to which number."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.run, self.place, self.n = "", "", -1


class TableSink:
    """A sink that commits its rows with its number, and says what it holds."""

    commits = True

    def __init__(self, table: Table) -> None:
        self.table = table
        self.opened = 0

    def claim(self, run: str, place: str) -> tuple[str, int] | None:
        """Return what the table holds of this run, or of an unfinished one from the same place."""
        self.run, self.place = run, place
        table = self.table
        return (table.run, table.n) if table.run and (table.run == run or table.place == place) else None

    def open(self) -> None:
        """Begin with the rows that are there."""
        self.opened += 1
        self.waiting: list[int] = []

    def write(self, events: Any) -> None:
        """Keep rows for the next commit."""
        self.waiting += events

    def commit(self, n: int) -> int:
        """Add the rows and the number."""
        table = self.table
        table.rows += self.waiting
        table.run, table.place, table.n = self.run, self.place, n
        self.waiting = []
        return n

    def recover(self, token: int) -> int:
        """Go on behind what the table has."""
        self.open()
        return self.table.n

    def close(self) -> None:
        """The run is whole: nobody asks for it any more."""
        self.table.run = self.table.place = ""

    def abort(self) -> None:
        """Leave everything as it is."""


def run(folder: Path, table: Table, *, fail_at: int = EVENTS, **words: Any) -> TableSink:
    """Run a graph over numbers, one checkpoint for each, until it fails."""

    def work(n: int) -> int:
        if n == fail_at:
            raise RuntimeError("enough")
        return n

    sink = TableSink(table)
    graph = sw.Graph("matched")
    graph.source(range(EVENTS)).map(work).sink(sink, name="table")
    options = {"runner": "inline", "checkpoint": folder / "run.db", "checkpoint_interval_s": 1e-9, **words}
    if fail_at < EVENTS:
        with pytest.raises(sw.HandlerError):
            sw.run(graph, **options)
    else:
        sw.run(graph, **options)
    return sink


def refused(folder: Path, table: Table, said: str) -> None:
    before = list(table.rows)
    with pytest.raises(sw.CheckpointError, match=said):
        run(folder, table)
    assert table.rows == before


def lost(folder: Path) -> None:
    for path in folder.glob("run.db*"):
        path.unlink()


def emptied(folder: Path) -> None:
    lost(folder)
    (folder / "run.db").touch(0o600)


def dangling(folder: Path) -> None:
    lost(folder)
    (folder / "run.db").symlink_to(folder / "elsewhere.db")


def of_another_run(folder: Path) -> None:
    lost(folder)
    run(folder, Table(), fail_at=5)


@pytest.mark.parametrize("done", [lost, emptied, dangling, of_another_run])
def test_a_store_that_knows_nothing_of_the_run_is_refused(tmp_path: Path, done: Callable[[Path], None]) -> None:
    table = Table()
    run(tmp_path, table, fail_at=20)
    done(tmp_path)
    refused(tmp_path, table, rf"'table': it holds the numbers up to {table.n} of a run .* nothing of that run.*resume='never'")


def test_an_older_copy_is_refused_and_the_newest_goes_on(tmp_path: Path) -> None:
    table = Table()
    run(tmp_path, table, fail_at=5)
    known = table.n
    shutil.copy(tmp_path / "run.db", tmp_path / "copy.db")
    run(tmp_path, table, fail_at=20)
    shutil.copy(tmp_path / "run.db", tmp_path / "newest.db")
    shutil.copy(tmp_path / "copy.db", tmp_path / "run.db")
    refused(tmp_path, table, f"resume with sink 'table': .* up to {table.n} of .* that run up to number {known} only")
    shutil.copy(tmp_path / "newest.db", tmp_path / "run.db")
    run(tmp_path, table)
    assert table.rows == list(range(EVENTS))


def test_a_death_between_the_sinks_commit_and_the_store_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sluiceway.engine.checkpoints.checkpoints import Checkpoints

    table = Table()
    saves = Checkpoints.save

    def save(self: Checkpoints, cut: Any, tokens: Any) -> None:
        if cut.n > 10:
            raise KeyboardInterrupt
        saves(self, cut, tokens)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", save)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, table)
    assert len(table.rows) > 10
    run(tmp_path, table)
    assert table.rows == list(range(EVENTS))


def test_another_store_begins_another_run(tmp_path: Path) -> None:
    table = Table()
    run(tmp_path, table, fail_at=20)
    before = list(table.rows)
    run(tmp_path, table, checkpoint=tmp_path / "other.db")
    assert table.rows == [*before, *range(EVENTS)]


def test_a_finished_run_does_not_stand_in_the_way(tmp_path: Path) -> None:
    table = Table()
    run(tmp_path, table)
    lost(tmp_path)
    run(tmp_path, table)
    assert table.rows == [*range(EVENTS), *range(EVENTS)]


def test_never_begins_afresh_whatever_is_there(tmp_path: Path) -> None:
    table = Table()
    run(tmp_path, table, fail_at=20)
    before = list(table.rows)
    lost(tmp_path)
    run(tmp_path, table, resume="never")
    assert table.rows == [*before, *range(EVENTS)]


def test_a_store_that_was_moved_goes_on(tmp_path: Path) -> None:
    table = Table()
    run(tmp_path, table, fail_at=20)
    (tmp_path / "run.db").rename(tmp_path / "moved.db")
    run(tmp_path, table, checkpoint=tmp_path / "moved.db")
    assert table.rows == list(range(EVENTS))


@pytest.mark.parametrize("limit", [None, 5, 30])
@pytest.mark.parametrize("runner", ["inline", "processes"])
def test_a_run_that_has_finished_by_another_limit_is_refused(tmp_path: Path, runner: Any, limit: int | None) -> None:
    table = Table()
    run(tmp_path, table, limit=20, runner=runner)
    run(tmp_path, table, limit=20, runner=runner)  # the same call: nothing is left to do
    with pytest.raises(sw.CheckpointError, match="already; give it a higher limit" if limit == 5 else "has finished by limit=20"):
        run(tmp_path, table, limit=limit, runner=runner)
    assert table.rows == list(range(20))
    run(tmp_path, table, limit=limit, runner=runner, resume="never")
    assert table.rows == [*range(20), *range(EVENTS if limit is None else limit)]


@pytest.mark.parametrize("limit", [None, EVENTS, EVENTS + 1])
def test_a_limit_that_would_not_have_ended_a_finished_run_is_none(tmp_path: Path, limit: int | None) -> None:
    table = Table()
    run(tmp_path, table)
    run(tmp_path, table, limit=limit)
    assert table.rows == list(range(EVENTS))


def test_a_run_is_not_resumed_below_where_it_is(tmp_path: Path) -> None:
    table = Table()
    run(tmp_path, table, fail_at=20)
    with pytest.raises(sw.CheckpointError, match=r"with limit=10: the run is at number .* already"):
        run(tmp_path, table, limit=10)
    run(tmp_path, table, limit=30)
    assert table.rows == list(range(30))


def count(folder: Path, *, delimiter: str = ",", table: str = "a", ttl: int = 5, fail_at: int = EVENTS) -> None:
    """Count keys of a source into a sink, with a time to live, until it fails."""

    def work(row: dict[str, str]) -> int:
        if int(row["n"]) == fail_at:
            raise RuntimeError("enough")
        return int(row["n"])

    graph = sw.Graph("counted")
    numbers = graph.source(Numbered(delimiter), name="in").map(work)
    counts = numbers.key_by(lambda n: n % 3, ttl=ttl, time=lambda n: n).count()
    counts.sink(Named(table), name="out")
    sw.run(graph, runner="inline", checkpoint=folder / "run.db", checkpoint_interval_s=1e-9)


class Numbered:
    """A source with a setting."""

    replay = "exact"

    def __init__(self, delimiter: str) -> None:
        self.delimiter = delimiter

    def settings(self) -> dict[str, Any]:
        """What decides what is read."""
        return {"delimiter": self.delimiter, "columns": ("n", "m")}

    def reader(self, position: Any) -> Any:
        """Open at a position."""
        self.at = position or 0
        return self

    def read(self, limit: int) -> list[dict[str, str]] | None:
        """Return one event."""
        self.at += 1
        return [{"n": str(self.at - 1)}] if self.at <= EVENTS else None

    def position(self) -> int:
        """How far it is."""
        return self.at

    def close(self) -> None:
        """Nothing is open."""


class Named:
    """A sink with a setting."""

    def __init__(self, table: str) -> None:
        self.table = table

    def settings(self) -> dict[str, Any]:
        """What decides where rows stand."""
        return {"table": self.table}

    def write(self, events: Any) -> None:
        """Forget them."""

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"delimiter": ";"}, 'node \'in\' has other settings than it began with .delimiter is ";", it was ","'),
        ({"table": "b"}, 'node \'out\' has other settings than it began with .table is "b", it was "a"'),
        ({"ttl": 6}, "with ttl 5.*with ttl 6"),
    ],
)
def test_what_is_read_and_written_on_is_what_was_begun(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(sw.HandlerError):
        count(tmp_path, fail_at=20)
    with pytest.raises(sw.CheckpointError, match=said):
        count(tmp_path, **changed)
    count(tmp_path)
