"""Files of JSON lines: values come back equal, and what cannot be carried is named."""

from __future__ import annotations

import json
from collections import OrderedDict
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from file_events import everything, positions_agree, until_error, written
from hypothesis import given, settings
from hypothesis import strategies as st
from sluiceway.nodes.events import DeadLetter
from sluiceway.nodes.files.api import jsonl
from sluiceway.nodes.sinks import BadEvent, Batch

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
