"""One world for one run: what a program has set is the same in every process of its run, wherever an event is handled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def script(text: str, folder: Path, *words: str, status: int = 0) -> str:
    """Run a script of the user's and return what it printed; it must end with `status`."""
    file = folder / "script.py"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, *words, str(file)], capture_output=True, text=True, timeout=100, cwd=folder, check=False
    )
    assert done.returncode == status, done.stderr
    return done.stdout + (done.stderr if status else "")


SETTINGS = """
import csv, decimal, itertools, locale, logging, socket, sys, time, warnings
import numpy
import sluiceway as sw

decimal.getcontext().prec = 50
decimal.getcontext().rounding = decimal.ROUND_DOWN
decimal.getcontext().traps[decimal.FloatOperation] = True
decimal.DefaultContext.prec = 40
locale.setlocale(locale.LC_NUMERIC, "C.UTF-8")
warnings.filterwarnings("error", message="mine.*", category=UserWarning)
sys.setrecursionlimit(2345)
sys.set_int_max_str_digits(5000)
numpy.seterr(divide="raise")
numpy.set_printoptions(precision=3)
socket.setdefaulttimeout(12.5)
csv.field_size_limit(777)
logging.addLevelName(25, "NOTICE")
logging.disable(15)

def seen(n):
    import threading
    new = []
    thread = threading.Thread(target=lambda: new.append(decimal.getcontext().prec))
    thread.start()
    thread.join()
    try:
        warnings.warn("mine and yours")
        raised = False
    except UserWarning:
        raised = True
    context = decimal.getcontext()
    return (
        context.prec, context.rounding, context.traps[decimal.FloatOperation], new[0],
        locale.setlocale(locale.LC_ALL), raised, sys.getrecursionlimit(), sys.get_int_max_str_digits(),
        numpy.geterr()["divide"], numpy.get_printoptions()["precision"], socket.getdefaulttimeout(),
        csv.field_size_limit(), logging.getLevelName(25), logging.root.manager.disable,
    )

async def awaited(n):
    return seen(n)

def source():
    yield seen(0)

def slow(n):
    time.sleep(0.002)
    return seen(n)

here = seen(0)
print(set(sw.imap(seen, range(20), workers=2)) == {here})
print(set(sw.imap(awaited, range(20), workers=2)) == {here})
graph = sw.Graph()
print(list(sw.iterate(graph.source(source).map(lambda event: event), workers=1)) == [here])
found = set()
since = []

def event_count_since(number):
    since.append(number)
    return number - since[0]

taken_over = False
with sw.imap(slow, itertools.count()) as results:
    for number, event in enumerate(results):
        found.add(event)
        if number % 50 == 49 and "from number" in results.report.placement:
            taken_over = True
        if taken_over and event_count_since(number) > 500:
            break
print(found == {here})
"""


def test_settings_of_the_interpreter_are_those_of_the_caller(tmp_path: Path) -> None:
    assert script(SETTINGS, tmp_path) == "True\nTrue\nTrue\nTrue\n"


def test_settings_that_an_imported_module_makes_are_overruled_by_later_ones(tmp_path: Path) -> None:
    (tmp_path / "exact.py").write_text(
        "import decimal\ndecimal.getcontext().prec = 60\ndef prec(n):\n    return decimal.getcontext().prec\n"
    )
    text = (
        "import decimal, exact\nimport sluiceway as sw\ndecimal.getcontext().prec = {}\n"
        "print(list(sw.imap(exact.prec, [1], workers=1)))"
    )
    assert script(text.format(9), tmp_path) == "[9]\n"
    assert script(text.format(28), tmp_path) == "[28]\n"


SETUP = """
import os, sys
import config
import sluiceway as sw

def setup():
    config.FACTOR = 10
    config.CALLS += 1

def scaled(n):
    return n * config.FACTOR, config.CALLS

class Model:
    def __init__(self):
        self.factor = config.FACTOR
    def __call__(self, n):
        return n * self.factor, config.CALLS

def numbers():
    yield config.FACTOR

async def awaited(n):
    return scaled(n)

want = [(n * 10, 1) for n in range(100)]
for handler in scaled, Model, awaited:
    for words in {"workers": 2}, {"runner": "inline"}, {}:
        assert list(sw.imap(handler, range(100), setup=setup, **words)) == want, (handler, words)
        config.FACTOR, config.CALLS = 1, 0
graph = sw.Graph()
print(list(sw.iterate(graph.source(numbers).map(lambda n: n), workers=1, setup=setup)))
def broken():
    raise OSError("no config")
for words in {"workers": 1}, {"runner": "inline"}:
    try:
        list(sw.imap(scaled, [1], setup=broken, **words))
    except sw.SluicewayError as error:
        print(error)
def broken_there():
    if "worker" in os.environ.get("ROLE", "worker") and os.getpid() != caller:
        raise OSError("no config")
caller = os.getpid()
try:
    list(sw.imap(scaled, [1], setup=broken_there, workers=1))
except sw.SluicewayError as error:
    print(error)
"""


def test_setup_is_called_once_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("FACTOR, CALLS = 1, 0\n")
    here = "setup= raised in the calling process: OSError: no config; no event was read; correct that function\n"
    assert script(SETUP, tmp_path).splitlines(keepends=True) == [
        "[10]\n",
        here,
        here,
        "the handlers of 'scaled' cannot be built in a worker: SluicewayError: setup= raised in a process of the run:"
        " OSError: no config; correct that function; no event was handled; correct the constructor or what the handler"
        " captures\n",
    ]


HASHES = """
import os, signal, sys
import sluiceway as sw

def hashed(n):
    if n == 300 and not os.path.exists("killed"):
        open("killed", "w").close()
        os.kill(os.getppid(), signal.SIGKILL)
    return hash("word"), "PYTHONHASHSEED" in os.environ

found = set(sw.imap(hashed, range(1000), workers=1))
print(len(found), {known for _, known in found})
"""


def test_hashes_are_the_same_after_the_death_of_what_starts_workers(tmp_path: Path) -> None:
    assert script(HASHES, tmp_path) == "1 {False}\n"


def test_relative_entries_of_the_search_path_outlive_a_change_of_folder(tmp_path: Path) -> None:
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "rel12.py").write_text("def double(n):\n    return 2 * n\n")
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "rel13.py").write_text("def treble(n):\n    return 3 * n\n")
    text = (
        "import os, sys\nimport sluiceway as sw\nsys.path.insert(0, 'near')\nimport rel12\nsys.path.insert(0, 'gone')\n"
        "import rel13\nsys.path.remove('gone')\nos.chdir('/')\n"
        "print(list(sw.imap(rel12.double, [1, 2], workers=1)), list(sw.imap(rel13.treble, [1, 2], workers=1)))"
    )
    assert script(text, tmp_path) == "[2, 4] [3, 6]\n"


MANAGER = """
import multiprocessing
import sluiceway as sw

def add(shared, lock=None):
    shared.append(len(shared))
    return len(shared)

if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        shared = manager.list()
        print(list(sw.imap(add, [shared, shared], workers=1)), list(sw.imap(lambda n: shared[n], [0, 1], workers=1)))
"""


def test_proxies_of_a_manager_as_events_and_captured(tmp_path: Path) -> None:
    assert script(MANAGER, tmp_path) == "[1, 2] [0, 1]\n"


@pytest.mark.parametrize("setup", ["'text'", "lambda n: n", "awaited"])
def test_setup_that_cannot_be_called(tmp_path: Path, setup: str) -> None:
    text = f"import sluiceway as sw\nasync def awaited(): ...\nsw.imap(abs, [1], setup={setup})"
    assert "sw.imap cannot use setup=: it must be a plain function without arguments" in script(text, tmp_path, status=1)


def test_a_run_at_the_import_of_a_handlers_module_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(
        "import sluiceway as sw\ndef double(n):\n    return 2 * n\n"
        "def go():\n    return list(sw.imap(double, [1, 2], workers=1))\nfound = go()\n"
    )
    told = script("import pipeline", tmp_path, status=1)
    assert "a run cannot begin while a process of another run imports module 'pipeline' for its handlers" in told
    assert "under `if __name__ ==" in told


MISSING = """
import json
import sluiceway as sw

def added(n):
    json.added = lambda: n
    json.added.__module__, json.added.__qualname__ = "json", "added"
    return {"call": json.added}

for words in {"on_error": "fail"}, {"on_error": "skip"}:
    try:
        print(list(sw.imap(added, [1], workers=1, **words)))
    except sw.SluicewayError as error:
        print(error)
"""


def test_a_name_that_the_caller_lacks_is_an_error(tmp_path: Path) -> None:
    told = script(MISSING, tmp_path)
    assert told.count("json.added is not known in this process; make it importable here") == 2
    assert "None" not in told


MISSING_THERE = """
import json
import sluiceway as sw

class Added: ...
Added.__module__ = "json"
json.Added = Added
json.added = lambda n: n
json.added.__module__, json.added.__qualname__ = "json", "added"
for lost in {"call": json.added}, [json.Added], json.Added():
    graph = sw.Graph()
    source = graph.source([1, lost, 3]).map(lambda event: event, on_error="skip")
    print(list(sw.iterate(source, workers=1)))
    try:
        print(list(sw.imap(lambda event: event, [1, lost, 3], workers=1)))
    except sw.SluicewayError as error:
        print(str(error).split("; make")[0])
"""


def test_a_name_that_a_worker_lacks_fails_its_event(tmp_path: Path) -> None:
    told = script(MISSING_THERE, tmp_path).splitlines()
    assert told[::2] == ["[1, 3]"] * 3
    for line, name in zip(told[1::2], ["added", "Added", "Added"], strict=True):
        assert "failed on number 1 (index 0) after 1 attempt: CodecError: the event cannot be unpacked: " in line
        assert line.endswith(f"json.{name} is not known in this process")


SEQUENCES = """
import itertools, random
import numpy
import sluiceway as sw

ids, rng, numbers, old = itertools.count(), random.Random(5), numpy.random.default_rng(5), numpy.random.RandomState(5)

def with_id(n): return next(ids)
def drawn(n): return rng.random()
def many(n): return float(numbers.random())
class Model:
    def __init__(self, rng): self.rng = rng
    def __call__(self, n): return self.rng.random()

for handler in with_id, drawn, many, old.rand, rng.choice, sw.per_worker(Model, rng), Model(rng):
    try:
        print(list(sw.imap(handler, [1, 2], workers=1)))
    except sw.GraphError as error:
        print(str(error).partition(", which hands out")[0])
for handler in with_id, drawn, many:
    assert len(set(sw.imap(handler, range(90)))) == 90
everything = lambda n: (random.random(), random.SystemRandom().random(), float(numpy.random.rand()))
print(len(set(sw.imap(everything, range(50), workers=2))))
graph = sw.Graph()
print(len(list(sw.iterate(graph.source(range(3)).map(with_id, ordered=True), workers=1))))
"""


def test_what_hands_out_one_value_after_another_is_refused(tmp_path: Path) -> None:
    begin = "handler {!r} cannot be sent to workers: it captures {}"
    assert script(SEQUENCES, tmp_path).splitlines() == [
        begin.format("with_id", "'ids', a count"),
        begin.format("drawn", "'rng', a Random"),
        begin.format("many", "'numbers', a Generator"),
        begin.format("rand", "its object, a RandomState"),
        begin.format("choice", "its object, a Random"),
        begin.format("Model", "argument 0, a Random"),
        begin.format("Model", "attribute 'rng', a Random"),
        "50",
        "3",
    ]


TRACED = """
import os, sys, tracemalloc
import sluiceway as sw

def traced(n):
    return tracemalloc.is_tracing() and tracemalloc.get_traceback_limit(), os.environ.get("PYTHONTRACEMALLOC")

print(list(sw.imap(traced, [1], workers=1)))
"""


@pytest.mark.parametrize(
    ("flags", "variable", "frames"), [((), None, False), (("-X", "tracemalloc=3"), None, 3), ((), "2", 2)]
)
def test_memory_is_traced_in_workers_where_the_program_was_started_so(
    flags: tuple[str, ...], variable: str | None, frames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONTRACEMALLOC", raising=False)
    if variable is not None:
        monkeypatch.setenv("PYTHONTRACEMALLOC", variable)
    assert script(TRACED, tmp_path, *flags) == f"[({frames}, {variable!r})]\n"
