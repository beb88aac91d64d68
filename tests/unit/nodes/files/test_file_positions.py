"""Positions in files: what they hold, and how another input, a shrunken or a changed one is told from a grown one."""

from __future__ import annotations

import gzip
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from sluiceway.nodes.connectors.timer import every
from sluiceway.nodes.errors import CheckpointError
from sluiceway.nodes.files.api import csv, jsonl, lines
from sluiceway.nodes.sources import open_reader

MANY = 1 << 20
BLOCK = 1 << 18


def read_to(source: Any, count: int) -> tuple[list[Any], Any]:
    """Read `count` events and give them with the position behind them."""
    reader = source.reader(None)
    events: list[Any] = []
    while len(events) < count:
        batch = reader.read(min(count - len(events), 700), MANY)
        assert batch
        events += batch
    position = pickle.loads(pickle.dumps(reader.position()))
    reader.close()
    return events, position


def rest(source: Any, position: Any) -> list[Any]:
    reader = source.reader(position)
    events: list[Any] = []
    while (batch := reader.read(1000, MANY)) is not None:
        events += batch
    reader.close()
    return events


def refused(source: Any, position: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        source.reader(position)
    assert "begin afresh with resume='never'" in str(caught.value)
    return str(caught.value)


LINES = [f"line {number} of a file that is longer than one block" for number in range(20_000)]
ENCODINGS = ["utf-8", "utf-16", "latin-1", "utf-8-sig"]


def file_of(path: Path, texts: list[str], encoding: str = "utf-8") -> Path:
    data = "".join(text + "\n" for text in texts).encode(encoding)
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("count", [0, 1, 5_000, 19_999, 20_000])
def test_a_position_is_small_and_plain_and_exact(tmp_path: Path, suffix: str, encoding: str, count: int) -> None:
    source = lines(file_of(tmp_path / f"a{suffix}", LINES, encoding), encoding=encoding)
    assert source.replay == "exact"
    events, position = read_to(source, count)
    assert events == LINES[:count]
    assert all(isinstance(value, int | str) for value in position)
    assert len(pickle.dumps(position)) < 300
    assert rest(source, position) == LINES[count:]
    reader = source.reader(position)  # a position is known again before anything is read from it
    assert reader.position() == position
    reader.close()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("count", [1, 15_000])
def test_a_file_may_grow_at_its_end(tmp_path: Path, encoding: str, count: int) -> None:
    path = file_of(tmp_path / "a", LINES, encoding)
    source = lines(path, encoding=encoding)
    position = read_to(source, count)[1]
    file_of(path, [*LINES, "one more"], encoding)
    assert rest(source, position) == [*LINES[count:], "one more"]


def test_a_line_that_grew_after_it_was_read_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1\n2")
    source = lines(path)
    position = read_to(source, 2)[1]
    path.write_text("1\n23\n4\n")
    assert rest(source, position) == ["3", "4"]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("count", [1, 5_000, 15_000])
def test_a_file_that_shrank_is_refused(tmp_path: Path, suffix: str, count: int) -> None:
    path = file_of(tmp_path / f"a{suffix}", LINES)
    position = read_to(lines(path), count)[1]
    file_of(path, LINES[: count // 2])
    assert "it ends before byte" in refused(lines(path), position)
    file_of(path, [])
    assert "it ends before byte" in refused(lines(path), position)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(("count", "changed"), [(1, 0), (15_000, 0), (15_000, 14_999), (15_000, 14_500)])
def test_a_file_that_changed_where_it_was_read_is_refused(
    tmp_path: Path, suffix: str, encoding: str, count: int, changed: int
) -> None:
    path = file_of(tmp_path / f"a{suffix}", LINES, encoding)
    source = lines(path, encoding=encoding)
    position = read_to(source, count)[1]
    other = [*LINES]
    other[changed] = other[changed].replace("line", "LINE")
    file_of(path, other, encoding)
    assert "are not those that were read" in refused(source, position)


def test_another_size_of_an_earlier_file_is_refused(tmp_path: Path) -> None:
    for name in "abc":
        file_of(tmp_path / name, [f"{name}{number}" for number in range(10)])
    source = lines(tmp_path / "[abc]")
    position = read_to(source, 25)[1]
    assert rest(source, position) == ["c5", "c6", "c7", "c8", "c9"]
    file_of(tmp_path / "b", ["longer than before"] * 5)
    assert "one of the 2 files before it" in refused(source, position)
    (tmp_path / "b").unlink()
    with pytest.raises(ValueError, match="not file 2 of the list any more"):
        source.reader(position)


def test_rows_go_on_below_their_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [{"a": str(number), "b": f'two\n"lines" {number}'} for number in range(30_000)]
    sink = csv(path)
    sink.open()
    sink.write(rows)
    sink.close()
    for count in (1, 12_345, 30_000):
        events, position = read_to(csv(path), count)
        assert events == rows[:count]
        assert rest(csv(path), position) == rows[count:]
    path.write_bytes(path.read_bytes().replace(b"a,b", b"x,y"))
    assert "are not those that were read" in refused(csv(path), position)


def test_what_cannot_be_read_again_says_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a").write_text("1\n")
    assert jsonl("-").replay == "none"
    assert lines([tmp_path / "a", "-"]).replay == "none"
    assert lines(tmp_path / "pipe").replay == "none"
    assert lines(tmp_path / "*").replay == "none"
    assert csv(tmp_path / "a").replay == "exact"
    assert lines(tmp_path / "not there yet").replay == "exact"
    assert every(1).replay == "exact"


def test_ticks_go_on_in_their_count() -> None:
    reader = open_reader(every(0.001, 10))
    first: list[int] = []
    while len(first) < 5:
        first += reader.read(5 - len(first), MANY) or []
    again = open_reader(every(0.001, 10), reader.position())
    more: list[int] = []
    while (batch := again.read(10, MANY)) is not None:
        more += batch
    assert first + more == list(range(10))
