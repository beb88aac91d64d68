"""The examples of the pages in `docs/connectors`: blocks marked `run`, each with what it prints under it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

_DOCS = Path(__file__).parents[1] / "docs"
_EXAMPLE = re.compile(r"^```python run\n(.*?)^```\n+^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read_page(name: str) -> str:
    """Return the text of the page of a connector."""
    return (_DOCS / "connectors" / f"{name}.md").read_text()


def check_examples(
    name: str, count: int, capsys: pytest.CaptureFixture[str], *, server: tuple[str, str] | None = None
) -> None:
    """Run the examples of a page as typed, and assert that each prints what stands under it.

    `count` is how many there are; `server` is a server as the page names it, and the one to use instead. Where there is
    one the examples are one session, each going on from the one above; else each stands for itself.
    """
    check_page(read_page(name), count, capsys, server=server)


def check_page(
    page: str, count: int, capsys: pytest.CaptureFixture[str], *, server: tuple[str, str] | None = None
) -> None:
    """Do so for the text of a page; see `check_examples`."""
    examples = _EXAMPLE.findall(page)
    assert len(examples) == page.count("```python run") == count
    names: dict[str, Any] = {}
    for code, printed in examples:
        if server is None:
            names = {}
        else:
            code = code.replace(*server)
        names["__name__"] = "example"
        exec(compile(code, "example", "exec"), names)
        assert capsys.readouterr().out == printed
