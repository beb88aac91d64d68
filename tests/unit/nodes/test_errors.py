"""How error texts name the type of a value."""

from __future__ import annotations

import ast
import re
import uuid
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sluiceway.nodes.errors import kind_of, with_article

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "an int"), (None, "None"), ({}, "a dict"), (object(), "an object"), (Fraction(1), "a Fraction"),
        (uuid.uuid4(), "a UUID"), (np.zeros(1), "an ndarray"), (np.uint8(1), "a uint8"), (..., "an ellipsis"),
    ],
)  # fmt: skip
def test_a_type_is_said_with_its_article(value: Any, said: str) -> None:
    assert kind_of(value) == said


def test_a_name_is_said_with_its_article() -> None:
    assert [with_article(name) for name in ("int", "str", "OSError", "")] == ["an int", "a str", "an OSError", "a "]


def test_no_text_puts_an_article_before_a_name_that_it_does_not_know() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for layer in ("nodes", "graphs", "engine")
        for path in (ROOT / layer).rglob("*.py")
        for found in re.finditer(r"\ban? \{[^}]*(__name__|type_)[^}]*\}", path.read_text())
    ]
    assert wrong == []


def told(node: ast.expr) -> str:
    """Return the text of a literal, with {} for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_errors_begin_in_lower_case_and_end_without_a_full_stop() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {text}"
        for layer in ("nodes", "graphs", "engine")
        for path in (ROOT / layer).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args
        for text in [told(node.exc.args[0])]
        if re.match(r"[A-Z][a-z]+ ", text) or re.search(r"[^.]\.$", text)
    ]
    assert wrong == []
