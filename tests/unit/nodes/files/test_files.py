"""Files of lines as sources: patterns, compression, positions, standard input and errors."""

from __future__ import annotations

import gzip
import io
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from file_events import MANY, everything, positions_agree, small_blocks, until_error, written
from hypothesis import given, settings
from hypothesis import strategies as st
from sluiceway.nodes.errors import GraphError
from sluiceway.nodes.files import line_blocks
from sluiceway.nodes.files.api import csv, jsonl, lines
from sluiceway.nodes.sinks import BadEvent
from sluiceway.nodes.sources import open_reader

__all__ = ["small_blocks"]


# lines


def test_lines_are_read_without_their_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\ntwo\r\nthree\rfour\n\nlast")
    assert everything(lines(path)) == ["one", "two", "three", "four", "", "last"]
    assert everything(lines(path, keep_newline=True)) == ["one\n", "two\n", "three\n", "four\n", "\n", "last"]


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"")
    assert everything(lines(path)) == []
    path.write_bytes(b"\n")
    assert everything(lines(path)) == [""]


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(alphabet="ab\n\r\x0b\x85\u2028é€", max_size=40),
    size=st.integers(1, 9),
    limit=st.integers(1, 5),
    keep=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32-le"]),
)
def test_lines_are_those_of_text_mode_however_the_file_is_cut(
    tmp_path_factory: pytest.TempPathFactory, text: str, size: int, limit: int, keep: bool, encoding: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.txt"
    path.write_bytes(text.encode(encoding))
    with open(path, encoding=encoding) as file:
        expected = [line if keep else line.removesuffix("\n") for line in file]
    real = line_blocks.LineBlocks.next
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_blocks.LineBlocks, "next", lambda self, _: real(self, size))
        source = lines(path, encoding=encoding, keep_newline=keep)
        assert everything(source, limit) == expected
        positions_agree(source, expected, limit)


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz"])
def test_lines_come_back_as_they_were_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    events = [f"line {number} é" for number in range(20_000)] + [""]
    written(lines(path), events[:7], [], events[7:])
    assert everything(lines(path), 4096) == events
    assert os.listdir(tmp_path) == [path.name]
    data = path.read_bytes()
    written(lines(path), events)
    assert path.read_bytes() == data or suffix == "", "equal events give equal bytes"


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_reading_goes_on_exactly_from_a_position_in_several_files(tmp_path: Path, suffix: str) -> None:
    for name in "cab":
        written(lines(tmp_path / f"{name}.txt{suffix}"), [f"{name} {number}" for number in range(50)])
    source = lines(tmp_path / f"*.txt{suffix}")
    events = [f"{name} {number}" for name in "abc" for number in range(50)]
    assert everything(source, 7) == events
    positions_agree(source, events, 17)


def test_a_position_is_refused_where_the_files_are_others(tmp_path: Path) -> None:
    for name in "bc":
        (tmp_path / f"{name}.txt").write_text("1\n2\n")
    source = lines(tmp_path / "*.txt")
    reader = source.reader(None)
    reader.read(1, MANY)
    (tmp_path / "a.txt").write_text("0\n")
    with pytest.raises(ValueError, match=r"b\.txt.*give the same files"):
        source.reader(reader.position())
    with pytest.raises(ValueError, match="position"):
        source.reader(5)
    reader.close()


def test_a_read_keeps_to_the_limits(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x" * 99 + "\n" + ("y" * 99 + "\n") * 9999)
    reader = lines(path).reader(None)
    assert len(reader.read(10, MANY) or ()) == 10
    assert len(reader.read(1000, 500) or ()) == 5
    assert len(reader.read(1000, 1) or ()) == 1
    reader.close()
    assert reader.read(1000, 1) is None


def test_a_line_longer_than_many_blocks_is_one_line(tmp_path: Path, small_blocks: None) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x" * 1000 + "\ny")
    assert everything(lines(path)) == ["x" * 1000, "y"]


def test_progress_is_the_fraction_of_the_bytes_on_disk(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("1234567\n" * 100_000)
    reader = lines(tmp_path / "?.txt").reader(None)
    assert reader.progress() == 0
    seen: list[float] = []
    while reader.read(MANY, MANY) is not None:
        seen.append(reader.progress() or 0)
    assert seen == sorted(seen)
    assert any(0.2 < part < 0.8 for part in seen)
    assert reader.progress() == 1
    reader.close()
    (tmp_path / "empty").write_text("")
    assert lines(tmp_path / "empty").reader(None).progress() is None


def test_huge_files_are_never_held_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("1234567\n" * 1_000_000)
    reader = lines(path).reader(None)
    reader.read(10, MANY)
    assert len(reader._cursor.lines) * 8 <= line_blocks.BLOCK_BYTES
    reader.close()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_an_undecodable_line_is_named_after_everything_before_it(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    bad = b"\xff\n" if encoding == "utf-8" else b"\x00\xdc"
    path.write_bytes("one\ntwo\n".encode(encoding) + bad + "four\n".encode(encoding))
    source = lines(path, encoding=encoding)
    events, error, position = until_error(source)
    assert events == ["one", "two"]
    assert isinstance(error, ValueError)
    assert f"{path}, line 3: it is not {encoding} text" in str(error)
    with pytest.raises(ValueError, match="line 3"):
        everything(source, position=position)


def test_a_damaged_compressed_file_is_named_after_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(os.urandom(40_000).hex().encode() + b"\n1\n")[:-10])
    _, error, _ = until_error(lines(path))
    assert isinstance(error, OSError)
    assert str(path) in str(error)
    path.write_bytes(b"no gzip at all")
    assert str(path) in str(until_error(lines(path))[1])


def test_files_are_looked_up_when_reading_starts(tmp_path: Path) -> None:
    pattern, missing = lines(tmp_path / "*.txt"), lines([tmp_path / "a.txt", str(tmp_path / "b.txt")])
    with pytest.raises(FileNotFoundError, match=r"\*\.txt: no file matches"):
        pattern.reader(None)
    (tmp_path / "a.txt").write_text("1\n")
    assert everything(pattern) == ["1"]
    with pytest.raises(FileNotFoundError, match=r"b\.txt: there is no such file"):
        missing.reader(None)
    (tmp_path / "b.txt").write_text("2\n")
    assert everything(missing) == ["1", "2"]


def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("brackets\n")
    (tmp_path / "a1.txt").write_text("other\n")
    (tmp_path / "folder.txt").mkdir()
    assert everything(lines(tmp_path / "a[1].txt")) == ["brackets"]
    assert everything(lines(tmp_path / "*.txt")) == ["other", "brackets"]


@pytest.mark.parametrize("path", [b"a.txt", 5, None, "", [], [5], ["a", None]])
def test_what_is_no_path_is_refused(path: Any) -> None:
    for maker in (lines, jsonl, csv):
        with pytest.raises(GraphError, match=rf"{maker.__name__}\("):
            maker(path)


def test_unknown_encodings_are_refused() -> None:
    for encoding in ("utf-9", "hex"):
        with pytest.raises(GraphError, match="encoding"):
            lines("a", encoding=encoding)
        with pytest.raises(GraphError, match="encoding"):
            csv("a", encoding=encoding)


# standard input and output


class Stdin:
    def __init__(self, file: Any) -> None:
        self.buffer = file


def test_dash_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    source = lines("-")
    assert source.in_caller
    assert not lines("a").in_caller
    monkeypatch.setattr(sys, "stdin", Stdin(io.BytesIO(b"1\n2")))
    assert everything(source) == ["1", "2"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("3\n"))
    assert everything(source) == ["3"]


def test_standard_input_gives_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = os.pipe()
    with open(inside, "rb") as file:
        monkeypatch.setattr(sys, "stdin", Stdin(file))
        reader = lines("-").reader(None)
        assert reader.read(10, MANY) == []
        os.write(outside, b"1\n2\n3")
        assert reader.read(10, MANY) == ["1", "2"]
        assert reader.read(10, MANY) == []
        os.close(outside)
        assert reader.read(10, MANY) == ["3"]
        assert reader.read(10, MANY) is None
        assert reader.progress() is None
        position = reader.position()
        reader.close()
        assert not file.closed
        with pytest.raises(OSError, match="standard input"):
            lines("-").reader(position)


def test_rows_from_standard_input_come_as_they_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = os.pipe()
    with open(inside, "rb") as file:
        monkeypatch.setattr(sys, "stdin", Stdin(file))
        reader = csv("-").reader(None)
        os.write(outside, b'a,b\n1,"x\n')
        rows: list[Any] = []
        thread = threading.Thread(target=lambda: rows.extend(reader.read(10, MANY) for _ in range(2)))
        thread.start()
        os.write(outside, b'y"\n')
        os.close(outside)
        thread.join(10)
        assert rows == [[{"a": "1", "b": "x\ny"}], None]
        reader.close()


# csv


def test_file_readers_take_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1\n")
    for source in (lines(tmp_path / "a"), jsonl(tmp_path / "a"), csv(tmp_path / "a")):
        reader = open_reader(source)
        assert type(reader).__module__.startswith("sluiceway.nodes.")
        assert not hasattr(reader, "one_by_one")
        reader.close()


def test_closing_beside_a_read_leaves_the_file_to_the_reading_thread(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    outside: list[int] = []
    thread = threading.Thread(target=lambda: outside.append(os.open(path, os.O_WRONLY)))
    thread.start()
    reader = lines(path).reader(None)
    read: list[Any] = []
    reading = threading.Thread(target=lambda: read.extend(reader.read(10, MANY) for _ in range(2)))
    reading.start()
    thread.join(5)
    while not reader._cursor._busy.locked():
        reading.join(0.001)
    reader.close()
    os.write(outside[0], b"1\n")
    reading.join(5)
    assert read == [["1"], None]
    reader.close()
    os.close(outside[0])


@pytest.mark.parametrize("make", [lines, jsonl, csv])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.zst", "compressed as .zst"), ("a.LZ4", "compressed as .lz4"), ("a.tar.gz", "an archive"), ("a.tgz", "an archive"),
        ("b/a.zip", "an archive"), ("*.tar.xz", "an archive"),
    ],
)  # fmt: skip
def test_what_is_packed_in_a_way_that_is_not_known_is_refused_by_its_name(make: Any, name: str, said: str) -> None:
    with pytest.raises(GraphError, match=f"by its name it is {said}, which is not unpacked here"):
        make(name)


def test_errors_do_not_show_all_of_long_names(tmp_path: Path) -> None:
    sink = csv(tmp_path / "a.csv")
    sink.open()
    sink.write([{"a" * 1000: 1, **dict.fromkeys(map(str, range(1000)), 1)}])
    for event in ({"b" * 1000: 1}, {"a" * 1000: [1], **dict.fromkeys(map(str, range(1000)), 1)}):
        with pytest.raises(BadEvent) as caught:
            sink.write([event])
        assert len(str(caught.value)) < 1000 + len(str(tmp_path))
    sink.abort()
