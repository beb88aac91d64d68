"""No text of the tree tells anybody to install from an index what is not ours: sluiceway is not published there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAME = "sluiceway"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: The extra `dev` refers to others of its own project, which pip answers with the folder that it installs.
OWN = re.compile(rf'^    "{NAME}\[[a-z,]+\]",$')

#: What a package manager is told to install, up to the end of the line or of the code that it stands in.
COMMAND = re.compile(r"\b(?:pip3?|pipx|uv|poetry|conda|pixi)\s+(?:tool\s+)?(?:install|add)\s+([^`\n]*)")
REQUIREMENT = re.compile(rf"{NAME}(?:$|[\[<>=!~@;,])")
PROSE = re.compile(rf"\binstall\s+`?{NAME}\b|\b{NAME}\[", re.I)


def texts() -> list[Path]:
    """Return every text of the tree that people or programs read, without what was made here."""
    found = [ROOT / "Makefile"]
    for suffix in ("*.py", "*.md", "*.toml"):
        found += ROOT.rglob(suffix)
    made = {"build", "out", "node_modules"}
    return sorted(
        path
        for path in found
        if not any(part.startswith(".") or part in made for part in path.relative_to(ROOT).parts)
        and path != Path(__file__)
    )


def wrong(line: str) -> bool:
    """Whether a line names the project as something to get from an index."""
    command = COMMAND.search(line)
    words = [word.strip("\"'`.,()") for word in command[1].split()] if command else []
    return any(REQUIREMENT.match(word) for word in words) or bool(PROSE.search(line))


@pytest.mark.parametrize(
    "line",
    [
        f"pip install {NAME}",
        f"`pip install '{NAME}[kafka]'` brings it",
        f"python -m pip install -U {NAME}==1.0",
        f"uv add {NAME}",
        f"kafka is not installed; install {NAME}[kafka]",
        f'f"install {NAME}[{{extra}}]"',
        f"Install {NAME} first.",
    ],
)
def test_a_line_that_names_an_index_is_found(line: str) -> None:
    assert wrong(line)


@pytest.mark.parametrize("line", ["pip install .", "pip install '.[kafka]'", f"pip install -e /tmp/{NAME}", f"import {NAME}"])
def test_lines_for_a_clone_are_fine(line: str) -> None:
    assert not wrong(line)


def test_nobody_is_sent_to_an_index() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in texts()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if wrong(line) and not (path.name == "pyproject.toml" and OWN.match(line))
    ]
    assert found == []


def test_the_extras_that_texts_name_are_there() -> None:
    named = {
        extra
        for path in texts()
        for group in re.findall(r"'\.\[([a-z,]+)\]'", path.read_text())
        for extra in group.split(",")
    }
    needed = {
        extra
        for path in texts()
        for extra in re.findall(r'need\("[\w.]+", "(\w+)"', path.read_text())
    }
    assert {"http", "kafka", "redis", "sql"} <= named
    assert {"http", "kafka", "redis", "sql"} <= needed
    assert named | needed <= set(PROJECT["optional-dependencies"])
