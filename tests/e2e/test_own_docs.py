"""The examples of docs/own.md run as they stand, as one script, and print what their comments say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "own.md").read_text()
SCRIPT = "".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def test_the_examples_run(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "own.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == re.findall(r"print\(.*  # (.*)$", SCRIPT, re.MULTILINE)


def test_a_missing_input_is_refused_as_the_example_says(tmp_path: Path) -> None:
    classes = SCRIPT[: SCRIPT.index("def checked(")]
    use = "graph = sw.Graph()\ngraph.source(Numbers('no.bin')).sink(Ledger('no.txt'))\nsw.run(graph)\n"
    (tmp_path / "own.py").write_text(classes + use)
    done = subprocess.run([sys.executable, "own.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.rstrip().endswith("GraphError: cannot read no.bin: there is no such file; correct the path")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.py"]
