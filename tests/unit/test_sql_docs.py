"""The page on SQL databases keeps its word: its examples run as typed and print what stands under them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import penstock as ps
import pytest
from penstock.nodes.connectors import sql as connector

PAGE = Path(__file__).parents[2] / "docs" / "connectors" / "sql.md"
_EXAMPLE = re.compile(r"^```python run\n(.*?)^```\n+^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_examples_print_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("sql", "sql_sink"):
        monkeypatch.setattr(ps, name, getattr(connector, name), raising=False)
    examples: list[Any] = _EXAMPLE.findall(PAGE.read_text())
    assert len(examples) == PAGE.read_text().count("```python run") == 3
    for code, printed in examples:
        exec(compile(code, "example", "exec"), {"__name__": "example"})
        assert capsys.readouterr().out == printed
