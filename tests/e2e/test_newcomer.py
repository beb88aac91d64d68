"""What people do on their first day: scripts without a guard, `python -c`, notebooks, standard input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw


def python(*words: str, stdin: str | None = None, cwd: Path | None = None) -> str:
    """Run Python and give what it printed; it must end well and say nothing on standard error."""
    done = subprocess.run(
        [sys.executable, *words], input=stdin, capture_output=True, text=True, timeout=100, cwd=cwd, check=False
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


GUARDLESS = """
from dataclasses import dataclass
from enum import Enum
import sluiceway as sw

print("script begins")

class Level(Enum):
    LOW = 1
    HIGH = 2

@dataclass
class Reading:
    n: int
    level: Level

    def double(self):
        return Reading(self.n * 2, self.level)

class Counter:
    def __init__(self, step=1):
        self.total = 0
        self.step = step
    def __call__(self, reading):
        self.total += self.step
        return reading.n, reading.level, self.total

FACTOR = 10
def scale(n):
    return helper(n)
def helper(n):
    return Reading(n * FACTOR, Level.HIGH if n % 2 else Level.LOW)
def numbers():
    yield from range(4)
class Odd(Exception):
    pass
def refuse(row):
    if row[0] == 60:
        raise Odd(row[0])
    return row

graph = sw.Graph()
offset = 0
rows = graph.source(numbers).map(scale).map(lambda r: Reading(r.n + offset, r.level)).map(Reading.double)
rows = rows.map(sw.per_worker(Counter, step=5), ordered=True).map(refuse, on_error="dead_letter", workers=1)
rows.sink(print)
graph.dead_letters().sink(lambda letter: print(letter.seq, letter.error))
sw.run(graph, workers=2)

def raising(r):
    raise Odd(r)
try:
    list(sw.imap(raising, [1], workers=1))
except sw.HandlerError as error:
    print(type(error.__cause__) is Odd, error.__cause__)
print(list(sw.imap(Reading.double, [Reading(1, Level.LOW)], workers=1)) == [Reading(2, Level.LOW)])
"""

EXPECTED = """script begins
(0, <Level.LOW: 1>, 5)
(20, <Level.HIGH: 2>, 10)
(40, <Level.LOW: 1>, 15)
3 Odd: 60
True 1
True
"""


def test_a_script_without_a_guard(tmp_path: Path) -> None:
    script = tmp_path / "first_day.py"
    script.write_text(GUARDLESS)
    assert python(str(script)) == EXPECTED


@pytest.mark.slow  # a script without a guard, found by its name
def test_a_module_run_as_a_script(tmp_path: Path) -> None:
    (tmp_path / "first_day.py").write_text(GUARDLESS)
    assert python("-m", "first_day", cwd=tmp_path) == EXPECTED


@pytest.mark.slow  # the code of a notebook has no file either
def test_python_c() -> None:
    assert python("-c", GUARDLESS) == EXPECTED


def test_a_script_on_standard_input() -> None:
    assert python("-", stdin=GUARDLESS) == EXPECTED


def test_code_in_a_namespace_of_its_own_as_in_a_notebook() -> None:
    # A notebook's names live in __main__, its cells come from no file.
    cells = [GUARDLESS[: GUARDLESS.index("graph = sw.Graph()")], GUARDLESS[GUARDLESS.index("graph = sw.Graph()") :]]
    script = f"import __main__\nfor cell in {cells!r}:\n    exec(compile(cell, '<cell>', 'exec'), __main__.__dict__)"
    assert python("-c", script) == EXPECTED


def test_functions_of_an_anonymous_namespace(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "nowhere"}
    exec("def triple(n):\n    return factor() * n\ndef factor():\n    return 3\n", names)
    assert list(sw.imap(names["triple"], range(4), workers=1)) == [0, 3, 6, 9]


def test_a_module_beside_the_script(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text("def twice(n):\n    return 2 * n\n")
    (tmp_path / "main.py").write_text(
        "import sluiceway as sw\nfrom tools import twice\nprint(list(sw.imap(twice, range(3), workers=1)))\n"
    )
    assert python(str(tmp_path / "main.py")) == "[0, 2, 4]\n"


def test_lines_from_standard_input() -> None:
    script = "import sluiceway as sw\nfor n in sw.iterate(sw.Graph().source(sw.lines('-')).map(int), workers=1): print(n + 1)"
    assert python("-c", script, stdin="1\n2\n3\n") == "2\n3\n4\n"


def test_sys_stdin_itself_is_an_iterable() -> None:
    script = "import sys\nimport sluiceway as sw\nprint(list(sw.imap(str.strip, sys.stdin, workers=1)))"
    assert python("-c", script, stdin="a\nb\n") == "['a', 'b']\n"


def test_threads_of_the_script_do_no_harm() -> None:
    script = (
        "import threading, sluiceway as sw\nstop = threading.Event()\nthread = threading.Thread(target=stop.wait)\n"
        "thread.start()\nprint(list(sw.imap(lambda n: n + 1, range(3), workers=2)))\nstop.set()"
    )
    assert python("-W", "error", "-c", script) == "[1, 2, 3]\n"


def test_a_file_to_a_file(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("".join(f'{{"type": "user_login", "n": {n}}}\n' for n in range(5)) + "broken\n")
    script = f"""
import json
import sluiceway as sw
graph = sw.Graph("logins")
events = graph.source(sw.lines({str(log)!r})).map(json.loads, on_error="dead_letter")
events.filter(lambda e: e["type"] == "user_login").sink(sw.jsonl({str(tmp_path / "logins.jsonl")!r}))
graph.dead_letters().sink(sw.jsonl({str(tmp_path / "rejected.jsonl")!r}))
report = sw.run(graph, workers=2)
print(report.events_in, report.events_out, report.dead_letters)
"""
    assert python("-c", script) == "6 5 1\n"
    assert (tmp_path / "logins.jsonl").read_text().count("user_login") == 5
    assert "broken" in (tmp_path / "rejected.jsonl").read_text()
