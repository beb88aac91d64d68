"""Programs that have done something to their interpreter: the run works there, or says by name what is in the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def script(text: str, folder: Path) -> str:
    """Run a script and return its output, or the last line of its traceback."""
    file = folder / "script.py"
    file.write_text(text)
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=100, cwd=folder, check=False)
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


CYCLES = """
import sluiceway as sw

class Node: ...

def leave(n):
    node = Node()
    node.me, node.data = node, bytearray(1 << 20)
    if n == 799:
        return max(int(line.split()[1]) >> 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))

print(list(sw.imap(leave, range(800), workers=1))[-1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell the memory at a cost")
def test_large_cycles_do_not_pile_up(tmp_path: Path) -> None:
    assert int(script(CYCLES, tmp_path)) < 500  # MB; they are 800


RECURSION = """
import sys
{}
import sluiceway as sw
{}
print(list(sw.imap(abs, range(3), workers=1)), list(sw.imap(abs, range(3))))
"""


@pytest.mark.parametrize(
    ("before", "behind", "said"),
    [
        (200, None, "[0, 1, 2] [0, 1, 2]"),
        (None, 200, "[0, 1, 2] [0, 1, 2]"),
        (60, None, "RecursionError: cannot load sluiceway.imap: the recursion limit is 60, and imports need 100 at least"),
        (None, 60, "RecursionError: cannot load sluiceway.imap: the recursion limit is 60, and imports need 100 at least"),
    ],
)
def test_a_low_recursion_limit(before: int | None, behind: int | None, said: str, tmp_path: Path) -> None:
    limits = ["" if limit is None else f"sys.setrecursionlimit({limit})" for limit in (before, behind)]
    assert script(RECURSION.format(*limits), tmp_path).startswith(said)


def test_a_recursion_limit_that_was_set_too_low_later(tmp_path: Path) -> None:
    text = "import sys\nimport sluiceway as sw\nsw.imap\nsys.setrecursionlimit(90)\nlist(sw.imap(abs, [1], workers=1))"
    told = script(text, tmp_path)
    assert "a run needs a recursion limit of 100 at least, but this program has set 90" in told
