"""Files as sources and sinks: lines, JSON lines and CSV; patterns, compression, positions, partial files and errors."""

from __future__ import annotations

import bz2
import csv as stdlib_csv
import gzip
import io
import json
import lzma
import os
import pickle
import sys
import threading
from collections import OrderedDict
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sluiceway.nodes.errors import GraphError
from sluiceway.nodes.events import DeadLetter
from sluiceway.nodes.files import line_blocks
from sluiceway.nodes.files.api import csv, jsonl, lines
from sluiceway.nodes.sinks import BadEvent, Batch
from sluiceway.nodes.sources import open_reader

MANY = 1 << 20


def everything(source: Any, limit: int = 1000, max_bytes: int = MANY, position: object = None) -> list[Any]:
    reader = source.reader(position)
    events: list[Any] = []
    try:
        while (batch := reader.read(limit, max_bytes)) is not None:
            assert 0 <= len(batch) <= limit
            events.extend(batch)
    finally:
        reader.close()
    return events


def until_error(source: Any, limit: int = 1000) -> tuple[list[Any], Exception, object]:
    reader = source.reader(None)
    events: list[Any] = []
    while True:
        try:
            batch = reader.read(limit, MANY)
        except Exception as error:
            with pytest.raises(type(error)):
                reader.read(limit, MANY)
            reader.close()
            return events, error, reader.position()
        assert batch is not None, "the source ended without an error"
        events.extend(batch)


def written(sink: Any, *batches: list[Any]) -> None:
    sink.open()
    for batch in batches:
        sink.write(Batch(batch, list))
    sink.close()


def positions_agree(source: Any, events: list[Any], limit: int) -> None:
    """Go on from every position that a reader gives, and find exactly the rest."""
    reader = source.reader(None)
    count = 0
    while True:
        position = pickle.loads(pickle.dumps(reader.position()))
        assert everything(source, position=position) == events[count:]
        assert everything(source, position=list(position)) == events[count:]
        batch = reader.read(limit, MANY)
        if batch is None:
            break
        count += len(batch)
    reader.close()
    assert count == len(events)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a few bytes at once, so that lines and rows span blocks."""
    real = line_blocks.LineBlocks.next
    monkeypatch.setattr(line_blocks.LineBlocks, "next", lambda self, size: real(self, 7))


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


def test_dash_writes_to_standard_output_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    sink = lines("-")
    sink.check_sink()
    sink.open()
    sink.write(["1", "2"])
    assert capsys.readouterr().out == "1\n2\n"
    sink.close()
    written(jsonl("-"), [{"a": 1}])
    written(csv("-"), [{"a": 1}])
    assert capsys.readouterr().out == '{"a":1}\na\r\n1\r\n'


# sinks


def test_a_file_appears_only_when_the_run_has_succeeded(tmp_path: Path) -> None:
    path, partial = tmp_path / "a.txt", tmp_path / "a.txt.partial"
    path.write_text("old\n")
    sink = lines(path)
    sink.open()
    sink.write(["1"])
    assert path.read_text() == "old\n"
    sink.close()
    assert path.read_text() == "1\n"
    assert not partial.exists()


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz"])
def test_a_failed_run_leaves_what_was_written_as_a_partial_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    sink = lines(path)
    for run in range(2):  # the second run begins afresh, over what the first left
        sink.open()
        sink.write(["1", f"run {run}"])
        sink.abort()
        data = Path(f"{path}.partial").read_bytes()
        unpack: Any = {"": bytes, ".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}[suffix]
        assert unpack(data) == f"1\nrun {run}\n".encode()
    assert not path.exists()


def test_an_empty_run_leaves_an_empty_file(tmp_path: Path) -> None:
    for sink in (lines(tmp_path / "a"), jsonl(tmp_path / "b"), csv(tmp_path / "c")):
        written(sink)
        assert Path(sink.paths[0]).read_bytes() == b""
        assert everything(sink) == []
    written(lines(tmp_path / "a.gz"))
    assert everything(lines(tmp_path / "a.gz")) == []


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz"])
def test_appending_writes_each_batch_to_the_end_at_once(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    sink = lines(path, append=True)
    for run in range(2):
        sink.open()
        sink.write([f"{run} a", f"{run} b"])
        sink.write([f"{run} c"])
        assert everything(sink) == [f"{before} {name}" for before in range(run + 1) for name in "abc"]
        sink.abort()
    assert os.listdir(tmp_path) == [path.name]


def test_appending_never_goes_on_in_a_half_line(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-16"):
        path = tmp_path / encoding
        path.write_bytes("half".encode(encoding))
        for _ in range(2):
            written(lines(path, append=True, encoding=encoding), ["whole"])
        assert everything(lines(path, encoding=encoding)) == ["half", "whole", "whole"]


def test_a_missing_folder_is_named_when_the_run_starts(tmp_path: Path) -> None:
    for append in (False, True):
        with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; make it first"):
            lines(tmp_path / "nowhere" / "a.txt", append=append).open()
    with pytest.raises(IsADirectoryError, match="name a file in it"):
        lines(tmp_path).open()


def test_two_sinks_never_write_one_file(tmp_path: Path) -> None:
    first, second = lines(tmp_path / "a"), lines(tmp_path / "a")
    first.open()
    first.write(["1"])
    with pytest.raises(BlockingIOError, match="give each sink a file of its own"):
        second.open()
    first.close()
    assert everything(first) == ["1"]


def test_devices_and_links_stay_what_they_are(tmp_path: Path) -> None:
    written(lines(os.devnull), ["1"])
    assert not os.path.isfile(os.devnull)
    (tmp_path / "link").symlink_to(tmp_path / "target")
    written(lines(tmp_path / "link"), ["1"])
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "1\n"


def test_a_sink_that_is_open_travels_as_a_source(tmp_path: Path) -> None:
    sink = lines(tmp_path / "a")
    sink.open()
    sink.write(["1"])
    copied = pickle.loads(pickle.dumps(sink))
    sink.close()
    assert everything(copied) == ["1"]
    assert repr(sink) == f"lines({str(tmp_path / 'a')!r})"


def test_a_sink_is_one_file(tmp_path: Path) -> None:
    for paths in (["a", "b"], tmp_path / "*.txt"):
        for sink in (lines(paths), jsonl(paths), csv(paths)):
            with pytest.raises(GraphError, match="name the file"):
                sink.open()


@pytest.mark.parametrize(
    ("bad", "text"),
    [(5, "the event is an int"), ("a\nb", "line end inside"), ("a\rb", "line end inside"), ("\ud800", "half of a surrogate")],
)
@pytest.mark.parametrize("keep", [False, True])
def test_a_text_that_is_no_line_is_refused_at_its_place(tmp_path: Path, bad: Any, text: str, keep: bool) -> None:
    sink = lines(tmp_path / "a", keep_newline=keep)
    sink.open()
    sink.write(["1"])
    events: Any = Batch(["2", "3", bad, "4"], list)
    if keep and bad == 5:
        events = ["2", "3", 5]
    with pytest.raises(BadEvent, match=text) as caught:
        sink.write(events)
    assert caught.value.position == 2
    sink.abort()
    assert (tmp_path / "a.partial").read_text() == "1\n2\n3\n"


def test_lines_with_their_ends_are_written_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a"
    written(lines(path, keep_newline=True), ["1\n", "\n", "2"])
    assert path.read_text() == "1\n\n2\n"
    sink = lines(tmp_path / "b")
    with pytest.raises(BadEvent):
        sink.write(["1\n"])
    sink.abort()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_other_encodings_come_back(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a"
    sink = lines(path, encoding=encoding)
    written(sink, ["é", "1"], ["2"])
    assert path.read_bytes() == "é\n1\n2\n".encode(encoding)
    assert everything(sink) == ["é", "1", "2"]


# json lines

VALUES: list[Any] = [None, True, 0, -5, 2**70, 1.5, "", "é€\u2028\x85\r\n", "\ud800"]
VALUES += [[], [1, [2]], {}, {"a": {"b": [None]}}, [[{"": ""}]]]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_json_values_come_back_equal(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    written(jsonl(path), VALUES, [OrderedDict(a=1)])
    assert everything(jsonl(path)) == [*VALUES, {"a": 1}]
    positions_agree(jsonl(path), [*VALUES, {"a": 1}], 3)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(events=st.lists(json_values, max_size=6))
def test_any_json_value_comes_back_equal(tmp_path_factory: pytest.TempPathFactory, events: list[Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    written(jsonl(path), events)
    assert everything(jsonl(path), 2) == events


def test_json_is_written_compactly_and_unescaped(tmp_path: Path) -> None:
    written(jsonl(tmp_path / "a"), [{"a": [1, "é"], "b": (None,)}])
    assert (tmp_path / "a").read_text("utf-8") == '{"a":[1,"é"],"b":[null]}\n'


def test_blank_lines_byte_order_mark_and_windows_ends_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n  \r\n  2  \n[3,\r4]')
    assert everything(jsonl(path), 1) == [{"a": 1}, 2, [3, 4]]


@pytest.mark.parametrize("bad", ["{", "1 2", "nope", '{"a":1}}', "1,2", "'a'"])
def test_a_line_that_is_not_json_is_named_after_everything_before_it(tmp_path: Path, bad: str) -> None:
    first, path = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text("0\n")
    path.write_text(f"1\n\n2\n{bad}\n5\n")
    source = jsonl([first, path])
    events, error, position = until_error(source)
    assert events == [0, 1, 2]
    assert isinstance(error, ValueError)
    assert f"{path}, line 4: it is not one JSON value" in str(error)
    assert error.__cause__ is None, "a JSONDecodeError holds the line"
    with pytest.raises(ValueError, match="line 4"):
        everything(source, position=position)


class Odd(str):
    __slots__ = ()


LOOP: list[Any] = []
LOOP.append({"a": LOOP})


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"user": {"birth": date(2000, 1, 1)}}, r"\$\.user\.birth is a date"),
        ({"a b": [1, {2}]}, r'\$\["a b"\]\[1\] is a set'),
        ([b""], r"\$\[0\] is a bytes"),
        (float("nan"), r"\$ is a float that is not finite"),
        ({"a": float("inf")}, r"\$\.a is a float that is not finite"),
        ({"a": {1: 2}}, r"a key of \$\.a is an int, not a str"),
        ({None: 2}, r"a key of \$ is None"),
        (OrderedDict({True: 1}), r"a key of \$ is a bool"),
        (LOOP, r"\$\[0\]\.a contains itself"),
        (object(), r"\$ is an object"),
        (1j, "complex"),
    ],
)
def test_what_json_cannot_carry_is_refused_with_its_field(tmp_path: Path, bad: Any, text: str) -> None:
    sink = jsonl(tmp_path / "a")
    sink.open()
    with pytest.raises(BadEvent, match=text) as caught:
        sink.write(Batch([1, {"a": 2}, bad, 3], list))
    assert caught.value.position == 2
    sink.abort()
    assert (tmp_path / "a.partial").read_text() == '1\n{"a":2}\n'


def test_what_json_carries_in_unusual_ways_is_no_error(tmp_path: Path) -> None:
    events = [{Odd("a"): Odd("b")}, {"a": 2**100}, {"\ud800": "\udfff"}]
    written(jsonl(tmp_path / "a"), events)
    assert everything(jsonl(tmp_path / "a")) == events


def test_a_value_nested_too_deep_is_refused(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    sink = jsonl(tmp_path / "a")
    with pytest.raises(BadEvent, match="too deep") as caught:
        sink.write([1, deep])
    assert caught.value.position == 1
    sink.abort()


def test_dead_letters_are_written_as_objects(tmp_path: Path) -> None:
    letters = [DeadLetter(5, 0, "parse", event, "ValueError: bad", "Traceback", 2) for event in ({"a": 1}, {1, 2})]
    written(jsonl(tmp_path / "a"), letters)
    fields = {"seq": 5, "index": 0, "node": "parse", "error": "ValueError: bad"}
    fields |= {"traceback": "Traceback", "attempts": 2}
    assert everything(jsonl(tmp_path / "a")) == [{**fields, "event": {"a": 1}}, {**fields, "event": "{1, 2}"}]


def test_json_lines_are_those_of_the_json_module(tmp_path: Path) -> None:
    events = [{"number": number, "text": f"é {number}"} for number in range(3000)]
    written(jsonl(tmp_path / "a"), events[:1000], events[1000:])
    with open(tmp_path / "a", encoding="utf-8") as file:
        assert [json.loads(line) for line in file] == events


# csv

ROWS = [
    {"a": "1", "b": "x"},
    {"a": "", "b": 'quo"te'},
    {"a": "new\nline", "b": "win\r\ndows"},
    {"a": "c\rr", "b": " , ;"},
]


@pytest.mark.parametrize("suffix", ["", ".xz"])
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_rows_come_back_equal(tmp_path: Path, suffix: str, delimiter: str) -> None:
    sink = csv(tmp_path / f"a.csv{suffix}", delimiter=delimiter)
    rows = ROWS * 20
    written(sink, rows[:3], [], rows[3:])
    assert everything(sink, 3) == rows
    positions_agree(sink, rows, 7)


@pytest.mark.usefixtures("small_blocks")
def test_rows_that_span_blocks_come_back_equal(tmp_path: Path) -> None:
    sink = csv(tmp_path / "a.csv")
    written(sink, ROWS * 3)
    assert everything(sink, 2) == ROWS * 3
    positions_agree(sink, ROWS * 3, 1)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries({"a b": st.text(alphabet="xé,\"\n\r '", max_size=6), "": st.text(max_size=4)}), max_size=6
    ),
    size=st.integers(1, 9),
)
def test_any_text_comes_back_from_a_row(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]], size: int
) -> None:
    sink = csv(tmp_path_factory.getbasetemp() / "any.csv")
    written(sink, rows)
    real = line_blocks.LineBlocks.next
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_blocks.LineBlocks, "next", lambda self, _: real(self, size))
        assert everything(sink, 2) == rows
        positions_agree(sink, rows, 1)


def test_rows_are_those_of_the_csv_module(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    written(csv(path), ROWS)
    with open(path, newline="") as file:
        assert list(stdlib_csv.DictReader(file)) == ROWS


def test_every_file_has_its_own_header_and_empty_rows_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfa,b\r\n\r\n1,2\r\n")
    (tmp_path / "b.csv").write_text("\nb,a\n3,4\n\n5,6")
    (tmp_path / "c.csv").write_text("")
    (tmp_path / "d.csv").write_text("only,header")
    source = csv(tmp_path / "*.csv")
    rows = [{"a": "1", "b": "2"}, {"b": "3", "a": "4"}, {"b": "5", "a": "6"}]
    assert everything(source) == rows
    positions_agree(source, rows, 1)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('a,b\n1,"2\n2"\n1,2,3\n', "line 4: the row has 3 fields, the header 2"),
        ('a,b\n1,"2\n2"\n1\n', "line 4: the row has 1 fields"),
        ('a,b\n1,"2\n2"\n1,"2', "line 4: unexpected end of data"),
        ('a,b\n1,"2\n2"\n1,"2"x\n', "line 4: "),
    ],
)
@pytest.mark.parametrize("cut", [False, True])
def test_a_row_that_does_not_fit_is_named_after_everything_before_it(
    tmp_path: Path, request: pytest.FixtureRequest, text: str, place: str, cut: bool
) -> None:
    if cut:
        request.getfixturevalue("small_blocks")
    path = tmp_path / "a.csv"
    path.write_text(text)
    events, error, position = until_error(csv(path))
    assert events == [{"a": "1", "b": "2\n2"}]
    assert isinstance(error, ValueError)
    assert f"{path}, {place}" in str(error)
    with pytest.raises(ValueError, match="line 4"):
        everything(csv(path), position=position)


def test_a_header_with_a_name_twice_and_undecodable_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\na,a\n1,2\n")
    assert "line 2: the header has the same name twice" in str(until_error(csv(path))[1])
    path.write_bytes(b"a,b\n1,2\n\xff,2\n")
    events, error, _ = until_error(csv(path))
    assert (events, "line 3: it is not utf-8" in str(error)) == ([{"a": "1", "b": "2"}], True)


def test_the_field_limit_of_the_caller_travels_with_the_source(tmp_path: Path) -> None:
    path, before = tmp_path / "a.csv", stdlib_csv.field_size_limit()
    rows = [{"a": "x" * (before + 1)}]
    written(csv(path), rows)
    assert "raise csv.field_size_limit" in str(until_error(csv(path))[1])
    try:
        stdlib_csv.field_size_limit(2 * before)
        source = pickle.dumps(csv(path))
        stdlib_csv.field_size_limit(before)
        assert everything(pickle.loads(source)) == rows
    finally:
        stdlib_csv.field_size_limit(before)


def test_values_are_written_as_their_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    first = [{"a": 1, "b": None, "c": date(2000, 1, 2)}, {"c": 1.5, "b": True, "a": ""}]
    written(csv(path), first, [{"a": 0, "b": 0, "c": 0}])
    assert path.read_bytes() == b"a,b,c\r\n1,,2000-01-02\r\n,True,1.5\r\n0,0,0\r\n"


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (5, "the event is an int"),
        ({"a": 1}, r"differ in \['b'\]"),
        ({"a": 1, "b": 2, "c": 3}, r"differ in \['c'\]"),
        ({"a": 1, "b": [1]}, "field b is a list"),
        ({"a": 1, "b": b"1"}, "field b is a bytes"),
        ({"a": 1, "b": "\ud800"}, "half of a surrogate pair"),
    ],
)
def test_what_is_no_row_is_refused_at_its_place(tmp_path: Path, bad: Any, text: str) -> None:
    sink = csv(tmp_path / "a.csv")
    sink.open()
    with pytest.raises(BadEvent, match=text) as caught:
        sink.write(Batch([{"a": 1, "b": 2}, {"a": 3, "b": 4}, bad, {"a": 1, "b": 2}], list))
    assert caught.value.position == 2
    sink.abort()
    assert (tmp_path / "a.csv.partial").read_bytes() == b"a,b\r\n1,2\r\n3,4\r\n"


@pytest.mark.parametrize("bad", [{}, {1: 2}, []])
def test_a_first_event_that_gives_no_header_is_refused(tmp_path: Path, bad: Any) -> None:
    sink = csv(tmp_path / "a.csv")
    with pytest.raises(BadEvent) as caught:
        sink.write([bad])
    assert caught.value.position == 0
    sink.abort()
    assert (tmp_path / "a.csv.partial").read_bytes() == b""


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_appending_keeps_the_header_of_the_file(tmp_path: Path, suffix: str) -> None:
    sink = csv(tmp_path / f"a.csv{suffix}", append=True)
    written(sink, [{"a": "1", "b": "2"}])
    written(sink, [{"b": "4", "a": "3"}], [{"a": "5", "b": "6"}])
    assert everything(sink) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}, {"a": "5", "b": "6"}]
    sink.open()
    with pytest.raises(BadEvent, match=r"not those of the header \['a', 'b'\]"):
        sink.write([{"c": "1"}])
    sink.abort()


@pytest.mark.parametrize("delimiter", ["", ",,", "\n", '"', 5])
def test_a_delimiter_is_one_character(delimiter: Any) -> None:
    with pytest.raises(GraphError, match="delimiter"):
        csv("a", delimiter=delimiter)


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
