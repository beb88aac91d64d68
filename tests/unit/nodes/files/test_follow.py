"""Files that are followed as they grow: whole lines only, rotation, truncation, and going on from a position."""

from __future__ import annotations

import logging
import os
import pickle
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sluiceway.nodes.errors import CheckpointError, GraphError
from sluiceway.nodes.files import follow
from sluiceway.nodes.files.api import csv, jsonl, lines

MANY = 1 << 20


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "WAIT_S", 0.002)
    monkeypatch.setattr(follow, "LOOK_S", 0.001)


def there(reader: Any, limit: int = 100) -> list[Any]:
    """Read what is there: until a read finds nothing twice, for a rotation takes a look of its own."""
    events: list[Any] = []
    empty = 0
    while empty < 2:
        batch = reader.read(limit, MANY)
        assert batch is not None, "a followed file has ended"
        events += batch
        empty = 0 if batch else empty + 1
    return events


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_what_is_added_comes_when_its_line_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1\n2\nhalf")
    reader = lines(path, follow=True).reader(None)
    assert there(reader) == ["1", "2"]
    assert reader.read(5, MANY) == []
    add(path, " and half")
    assert there(reader) == []
    add(path, "\n3\n")
    assert there(reader) == ["half and half", "3"]
    assert reader.progress() is None
    reader.close()
    assert reader.read(5, MANY) is None


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-8-sig", "latin-1"])
def test_encodings_are_followed(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a"
    path.write_bytes("é\nhal".encode(encoding))
    reader = lines(path, encoding=encoding, follow=True).reader(None)
    assert there(reader) == ["é"]
    with path.open("ab") as file:
        file.write("f ü\n".encode(encoding.replace("-sig", "")))
    assert there(reader) == ["half ü"]
    reader.close()


def test_values_and_rows_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a":1}\n{"a"')
    reader = jsonl(path, follow=True).reader(None)
    assert there(reader) == [{"a": 1}]
    add(path, ":2}\n")
    assert there(reader) == [{"a": 2}]
    reader.close()
    path = tmp_path / "a.csv"
    path.write_text("")
    rows = csv(path, follow=True).reader(None)
    assert there(rows) == []
    add(path, "a,b\n1,")
    assert there(rows) == []
    add(path, "2\n3,4\n")
    assert there(rows) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    path.rename(tmp_path / "a.csv.1")
    add(path, "b,c\n5,6\n")
    assert there(rows) == [{"b": "5", "c": "6"}]
    again = csv(path, follow=True).reader(rows.position())
    add(path, "7,8\n")
    assert there(rows) == there(again) == [{"b": "7", "c": "8"}]
    rows.close()
    again.close()


def test_rotated_files_are_read_to_their_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1\n")
    reader = lines(path, follow=True).reader(None)
    assert there(reader) == ["1"]
    with path.open("a") as writer:
        path.rename(tmp_path / "a.1")
        assert there(reader) == []
        writer.write("2\n")
        writer.flush()
        assert there(reader) == ["2"]
        path.touch()  # made by who rotates, and not yet taken by who writes
        writer.write("3\nlast")
        writer.flush()
        assert there(reader) == ["3"]
        writer.write(" one")
    add(path, "4\n")
    assert there(reader) == ["last one", "4"]
    add(path, "5\n")
    assert there(reader) == ["5"]
    reader.close()


def test_a_truncated_file_begins_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a"
    path.write_text("1\n2\n3")
    reader = lines(path, follow=True).reader(None)
    assert there(reader) == ["1", "2"]
    os.truncate(path, 0)
    with caplog.at_level(logging.WARNING, "sluiceway"):
        assert there(reader) == []
    assert f"{path} was truncated" in caplog.text
    add(path, "4\n")
    assert there(reader) == ["4"]
    reader.close()


@pytest.mark.parametrize("begin", ["server started 08:00\n", ""])
@pytest.mark.parametrize("grown", [0, 1, 7, 1000])
def test_a_file_that_was_truncated_and_has_grown_again_begins_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, begin: str, grown: int
) -> None:
    """Also where it is as long as before, or longer, when it is looked at."""
    path = tmp_path / "a"
    path.write_text(begin + "".join(f"old {n}\n" for n in range(100)) + "half of a")
    reader = lines(path, follow=True).reader(None)
    assert there(reader)[-1] == "old 99"
    new = [f"newer line {n}" for n in range(150)] + ["x" * grown]
    size = path.stat().st_size
    with path.open("r+") as file:  # the same file, as copytruncate leaves it
        file.truncate(0)
        file.write(begin + "".join(f"{line}\n" for line in new))
    assert path.stat().st_size > size
    assert there(reader) == [*([begin[:-1]] if begin else []), *new]
    assert f"{path} was truncated" in caplog.text
    add(path, "last\n")
    assert there(reader) == ["last"]
    reader.close()


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_truncated_no_half_line_is_read(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "a"
    path.touch()
    reader = lines(path, follow=True).reader(None)
    wrote: set[str] = set()
    last: list[str] = []
    for life in range(60):
        if chance.random() < 0.4:
            os.truncate(path, 0)
            last = []
        for _ in range(chance.randrange(40)):
            line = f"{life} {chance.randrange(10 ** chance.randrange(1, 30))}"
            wrote.add(line)
            last.append(line)
            add(path, line + "\n")
        if chance.random() < 0.5:
            found = there(reader)
            assert wrote.issuperset(found)
            assert found == last[len(last) - len(found) :]
            last = []
    reader.close()


def test_a_row_that_was_truncated_within_is_lost_and_the_next_ones_come(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    reader: Any = csv(path, follow=True).reader(None)
    assert there(reader) == [{"a": "1", "b": "2"}]
    waits = threading.Event()
    reader._cursor._closing.wait = lambda seconds: waits.set()  # within the row
    add(path, '3,"half\n')
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(lambda: next(filter(None, (reader.read(10, MANY) for _ in iter(int, 1)))))
        waits.clear()
        assert waits.wait(20)
        path.write_text("a,b\n5,6\n")
        assert read.result(20) == [{"a": "5", "b": "6"}]
    reader.close()


def test_it_goes_on_from_a_position(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1\n2\nhalf")
    source = pickle.loads(pickle.dumps(lines(path, follow=True)))
    assert source.replay == "exact"
    reader = source.reader(None)
    assert reader.read(1, MANY) == ["1"]
    position = pickle.loads(pickle.dumps(reader.position()))
    reader.close()
    add(path, "\n3\n")
    for _ in range(2):
        reader = source.reader(position)
        assert there(reader) == ["2", "half", "3"]
        reader.close()
        path.rename(tmp_path / "a.1") if path.exists() else None
    add(path, "4\n")
    reader = source.reader(position)
    assert there(reader) == ["2", "half", "3", "4"]
    reader.close()
    with pytest.raises(CheckpointError):
        lines(path).reader(position)


def test_a_position_in_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1\n2\n")
    source = lines(path, follow=True)
    reader = source.reader(None)
    assert reader.read(1, MANY) == ["1"]
    position = reader.position()
    os.truncate(path, 0)
    reader.close()
    with pytest.raises(CheckpointError, match="ends before byte 4"):
        source.reader(position)
    path.unlink()
    add(path, "3\n4\n5\n")
    with pytest.raises(CheckpointError, match="not those that were read"):
        source.reader(position)


def test_a_file_that_was_rotated_twice_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a"
    path.write_text("1\n")
    reader = lines(path, follow=True).reader(None)
    assert there(reader) == ["1"]
    path.rename(tmp_path / "a.2")
    os.utime(tmp_path / "a.2", (100, 100))
    (tmp_path / "a.1").write_text("2\n")
    os.utime(tmp_path / "a.1", (200, 200))
    path.write_text("3\n")
    with caplog.at_level(logging.WARNING, "sluiceway"):
        assert there(reader) == ["3"]
    assert "rotated more than once" in caplog.text
    assert "a.1 was not read" in caplog.text
    assert "a.2" not in caplog.text
    reader.close()


def test_a_read_at_the_end_waits_a_moment_and_close_wakes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_text("1\n")
    monkeypatch.setattr(follow, "WAIT_S", 0.05)
    reader = lines(path, follow=True).reader(None)
    assert reader.read(5, MANY) == ["1"]
    begun = time.monotonic()
    assert reader.read(5, MANY) == []
    assert 0.04 < time.monotonic() - begun < 5
    monkeypatch.setattr(follow, "WAIT_S", 60.0)
    monkeypatch.setattr(follow, "LOOK_S", 60.0)
    read: list[Any] = []
    thread = threading.Thread(target=lambda: read.append(reader.read(5, MANY)))
    thread.start()
    while not reader._cursor._busy.locked():
        thread.join(0.001)
    reader.close()
    thread.join(10)
    assert not thread.is_alive()
    assert not read[0]
    reader.close()


@pytest.mark.parametrize("seed", range(5))
def test_a_log_that_is_rotated_at_random_is_read_once(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "a.log"
    path.touch()
    source = lines(path, follow=True)
    reader = source.reader(None)
    position, got, expected, rotated = reader.position(), 0, [], 0
    events: list[str] = []
    for step in range(300):
        text = f"line {step} " + "x" * chance.randrange(50)
        expected.append(text)
        add(path, text + "\n")
        if chance.random() < 0.5:
            events += reader.read(chance.randrange(1, 9), MANY) or []
        if chance.random() < 0.1:
            position, got = reader.position(), len(events)
        if chance.random() < 0.1:  # one rotation between two readings to the end
            events += there(reader)
            rotated += 1
            path.rename(tmp_path / f"a.log.{rotated}")
            position, got = reader.position(), len(events)
        if chance.random() < 0.1 and (path.exists() or rotated):
            reader.close()
            reader = source.reader(position)
            del events[got:]
    path.touch()
    assert events + there(reader) == expected
    assert rotated > 3
    reader.close()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: lines("a.gz", follow=True), "follow the plain file"),
        (lambda: jsonl("-", follow=True), "leave follow away"),
        (lambda: csv(["a", "b"], follow=True), "graph.sequence"),
        (lambda: lines("*.log", follow=True), "graph.sequence"),
        (lambda: lines("a", follow=True, append=True), "one object for each"),
        (lambda: lines("a", follow=True).check_sink(), "follow is for reading"),
    ],
)
def test_what_cannot_be_followed_is_refused(make: Any, text: str) -> None:
    with pytest.raises(GraphError, match=text):
        make()


def test_a_file_to_follow_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="correct the path"):
        lines(tmp_path / "a", follow=True).reader(None)
