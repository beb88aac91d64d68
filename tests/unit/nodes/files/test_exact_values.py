"""What is written to a file is read back equal, or it was refused: nothing is changed without a word."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import fractions
import json
import math
import pathlib
import tempfile
import uuid
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sluiceway.nodes.files.api import csv, jsonl, lines
from sluiceway.nodes.sinks import BadEvent

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NASTY = st.text(st.sampled_from("a\"',;\t\r\n \ufeff\0\u2028\x85\x0c#\\")) | TEXT
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class Level(enum.IntEnum):
    """An int of another class."""

    HIGH = 3


class Colour(str, enum.Enum):  # noqa: UP042 - its str() is not its text
    """A text of another class, whose `str` is another text."""

    RED = "red"


class Plain(enum.Enum):
    """Nothing but names."""

    ONE = 1


class Thing:
    """Shows an address."""


def write(sink: Any, events: list[Any]) -> None:
    sink.open()
    try:
        sink.write(events)
    except BaseException:
        sink.abort()
        raise
    sink.close()


def read(source: Any) -> list[Any]:
    reader, events = source.reader(None), []
    while (more := reader.read(100, 1 << 20)) is not None:
        events += more
    reader.close()
    return events


@settings(deadline=None)
@given(
    st.lists(NASTY, min_size=1, max_size=4, unique=True),
    st.lists(st.lists(NASTY | st.none(), min_size=4, max_size=4), min_size=1, max_size=5),
    st.sampled_from(",;\t| é"),
    st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]),
)
@example(["\ufeffa"], [["\ufeffb"] * 4], ",", "utf-8")
@example(["a"], [[""] * 4, [None] * 4], ",", "utf-8")
def test_rows(names: list[str], values: list[list[str | None]], delimiter: str, encoding: str) -> None:
    rows = [dict(zip(names, row)) for row in values]  # noqa: B905 - as many as there are names
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        write(csv(path, delimiter=delimiter, encoding=encoding), rows)
        found = read(csv(path, delimiter=delimiter, encoding=encoding))
    assert found == [{name: value or "" for name, value in row.items()} for row in rows]


@settings(deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=5))
def test_values(values: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        write(jsonl(path), values)
        assert read(jsonl(path)) == values
        assert list(map(repr, read(jsonl(path)))) == list(map(repr, values))


@settings(deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=5), st.sampled_from(["utf-8", "utf-16-le", "latin-1"]))
def test_texts(texts: list[str], encoding: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        taken = 0
        try:
            write(lines(path, encoding=encoding), texts)
            taken = len(texts)
        except BadEvent as error:
            taken = error.position
            path = path.with_name("a.partial")
        assert read(lines(path, encoding=encoding)) == texts[:taken]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "True"), (5, "5"), (1e22, "1e+22"), (0.1 + 0.2, "0.30000000000000004"), (None, ""), (math.nan, "nan"),
        (Level.HIGH, "3"), (Colour.RED, "red"), (10**30, "1" + "0" * 30), (decimal.Decimal("1.50"), "1.50"),
        (fractions.Fraction(1, 3), "1/3"), (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (dt.date(2024, 1, 2), "2024-01-02"), (dt.time(1, 2), "01:02:00"), (dt.timedelta(1, 2), "1 day, 0:00:02"),
        (dt.datetime(2024, 1, 2, tzinfo=dt.UTC), "2024-01-02 00:00:00+00:00"), (pathlib.PurePosixPath("/a"), "/a"),
        (numpy.int64(5), "5"), (numpy.float64(1.5), "1.5"), (numpy.float32(0.1), "0.1"), (numpy.bool_(True), "True"),
        (numpy.str_("a"), "a"), (numpy.datetime64("2024-01-02"), "2024-01-02"),
    ],
)  # fmt: skip
def test_a_field_is_the_text_that_says_all_of_it(tmp_path: Path, value: Any, text: str) -> None:
    write(csv(tmp_path / "a.csv"), [{"a": value, "b": 1}])
    assert read(csv(tmp_path / "a.csv")) == [{"a": text, "b": "1"}]


@pytest.mark.parametrize(
    "value",
    [
        [1], (1,), {"a": 1}, {1}, frozenset(), b"a", bytearray(b"a"), memoryview(b"a"), Thing(), object, Plain.ONE, range(3),
        numpy.arange(3), numpy.array(5), numpy.bytes_(b"a"), numpy.void(b"a"), collections.deque([1]), iter([]), dict.keys({}),
        len, "\ud800",
    ],
)  # fmt: skip
def test_what_no_field_says_whole_is_refused_by_its_name(tmp_path: Path, value: Any) -> None:
    with pytest.raises(BadEvent, match=r"field value is .*, which is no single field|half of a surrogate pair") as caught:
        write(csv(tmp_path / "a.csv"), [{"value": 1}, {"value": value}])
    assert caught.value.position == 1
    assert read(csv(tmp_path / "a.csv.partial")) == [{"value": "1"}]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (numpy.int64(-5), -5), (numpy.uint64(2**64 - 1), 2**64 - 1), (numpy.int8(5), 5), (numpy.float64(1.5), 1.5),
        (numpy.float32(0.1), float(numpy.float32(0.1))), (numpy.float16(0.5), 0.5), (numpy.bool_(False), False),
        (numpy.str_("a"), "a"), (Level.HIGH, 3), (Colour.RED, "red"), ((1, (2,)), [1, [2]]), ("\ud800", "\ud800"),
        (10**30, 10**30), (collections.OrderedDict(a=1), {"a": 1}),
    ],
)  # fmt: skip
def test_json_carries_what_a_value_is_equal_to(tmp_path: Path, value: Any, plain: Any) -> None:
    for event in (value, {"a": [value]}):
        write(jsonl(tmp_path / "a.jsonl"), [event, {"b": 1}])
        found = read(jsonl(tmp_path / "a.jsonl"))
        assert found == [plain if event is value else {"a": [plain]}, {"b": 1}]
        assert type(found[1]) is dict


@pytest.mark.parametrize(
    "value",
    [
        math.nan, -math.inf, numpy.float64("nan"), numpy.float32("inf"), numpy.datetime64("2024-01-02"), numpy.arange(2),
        numpy.complex128(1), numpy.bytes_(b"a"), {1: 2}, {None: 1}, {True: 1}, {(1,): 2}, {1}, b"a", dt.date(2024, 1, 2),
        decimal.Decimal(1), Thing(), Plain.ONE, {numpy.int64(1): 2}, dt.timedelta(1), uuid.UUID(int=1), 1j,
    ],
)  # fmt: skip
def test_what_json_cannot_carry_is_refused_by_its_place(tmp_path: Path, value: Any) -> None:
    with pytest.raises(BadEvent, match=r"a\[1\]|a key of ") as caught:
        write(jsonl(tmp_path / "a.jsonl"), [1, {"a": [0, value]}])
    assert caught.value.position == 1
    assert read(jsonl(tmp_path / "a.jsonl.partial")) == [1]


@pytest.mark.parametrize("number", ["1e999", "-1E+400", "1" * 400 + ".0", "1" * 280 + "e50", "123e308"])
@pytest.mark.parametrize("around", ["%s", '{"a": [%s]}', '  {"a": [%s]} ', '{"text": "' + "x" * 2000 + '", "a": %s}'])
def test_a_number_too_large_for_a_float_is_refused_by_its_line(tmp_path: Path, number: str, around: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("1\n" + around % number + "\n")
    reader = jsonl(path).reader(None)
    assert reader.read(10, 1 << 20) == [1]
    with pytest.raises(ValueError, match=r"line 2: it is not one JSON value \(a number is too large for a float\)"):
        reader.read(10, 1 << 20)
    reader.close()


def test_large_numbers_that_floats_and_ints_hold_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    numbers = ["1e308", "1.7976931348623157e308", "1e-400", "9" * 400, "NaN", "Infinity"]
    texts = [f'["{"x" * 1500}", "e999", {number}]' for number in numbers]
    path.write_text("".join(f"{text}\n" for text in texts))
    assert repr(read(jsonl(path))) == repr([json.loads(text) for text in texts])
