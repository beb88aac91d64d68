"""The page on files keeps its word: its examples run as typed and print what stands under them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from penstock.nodes import members

PAGE = (Path(__file__).parents[2] / "docs" / "connectors" / "files.md").read_text()
EXAMPLES = re.findall(r"^```python run\n(.*?)^```\n+^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_examples_print_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(EXAMPLES) == PAGE.count("```python run") == 2
    for code, printed in EXAMPLES:
        exec(compile(code, "example", "exec"), {"__name__": "example"})
        assert capsys.readouterr().out == printed


def test_the_sizes_are_those_of_the_page() -> None:
    assert "512 KiB for gzip, 900 kB for bzip2, 2 MiB for xz" in PAGE
    assert members.MEMBER_BYTES == {".gz": 512 << 10, ".bz2": 900_000, ".xz": 2 << 20}
