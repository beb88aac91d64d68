"""JSON from outside: what is taken is what `json` reads, and no text of a stranger can hurt the process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sluiceway.nodes.json_values import parsed

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from('[]{}"\\'))
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=30)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(VALUES, st.booleans(), st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]))
def test_what_is_not_too_deep_is_read_as_it_is(value: Any, plain: bool, encoding: str) -> None:
    body = json.dumps(value, ensure_ascii=plain).encode(encoding)
    assert repr(parsed(body, max(depth_of(value), 1))) == repr(value)
    if depth_of(value) > 1:
        with pytest.raises(ValueError, match="nested more than"):
            parsed(body, depth_of(value) - 1)


@given(st.binary() | st.text(st.sampled_from('[]{}",:\\ 1ae')).map(str.encode))
def test_whatever_comes_is_a_value_or_refused(body: bytes) -> None:
    said = ""
    try:
        value = parsed(body, 5)
    except ValueError as error:
        said = str(error)
    assert said or value == json.loads(body)
    assert len(said) < 100


DEEP = """
import sys
from sluiceway.nodes.json_values import parsed
sys.setrecursionlimit(10**7)
for body in (b"[" * 10**6, b'{"a":' * 10**6, b'"' + b"[" * 10**6 + b'"', b'"' * 10**6, b"\\\\" * 10**6, b'"\\\\' * 10**6):
    try:
        print(type(parsed(body, 64)).__name__)
    except ValueError as error:
        print(error)
"""


def test_a_high_limit_of_recursion_lets_nobody_overflow_the_stack() -> None:
    done = subprocess.run([sys.executable, "-c", DEEP], capture_output=True, text=True, timeout=60, check=False)
    deep, no = "values are nested more than 64 deep", "the body is not JSON"
    assert done.stdout.splitlines() == [deep, deep, "str", no, no, no]
    assert done.returncode == 0
