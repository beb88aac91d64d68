"""The README keeps its word: every block marked `run` is run as a reader would type it, in the order of the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
_BLOCK = re.compile(r"^```(\w+)( run)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block of code of the README."""

    language: str
    runs: bool
    text: str


def blocks() -> list[Block]:
    return [Block(language, bool(run), text) for language, run, text in _BLOCK.findall(README.read_text())]


def run(block: Block, folder: Path) -> str:
    """Run a block in a folder and give what it printed; it must succeed."""
    script = folder / ("typed.py" if block.language == "python" else "typed.sh")
    script.write_text(block.text)
    command = [sys.executable, script.name] if block.language == "python" else ["bash", "-e", script.name]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=100, check=False
    )
    script.unlink()
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Run all blocks in one folder; give the folder and what each printed."""
    folder = tmp_path_factory.mktemp("readme")
    return folder, [run(block, folder) for block in blocks() if block.runs]


def test_every_python_block_is_run() -> None:
    assert [block.text for block in blocks() if block.language == "python" and not block.runs] == []
    assert sum(block.runs for block in blocks()) >= 7


def test_the_first_example_is_short() -> None:
    first = next(block for block in blocks() if block.language == "python")
    assert len(first.text.splitlines()) <= 15


def test_the_first_example_does_what_the_page_says(printed: tuple[Path, list[str]]) -> None:
    folder, told = printed
    assert told[0].startswith("access.log.gz: 100,000 events, 15,160 logins, 100 malformed lines")
    assert told[1].startswith("logins: 100,000 events in, 15,160 out in ")
    assert len((folder / "logins.jsonl").read_text().splitlines()) == 15_160
    assert len((folder / "rejected.jsonl").read_text().splitlines()) == 100


@pytest.mark.parametrize(
    ("word", "lines"),
    [
        (
            "sw.zip(",
            ["(20.5, 68.9)", """(1, "ValueError: could not convert string to float: 'broken'")""", "(18.0, 64.4)"],
        ),
        ("sw.iterate(", ["closed"]),
        ("sw.per_worker(", [str(3 * n) for n in range(10)]),
        ("graph.sequence(", ["20", "25", "32", "42"]),
    ],
)
def test_examples_print_what_their_comments_say(
    printed: tuple[Path, list[str]], word: str, lines: list[str]
) -> None:
    runnable = [block for block in blocks() if block.runs]
    (at,) = [at for at, block in enumerate(runnable) if block.language == "python" and word in block.text]
    assert printed[1][at].splitlines() == lines
