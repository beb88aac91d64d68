"""Files of lines as sinks: when a file appears, what is appended, and which texts are refused."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from file_events import everything, written
from sluiceway.nodes.errors import GraphError
from sluiceway.nodes.files.api import csv, jsonl, lines
from sluiceway.nodes.sinks import BadEvent, Batch

# standard input and output


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
