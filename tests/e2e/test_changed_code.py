"""A run that goes on with other code says so, once; one that goes on with the same code says nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from marks import slow

SCRIPT = '''
import time
import sluiceway as sw

def helper(n):
    if n == FAILS_AT:
        raise ValueError("broken")
    return n

def work(n):
    time.sleep(0.0005)
    return helper(n)

def untouched(n):
    return n + 1

def build(folder):
    graph = sw.Graph("mended")
    numbers = graph.source(range(1_000)).map(work).map(untouched)
    numbers.scan(lambda total, n: (total + n, total + n), 0, name="sum").map(str).sink(sw.lines(folder + "/out.txt"))
    return graph
'''


@pytest.mark.parametrize("runner", ["processes", slow("inline")])
def test_changed_code_is_told_and_remembered(tmp_path: Path, runner: str) -> None:
    script, store = tmp_path / "script.py", tmp_path / "run.db"

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "sluiceway.engine.cli.main", *words]
        return subprocess.run(line, check=False, capture_output=True, text=True, timeout=60)

    def run(fails_at: int) -> subprocess.CompletedProcess[str]:
        script.write_text(SCRIPT.replace("FAILS_AT", str(fails_at)))
        keeps = ["--checkpoint", str(store), "--checkpoint-interval", "0.02"]
        return command("run", f"{script}:build", "--set", f"folder={tmp_path}", "--runner", runner, *keeps)

    told = [run(fails_at) for fails_at in (600, 600, -1, -1, -2)]
    assert [done.returncode for done in told] == [1, 1, 0, 0, 0], [done.stderr for done in told]
    warned = [[line for line in done.stderr.splitlines() if "changed its code" in line] for done in told]
    assert [len(lines) for lines in warned] == [0, 0, 1, 0, 0]  # the last two had nothing left to do
    assert warned[2][0].startswith("WARNING: sluiceway: 'mended' goes on at number ")
    assert warned[2][0].endswith(": node 'work' changed its code")
    expected, total = [], 0
    for n in range(1, 1_001):
        total += n
        expected.append(str(total))
    assert (tmp_path / "out.txt").read_text().split() == expected
    shown = command("checkpoints", str(store))
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("changed its code") == shown.stdout.count("\nnode 'work' changed its code at number ") == 1
