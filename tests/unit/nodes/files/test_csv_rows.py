"""Files of CSV rows: rows come back equal, headers, and rows that do not fit."""

from __future__ import annotations

import csv as stdlib_csv
import pickle
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from file_events import everything, positions_agree, small_blocks, until_error, written
from hypothesis import given, settings
from hypothesis import strategies as st
from sluiceway.nodes.errors import GraphError
from sluiceway.nodes.files import line_blocks
from sluiceway.nodes.files.api import csv
from sluiceway.nodes.sinks import BadEvent, Batch

__all__ = ["small_blocks"]

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
