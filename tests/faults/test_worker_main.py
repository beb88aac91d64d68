"""The `__main__` of a worker is a module with the names of the user's script, however that is run."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCRIPT = HERE / "main_script.py"
sys.path.insert(0, str(HERE))
from main_script import CASES, NEEDS_MAIN  # noqa: E402


@cache
def said(*words: str) -> dict[str, str]:
    """Run the script once and return what it said of each case."""
    done = subprocess.run(
        [sys.executable, *words, str(SCRIPT)], capture_output=True, text=True, timeout=280, check=False, cwd=HERE
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith(("ok ", "WRONG "))]
    return {name.split("  ")[0]: verdict for verdict, name in lines} | {"": done.stdout}


@pytest.mark.parametrize("case", CASES)
def test_what_scripts_do(case: str) -> None:
    assert said().get(case) == "ok", said()[""]


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case not in NEEDS_MAIN])
def test_what_scripts_do_under_a_profiler(case: str) -> None:
    assert said("-m", "cProfile").get(case) == "ok", said("-m", "cProfile")[""]


SPAWNED = """
import dataclasses
import multiprocessing
import sys
import sluiceway as sw

@dataclasses.dataclass
class Row:
    a: int

def make(n):
    return Row(n)

def job(n):
    rows = list(sw.imap(make, [n], workers=1))
    return [row.a for row in rows if type(row) is Row]

if __name__ == "__main__":
    for way in "spawn", "forkserver":
        with multiprocessing.get_context(way).Pool(1) as pool:
            print(pool.map(job, [1, 2]))
"""

EXECUTED = """
TEXT = '''
import dataclasses
import sluiceway as sw

@dataclasses.dataclass
class Row:
    a: int

def make(n):
    return Row(n)

[row] = sw.imap(make, [1], workers=1)
print(type(row) is Row, row.a)
'''
exec(TEXT, {"__name__": "__main__"})
exec(TEXT, {"__name__": "__main__"})
import code
console = code.InteractiveConsole()
for line in TEXT.splitlines():
    console.push(line)
"""


@pytest.mark.parametrize(
    ("text", "output"),
    [(SPAWNED, "[[1], [2]]\n[[1], [2]]\n"), (EXECUTED, "True 1\nTrue 1\nTrue 1\n")],
    ids=["multiprocessing", "exec"],
)
def test_other_ways_to_run_a_script(text: str, output: str, tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(text)
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=100, check=False)
    assert (done.stdout, done.returncode) == (output, 0), done.stderr
