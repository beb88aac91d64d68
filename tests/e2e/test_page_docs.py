"""The example of docs/page.md runs as it stands, and the page names every metric that there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from sluiceway.engine.page import metrics

PAGE = (Path(__file__).parents[2] / "docs" / "page.md").read_text()


def test_the_example_runs(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "served.py").write_text(example)
    done = subprocess.run([sys.executable, "served.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_metric_is_told() -> None:
    counters = {f"{name}_total" for name, *_ in (*metrics.COUNTERS, *metrics.NODE_COUNTERS)}
    gauges = {name for name, *_ in (*metrics.GAUGES, *metrics.NODE_GAUGES)}
    more = {"sluiceway_order_waited_seconds_total", "sluiceway_expected_events", "sluiceway_committed_number"}
    assert set(re.findall(r"`(sluiceway_\w+)`", PAGE)) == counters | gauges | more
