"""A folder with graphs for the command line, and the command line itself."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FLOW = '''
from __future__ import annotations
import datetime
import itertools
from decimal import Decimal
from enum import Enum
import sys
from pathlib import Path
from typing import Literal
import sluiceway as sw
from flow_helper import double

class Level(Enum):
    LOW = 1
    HIGH = 2

def build(out: Path, n: int = 10, fail_at: int | None = None, form: Literal["plain", "signed"] = "plain") -> sw.Graph:
    def show(event: int) -> str:
        if event == fail_at:
            raise ValueError("unlucky\\nsecond line")
        return f"{event:+}" if form == "signed" else str(event)
    graph = sw.Graph("flow")
    graph.source(range(n)).map(double).map(show).sink(sw.lines(out))
    return graph

def copy() -> sw.Graph:
    graph = sw.Graph("copy")
    graph.source(sw.lines("-")).map(str.upper).sink(sw.lines("-"))
    return graph

def endless() -> sw.Graph:
    graph = sw.Graph("endless")
    graph.source(itertools.count).map(double).map(str).sink(sw.lines("-"))
    return graph

def raising() -> sw.Graph:
    raise OSError("no such thing")

def leaving() -> sw.Graph:
    sys.exit(3)

def wrong() -> int:
    return 3

def dated(when: datetime.date, price: Decimal = Decimal("1.5"), level: Level = Level.LOW) -> sw.Graph:
    "Show what was given."
    graph = sw.Graph("dated")
    graph.source([(when, price, level.name)]).sink(print)
    return graph

def unwired() -> sw.Graph:
    return sw.Graph("unwired")

ready = sw.Graph("ready")
ready.source(range(4)).sink(print)
number = 3
'''
HELPER = "def double(event):\n    return 2 * event\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a working folder with a module, and forget afterwards what was imported from it."""
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "flow_helper.py").write_text(HELPER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before, log = set(sys.modules), logging.getLogger()
    level, handlers = log.level, log.handlers[:]
    yield tmp_path
    log.setLevel(level)  # a command line sets up the log of its process
    log.handlers[:] = handlers
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that was written to standard error."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("sluiceway: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("sluiceway: ").rstrip("\n")
