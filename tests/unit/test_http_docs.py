"""The page on HTTP keeps its word: its examples run as typed and print what stands under them."""

from __future__ import annotations

import re
from pathlib import Path

import penstock as ps
import pytest
from penstock.nodes.connectors import http as connector

PAGE = (Path(__file__).parents[2] / "docs" / "connectors" / "http.md").read_text()
EXAMPLES = re.findall(r"^```python run\n(.*?)^```\n+^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_examples_print_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("http_poll", "http_sink", "webhook"):
        monkeypatch.setattr(ps, name, getattr(connector, name), raising=False)
    assert len(EXAMPLES) == PAGE.count("```python run") == 2
    for code, printed in EXAMPLES:
        exec(compile(code, "example", "exec"), {"__name__": "example"})
        assert capsys.readouterr().out == printed
