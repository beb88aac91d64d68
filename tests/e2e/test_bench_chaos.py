"""A small run of the chaos bench: workers are really killed, and what is written stays the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).parents[2] / "bench" / "chaos.py"

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "pidfd_send_signal"), reason="needs Linux' descriptors of processes"
)


def test_killed_workers_change_nothing(tmp_path: Path) -> None:
    words = ["--tiny", "--events", "20000", "--work-us", "30", "--every-ms", "50"]
    done = subprocess.run(
        [sys.executable, str(CHAOS), *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"SLUICEWAY_BENCH_OUT": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    speed, fire, lost = (table["rows"] for table in json.loads((tmp_path / "chaos.json").read_text())["tables"])
    assert [row["run"] for row in speed] == ["inline", "undisturbed", "under fire"]
    assert all(row["events"] == 20_000 for row in speed)
    (deaths,) = fire
    assert 3 <= deaths["deaths seen"] <= deaths["kills"]
    assert 0 < deaths["median ms"] <= deaths["p99 ms"]
    assert deaths["handed out again"] > 0
    assert [row["same"] for row in lost] == [True]
