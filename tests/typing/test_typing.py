"""mypy --strict infers users' pipelines and refuses their mistakes: one run of mypy over all samples."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import sluiceway

pytest.importorskip("mypy")

SAMPLES = Path(__file__).parent / "samples"
#: Which of these codes mypy gives for a wrong argument depends on its version.
ARGUMENTS = ("arg-type", "call-arg", "call-overload")
_ERROR = re.compile(r"^(\w+)\.py:(\d+): error: (.*?)\s+\[([\w-]+)\]$")
_EXPECTED = re.compile(r"# E: ([\w-]+)$")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Run mypy once over the samples and a file that reveals every public name; return its lines."""
    folder = tmp_path_factory.mktemp("mypy")
    # A link finds the package under its name, however it is installed.
    (folder / "sluiceway").symlink_to(Path(sluiceway.__file__).resolve().parent, target_is_directory=True)
    for sample in SAMPLES.glob("*.py"):
        (folder / sample.name).write_text(sample.read_text())
    revealed = "\n".join(f"reveal_type(sw.{name})" for name in sluiceway.__all__)
    (folder / "names.py").write_text(f"import sluiceway as sw\n{revealed}\n")
    names = sorted(sample.name for sample in folder.glob("*.py"))
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unreachable", "--follow-imports=silent"]
    command += ["--config-file=", "--cache-dir=cache", "--no-error-summary", "--hide-error-context", *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode in (0, 1), done.stderr or done.stdout
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def found(said: list[str]) -> dict[tuple[str, int, str], str]:
    """Return what mypy says about (sample, line, code)."""
    errors = {}
    for line in said:
        if ": note: " not in line:
            match = _ERROR.match(line)
            assert match is not None, line
            code = "arguments" if match[4] in ARGUMENTS else match[4]
            errors[(match[1], int(match[2]), code)] = match[3]
    return errors


def expected() -> set[tuple[str, int, str]]:
    marked = set()
    for sample in SAMPLES.glob("*.py"):
        for number, line in enumerate(sample.read_text().splitlines(), 1):
            if match := _EXPECTED.search(line):
                marked.add((sample.stem, number, match[1]))
    return marked


def test_right_pipelines_are_inferred(found: dict[tuple[str, int, str], str]) -> None:
    unexpected = {place: text for place, text in found.items() if place not in expected()}
    assert unexpected == {}


def test_mistakes_are_refused(found: dict[tuple[str, int, str], str]) -> None:
    marked = expected()
    assert len(marked) > 20
    assert marked - found.keys() == set()


def test_every_public_name_has_a_type(said: list[str]) -> None:
    revealed = [line for line in said if line.startswith("names.py:") and "Revealed type is" in line]
    assert len(revealed) >= len(sluiceway.__all__) > 50  # an overloaded function takes several lines
    assert [line for line in revealed if line.endswith('"Any"')] == []
