"""JSON is read and written as Python's json does, whatever does the work."""

from __future__ import annotations

import datetime
import enum
import json
import math
import re
import uuid
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import pytest
import sluiceway as sw
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sluiceway.nodes.files.json_text import ENCODER, LineParser, line_of, lines_of
from sluiceway.nodes.sinks import BadEvent

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4), max_leaves=20
)


_ANY = LineParser()


def _outcome(call: Any, *args: Any) -> Any:
    """Return a value with the types inside it, or that it is refused."""
    try:
        made = repr(call(*args))
        return "refused" if re.search(r"\binf\b", made) and "nfinity" not in args[0] else made
    except (ValueError, RecursionError):
        return "refused"


@given(value=_VALUES, ascii_only=st.booleans())
def test_what_json_writes_is_read_as_json_reads_it(value: Any, ascii_only: bool) -> None:
    line = json.dumps(value, ensure_ascii=ascii_only)
    assert _outcome(_ANY.value, line) == _outcome(json.loads, line)
    values = _ANY.values([line, line])
    assert values is None or repr(values) == repr([json.loads(line)] * 2)


@given(line=st.text(st.sampled_from('{}[]",:0123456789.eE+-\\u dD8nulltruefalseNaIinfty/ \t"'), max_size=14))
@example("-0")
@example("1e400")
@example("[1,]")
@example('"\\ud800"')
@example('{"a":1,"a":2}')
@example("1" * 5000)
@example("[" * 2000 + "]" * 2000)
@example("\x0b1")
@example("\ufeff1")
@example("NaN")
@settings(max_examples=500)
def test_any_text_is_read_or_refused_as_json_does(line: str) -> None:
    assert _outcome(_ANY.value, line) == _outcome(json.loads, line)
    values = _ANY.values([line])
    assert values is None or repr(values[0]) == _outcome(json.loads, line)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_million_floats_are_read_exactly(seed: int) -> None:
    import random
    import struct

    draw = random.Random(seed)
    lines = []
    while len(lines) < 250_000:
        (number,) = struct.unpack("<d", draw.randbytes(8))
        if math.isfinite(number):
            lines.append(draw.choice([repr(number), f"{number:.25e}", f"{number:.17g}"]))
    values = _ANY.values(lines)
    assert values is not None
    assert list(map(repr, values)) == [repr(json.loads(line)) for line in lines]


@given(events=st.lists(_VALUES, max_size=3))
@example([1e16, 1e22, 5e-324, -0.0, 123456789.123456789])
@example([2**63, 2**64, -(2**63) - 1, 2**70])
@example([{"a": None}, (1, (2,)), {"é": "\u2028\x7f\x00/\\"}])
def test_what_is_written_is_read_back_and_depends_on_the_event_alone(events: list[Any]) -> None:
    try:
        expected = [json.loads(ENCODER.encode(event)) for event in events]
    except ValueError:
        assert lines_of(events) is None
        return
    lines = lines_of(events)
    each = [line_of(event) for event in events]
    if lines is None:
        assert None in each
        return
    assert lines == b"".join([line or b"" for line in each])
    assert [repr(json.loads(line)) for line in lines.split(b"\n")[:-1]] == [repr(value) for value in expected]


def test_records_are_written_at_once() -> None:
    events = [{"id": 2**63, "user": "ada", "ok": True, "none": None, "x": -0.5, "tags": ["a", ("b", 1)]}, 3, "\u00e9"]
    assert lines_of(events) == "".join(ENCODER.encode(event) + "\n" for event in events).encode()


class _Kind(enum.Enum):
    ONE = "one"


class _Number(enum.IntEnum):
    ONE = 1


class _Text(str):
    __slots__ = ()


class _Float(float):
    __slots__ = ()


@dataclass
class _Data:
    a: int = 1


class _Struct(msgspec.Struct):
    a: int = 1


_Pair = namedtuple("_Pair", "a b")


@pytest.mark.parametrize(
    "event",
    [
        math.nan,
        [-math.inf],
        {"a": [math.inf]},
        _Kind.ONE,
        {"a": _Kind.ONE},
        uuid.UUID(int=1),
        datetime.datetime(2026, 1, 1),
        datetime.date(2026, 1, 1),
        datetime.time(1),
        b"bytes",
        bytearray(b"x"),
        memoryview(b"x"),
        {1, 2},
        frozenset({1}),
        _Data(),
        _Struct(),
        {1: 2},
        {None: 2},
        {_Kind.ONE: 1},
        1j,
        object(),
        range(3),
    ],
)
def test_what_json_cannot_carry_is_refused(event: Any, tmp_path: Path) -> None:
    assert lines_of([1, event]) is None
    sink = sw.jsonl(str(tmp_path / "out.jsonl"))
    sink.open()
    with pytest.raises(BadEvent):
        sink.write([1, event])
    sink.close()
    assert (tmp_path / "out.jsonl").read_text() == "1\n"


@pytest.mark.parametrize("event", [_Number.ONE, _Text("a"), _Float(1.5), _Pair(1, 2), {_Text("a"): 1}, True, "\ud800", 2**80])
def test_subclasses_are_written_as_json_writes_them(event: Any, tmp_path: Path) -> None:
    sink = sw.jsonl(str(tmp_path / "out.jsonl"))
    sink.open()
    sink.write([event])
    sink.close()
    assert json.loads((tmp_path / "out.jsonl").read_text()) == json.loads(json.dumps(event))


class _Login(TypedDict):
    user: str
    count: int


@dataclass
class _Event:
    user: str
    at: datetime.datetime
    kind: _Kind = _Kind.ONE


def _read(path: Path, text: str, type_: Any) -> list[Any]:
    path.write_text(text)
    return list(sw.iterate(sw.Graph().source(sw.jsonl(str(path), type=type_))))


def test_events_of_a_type(tmp_path: Path) -> None:
    text = '{"user": "ada", "at": "2026-01-01T00:00:00", "kind": "one"}\n\n{"user": "bob", "at": "2026-01-02T00:00:00"}\n'
    events = _read(tmp_path / "in.jsonl", text, _Event)
    assert events == [_Event("ada", datetime.datetime(2026, 1, 1)), _Event("bob", datetime.datetime(2026, 1, 2))]
    assert _read(tmp_path / "in.jsonl", '{"user": "ada", "count": 3, "more": NaN}\n', _Login) == [{"user": "ada", "count": 3}]


def test_a_type_of_a_function_goes_to_the_process_that_reads(tmp_path: Path) -> None:
    @dataclass
    class Local:
        user: str

    path = tmp_path / "in.jsonl"
    path.write_text('{"user": "ada"}\n{"user": "bob"}\n')
    stream = sw.Graph().source(sw.jsonl(str(path), type=Local)).map(lambda event: event.user.upper())
    assert list(sw.iterate(stream, workers=1)) == ["ADA", "BOB"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"user": "ada", "count": "three"}', r"line 2: it is no _Login \(Expected `int`, got `str` - at `\$.count`\)"),
        ('{"user": "ada"}', r"line 2: it is no _Login \(Object missing required field `count`\)"),
        ("[1", "line 2: it is no _Login"),
    ],
)
def test_a_line_that_does_not_fit_is_named_with_its_field(line: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(sw.SourceError, match=reason):
        _read(tmp_path / "in.jsonl", '{"user": "ada", "count": 1}\n' + line + "\n", _Login)


def test_a_text_repeats_no_value(tmp_path: Path) -> None:
    with pytest.raises(sw.SourceError, match="Invalid enum value - at") as caught:
        _read(tmp_path / "in.jsonl", '{"user": "ada", "at": "2026-01-01T00:00:00", "kind": "secret"}\n', _Event)
    assert "secret" not in str(caught.value)


def test_a_type_that_json_cannot_be_checked_by_is_refused() -> None:
    with pytest.raises(sw.GraphError, match=r"type=.* is no type that JSON can be checked by"):
        sw.jsonl("in.jsonl", type=dict[int | str, list[int] | set[int]])


def test_typed_values_of_many_lines() -> None:
    parser = LineParser(int)
    assert parser.values(["1", "2"]) == [1, 2]
    assert parser.values(["1", '"2"']) is None
    assert parser.value("3") == 3
