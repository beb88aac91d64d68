"""The examples of docs/services.md run as they stand, each as a script; the first is ended as a service is."""

from __future__ import annotations

import re
import select
import signal
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "services.md").read_text()
ENDS_WELL, OBSERVED = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_a_service_that_is_sent_sigterm_ends_well(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(ENDS_WELL)
    words = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    with subprocess.Popen([sys.executable, "service.py"], **words) as process:  # type: ignore[call-overload]
        assert select.select([process.stdout], [], [], 60)[0]
        assert process.stdout.readline() == "tick 0\n"
        process.send_signal(signal.SIGTERM)
        *ticks, last = process.stdout.read().splitlines()
        error = process.stderr.read()
        assert process.wait(timeout=60) == 0
    assert ticks == [f"tick {n}" for n in range(1, len(ticks) + 1)]
    assert last == "ended by stop, 0 in flight"
    assert last in PAGE
    assert error == ""


def test_a_run_is_observed(tmp_path: Path) -> None:
    (tmp_path / "observed.py").write_text(OBSERVED)
    done = subprocess.run([sys.executable, "observed.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
