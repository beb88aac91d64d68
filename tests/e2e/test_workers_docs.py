"""The examples of docs/workers.md run as they stand, each as a script."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "workers.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 4


@pytest.mark.parametrize("example", EXAMPLES, ids=["setup", "model", "total", "loguru"])
def test_an_example_runs(example: str, tmp_path: Path) -> None:
    assert "assert" in example
    script = tmp_path / "example.py"
    script.write_text(example)
    subprocess.run([sys.executable, str(script)], check=True, timeout=100, cwd=tmp_path)


def test_the_recipe_for_coverage(tmp_path: Path) -> None:
    [recipe] = re.findall(r"^```ini\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / ".coveragerc").write_text(recipe)
    (tmp_path / "hand.py").write_text("def work(n):\n    if n % 2:\n        return n\n    return -n\n")
    script = "import sluiceway as sw\nfrom hand import work\nprint(list(sw.imap(work, range(6), workers=2)))\n"
    (tmp_path / "script.py").write_text(script)
    for words in ["run", "script.py"], ["combine", "-q"], ["json", "-q"]:
        subprocess.run([sys.executable, "-m", "coverage", *words], check=True, timeout=100, cwd=tmp_path)
    files = json.loads((tmp_path / "coverage.json").read_text())["files"]
    assert files["hand.py"]["summary"]["percent_covered"] == 100
