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
#: What `sw` is in the samples: they are written against the package's public names.
PUBLIC = """
from sluiceway.graphs.builder.graph import Graph as Graph
from sluiceway.graphs.builder.streams import KeyedStream as KeyedStream, Stream as Stream, merge as merge, zip as zip
from sluiceway.nodes.events import DeadLetter as DeadLetter
from sluiceway.nodes.handlers import per_worker as per_worker
from sluiceway.nodes.state.windows import Window as Window, session as session, sliding as sliding, tumbling as tumbling
"""
#: Which of these codes mypy gives for a wrong argument depends on its version.
ARGUMENTS = ("arg-type", "call-arg", "call-overload")
_ERROR = re.compile(r"^(\w+)\.py:(\d+): error: (.*?)\s+\[([\w-]+)\]$")
_EXPECTED = re.compile(r"# E: ([\w-]+)$")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int, str], str]:
    """Run mypy once; give what it says about (sample, line, code)."""
    folder = tmp_path_factory.mktemp("mypy")
    # A link finds the package under its name, however it is installed.
    (folder / "sluiceway").symlink_to(Path(sluiceway.__file__).parent, target_is_directory=True)
    (folder / "public.py").write_text(PUBLIC)
    for sample in SAMPLES.glob("*.py"):
        (folder / sample.name).write_text(sample.read_text().replace("import sluiceway as sw", "import public as sw"))
    names = sorted(sample.name for sample in SAMPLES.glob("*.py"))
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unreachable", "--follow-imports=silent"]
    command += ["--config-file=", "--cache-dir=cache", "--no-error-summary", "--hide-error-context", *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode in (0, 1), done.stderr or done.stdout
    errors = {}
    for line in done.stdout.splitlines():
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
