"""Appending to a file: a last line without its end is ended first, whatever the file's form."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sluiceway.nodes.files.api import csv, jsonl, lines

PACK: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "iso2022_jp", "iso2022_kr", "hz", "cp932", "utf-7"]


def appended(sink: Any, events: list[Any]) -> None:
    sink.open()
    sink.write(events)
    sink.close()


def read(source: Any) -> list[Any]:
    reader, events = source.reader(None), []
    while (more := reader.read(100, 1 << 20)) is not None:
        events += more
    reader.close()
    return events


@pytest.mark.parametrize("suffix", list(PACK))
@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_lines_stay_apart(tmp_path: Path, suffix: str, end: str, encoding: str) -> None:
    path = tmp_path / f"a{suffix}"
    text = "one\nté" if encoding == "latin-1" else "one\n\uac00\ub098" if encoding == "iso2022_kr" else "one\nあ日"
    if encoding == "hz":
        text = "one\n中"
    path.write_bytes(PACK[suffix]((text + end).encode(encoding)))
    for _ in range(2):
        appended(lines(path, append=True, encoding=encoding), [text.partition("\n")[2], "three"])
    last = text.partition("\n")[2]
    assert read(lines(path, encoding=encoding)) == ["one", last, last, "three", last, "three"]


@pytest.mark.parametrize("suffix", list(PACK))
def test_values_and_rows_stay_apart(tmp_path: Path, suffix: str) -> None:
    values, rows = tmp_path / f"a.jsonl{suffix}", tmp_path / f"a.csv{suffix}"
    values.write_bytes(PACK[suffix](b'{"a":1}'))
    appended(jsonl(values, append=True), [{"a": 2}])
    assert read(jsonl(values)) == [{"a": 1}, {"a": 2}]
    rows.write_bytes(PACK[suffix](b"a,b\r\n1,2"))
    appended(csv(rows, append=True), [{"a": 3, "b": 4}])
    assert read(csv(rows)) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_nothing_is_appended_behind_damage(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(damaged := PACK[suffix](b"one\n")[:-3])
    with pytest.raises(OSError, match=r"cannot append to .*ends too early; repair the file"):
        lines(path, append=True).open()
    assert path.read_bytes() == damaged


def test_a_stream_is_added_behind_zeros_only_where_it_is_read_there(tmp_path: Path) -> None:
    padded = tmp_path / "a.gz"
    padded.write_bytes(gzip.compress(b"one\n") + bytes(512))
    with pytest.raises(OSError, match=r"cannot append to .*: zeros stand behind its last gzip stream"):
        lines(padded, append=True).open()
    assert read(lines(padded)) == ["one"]
    other = tmp_path / "a.xz"
    other.write_bytes(lzma.compress(b"one\n") + bytes(4))
    appended(lines(other, append=True), ["two"])
    assert read(lines(other)) == ["one", "two"]


@pytest.mark.parametrize("suffix", list(PACK))
def test_a_run_without_events_leaves_a_file_that_can_be_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    for _ in range(2):
        appended(lines(path, append=True), [])
        assert read(lines(path)) == []
    appended(lines(path, append=True), ["one"])
    assert read(lines(path)) == ["one"]


def test_settings_say_how_a_file_is_read_and_written() -> None:
    assert lines("a", encoding="UTF8").settings() == lines("b", encoding="utf-8").settings()
    assert csv("a", delimiter=";").settings() != csv("a").settings()
    assert lines("a", keep_newline=True).settings() != lines("a").settings()
    ends = [lines("a"), jsonl("a"), csv("a"), lines("a", append=True), lines("a", encoding="cp1252")]
    different = [end.settings() for end in ends]
    assert all(one != other for at, one in enumerate(different) for other in different[:at])
