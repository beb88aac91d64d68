"""What a run leaves on the disk names no module of the package, and what cannot be read of it is a `CheckpointError`.

The runs are scripts that are stopped by a failure far behind their first checkpoint, so that windows are open, the order
log is in use and journals hold events.
"""

from __future__ import annotations

import pickle
import pickletools
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
import sluiceway as sw
from marks import slow
from sluiceway.engine.checkpoints.store import Saved

PACKAGE = sw.__name__
INTERNAL = tuple(f"{PACKAGE}.{layer}" for layer in ("nodes", "graphs", "engine"))

#: Its states hold events of every public type, open windows of every kind, and objects of the script's own classes.
SCRIPT = '''
import json, os, sys, time
from dataclasses import dataclass
import sluiceway as sw
from sluiceway.engine.checkpoints.store import TableStore

FOLDER, RUNNER = sys.argv[1:3]

@dataclass
class Job:
    n: int

class Sum:
    def __init__(self):
        self.total = 0
    def __call__(self, job):
        self.total += job.n
        return self.total
    def snapshot(self):
        return [Job(self.total)]
    def restore(self, state):
        self.total = state[0].n

def give():
    for n in range(20_000):
        yield n

def once():
    for n in range(20_000):
        yield Job(n)

def letters():
    for n in range(20_000):
        yield sw.DeadLetter(n, 0, "parse", n, "ValueError: bad", "", 1)

def slow(n):
    if type(n) is dict:
        n = n.get("n", n.get("id"))
    if type(n) is sw.DeadLetter:
        n = n.event
    n = int(getattr(n, "n", n))
    time.sleep(0.0005)
    if n > 400:
        raise RuntimeError("enough")
    return n

def doubtful(n):
    if n % 5 == 1:
        raise ValueError("bad")
    return n

def last(held, event):
    return (*held[-3:], event), len(held)

def public(n):
    return [
        sw.current(),
        sw.DeadLetter(n, 0, "parse", n, "ValueError: bad", "", 1),
        sw.KafkaMessage(None, b"v", (), "topic", 0, n, None),
        sw.RedisEntry(f"{n}-0", {b"n": b"1"}),
        sw.Window("k", 0, 5, n),
    ]

def key(n):
    return n % 3

def time_of(n):
    return n

graph = sw.Graph("stored")
numbers = graph.sequence(
    graph.source(give, name="given"),
    graph.source(sw.jsonl(FOLDER + "/in.jsonl"), name="file"),
    graph.source(sw.csv(FOLDER + "/in.csv"), name="table"),
    graph.source(sw.sql("sqlite:///" + FOLDER + "/in.db", table="events", key="id"), name="rows"),
    graph.source(once, name="once", journal=True),
    graph.source(letters, name="letters", journal=True),
).map(slow)
numbers.map(doubtful, on_error="dead_letter").map(Job).map(Sum, ordered=True).sink(sw.jsonl(FOLDER + "/sums.jsonl"))
graph.dead_letters().map(lambda letter: letter.seq).sink(sw.jsonl(FOLDER + "/bad.jsonl.gz"))
numbers.map(public).scan(last, ()).map(str).sink(sw.lines(FOLDER + "/public.txt.xz"))
keyed = numbers.key_by(key)
keyed.scan(last, ()).map(str).sink(sw.lines(FOLDER + "/scan.txt.gz"))
keyed.count().map(list).sink(sw.jsonl(FOLDER + "/count.jsonl"))
keyed.count(final=True).map(list).sink(sw.jsonl(FOLDER + "/final.jsonl"))
keyed.reduce(max).map(list).sink(sw.jsonl(FOLDER + "/reduce.jsonl"))
keyed.map(lambda n: {"n": n}).sink(sw.csv(FOLDER + "/map.csv"))
numbers.key_by(key, ttl=50, time=time_of).count().map(list).sink(sw.jsonl(FOLDER + "/ttl.jsonl"))
for name, window in {"tumbling": sw.tumbling(7), "sliding": sw.sliding(30, 10), "session": sw.session(5)}.items():
    windows = keyed.window(window, time=time_of, allowed_lateness=300)
    windows.reduce(max).scan(last, ()).map(str).sink(sw.lines(f"{FOLDER}/{name}.txt"))
    windows.collect().map(list).sink(sw.jsonl(f"{FOLDER}/{name}.jsonl.gz"))
words = {"workers": 1} if RUNNER == "processes" else {}
TableStore._trim = lambda *_: None  # the order log stays whole, so that its reads are seen wherever the last cut was
sw.run(graph, runner=RUNNER, checkpoint=FOLDER + "/run.db", checkpoint_interval_s=0.05, **words)
'''

_TEXTS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"})
_BYTES = frozenset({"SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"})
_BEGIN = b"\x80\x05"  # of a pickle of protocol 5
_KEPT = frozenset({"BINGET", "LONG_BINGET"})


def names_in(packed: bytes) -> Iterator[str]:
    """Return the dotted name of every global in pickles that follow each other, and in the pickles inside their bytes."""
    file = BytesIO(packed)
    while file.tell() < len(packed):
        texts: list[str] = []  # those that were pushed, the last two of which name a global
        memo: list[Any] = []
        pushed: Any = None
        for op, argument, _ in pickletools.genops(file):
            if op.name == "MEMOIZE":
                memo.append(pushed)
                continue
            pushed = argument if op.name in _TEXTS else memo[argument] if op.name in _KEPT else None
            if isinstance(pushed, str):
                texts.append(pushed)
            if op.name == "STACK_GLOBAL":
                yield ".".join(texts[-2:])
            elif op.name == "GLOBAL":
                yield argument.replace(" ", ".")
            elif op.name in _BYTES and bytes(argument[:2]) == _BEGIN:
                yield from names_in(bytes(argument))


def blobs_in(path: Path) -> Iterator[bytes]:
    """Return everything pickled in a store, or in a journal."""
    with closing(sqlite3.connect(path)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "events" in tables:
            for (body,) in db.execute("SELECT body FROM events"):
                yield from (bytes(frame) for frame in ormsgpack.unpackb(body))
            return
        yield from (body for (body,) in db.execute("SELECT body FROM checkpoint"))
        yield from (extent for (extent,) in db.execute("SELECT extent FROM log WHERE kind = 'read'"))


def _run(script: str, folder: Path, runner: str) -> subprocess.CompletedProcess[str]:
    path = folder / "script.py"
    path.write_text(script)
    line = [sys.executable, str(path), str(folder), runner]
    return subprocess.run(line, check=False, capture_output=True, text=True, timeout=100, cwd=folder)


def test_the_scanner_finds_names_at_any_depth() -> None:
    inner = pickle.dumps({"mark": Saved, "again": [sw.Window, sw.Window]}, protocol=5)
    outer = pickle.dumps([sw.Graph, {"states": {"a": inner, "b": b"\x00"}}], protocol=5) + pickle.dumps(None)
    found = list(names_in(outer))
    assert found == [f"{sw.Graph.__module__}.Graph", f"{Saved.__module__}.Saved", f"{PACKAGE}.Window"]


@pytest.mark.parametrize("name", ["Context", "DeadLetter", "KafkaMessage", "RedisEntry", "Window"])
def test_events_of_the_package_are_stored_under_its_name(name: str) -> None:
    cls = getattr(sw, name)
    assert list(names_in(pickle.dumps(cls, protocol=5))) == [f"{PACKAGE}.{name}"]
    assert pickle.loads(pickle.dumps(cls)) is cls


@pytest.mark.parametrize("runner", ["inline", "processes"])
def test_what_is_stored_names_no_module_of_the_package(tmp_path: Path, runner: str) -> None:
    numbers = range(20_000)
    (tmp_path / "in.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in numbers))
    (tmp_path / "in.csv").write_text("n\n" + "".join(f"{n}\n" for n in numbers))
    with closing(sqlite3.connect(tmp_path / "in.db")) as db, db:
        db.execute("CREATE TABLE events (id INTEGER PRIMARY KEY)")
        db.executemany("INSERT INTO events VALUES (?)", [(n,) for n in numbers])
    done = _run(SCRIPT, tmp_path, runner)
    assert done.returncode, "the run was to fail"
    assert "enough" in done.stderr, done.stderr

    files = [path for path in tmp_path.glob("run.db*") if not path.name.endswith(("-wal", "-shm"))]
    assert len(files) == 3, files
    blobs = {path.name: list(blobs_in(path)) for path in files}
    names = {name for of in blobs.values() for blob in of for name in names_in(blob)}
    assert [name for name in names if name.startswith(INTERNAL)] == []
    for of in blobs.values():
        for blob in of:
            assert not [module for module in INTERNAL if f"{module}.".encode() in blob]
    for name in ("Context", "DeadLetter", "KafkaMessage", "RedisEntry", "Window"):
        assert f"{PACKAGE}.{name}" in names
    assert "__main__.Job" in names or "cloudpickle.cloudpickle._make_skeleton_class" in names
    with closing(sqlite3.connect(tmp_path / "run.db")) as db:
        assert {kind for (kind,) in db.execute("SELECT kind FROM log")} == {"run", "read", "cut"}


# -- what cannot be read ----------------------------------------------------------------------------------------

#: A run that is stopped by a failure, and goes on with a class that has another name; `KIND` says what holds one of it.
GONE = '''
import asyncio, sys, time
import sluiceway as sw
import kinds

FOLDER, RUNNER = sys.argv[1:3]
KIND, AT = "{kind}", {at}

class Mark:
    replay = "exact"
    def reader(self, position):
        return Reader(position.n if position is not None else 0)

class Reader:
    def __init__(self, n):
        self.n = n
    def read(self, limit, max_bytes):
        self.n += 1
        return [self.n] if self.n < 2_000 else None
    def position(self):
        return kinds.{name}(self.n)
    def close(self):
        pass

class Logged(Mark):
    replay = "logged"
    def reader(self, position):
        return LoggedReader(position.n if position is not None else 0)

class LoggedReader(Reader):
    def extent(self):
        return kinds.{name}(self.n)
    def position(self):
        return kinds.plain(self.n)
    def replay(self, extent):
        self.n = extent.n
        return [self.n]

class Keeping:
    def __init__(self):
        self.file = []
    def open(self):
        pass
    def write(self, batch):
        pass
    def commit(self, n):
        return kinds.{name}(n)
    def recover(self, token):
        return token.n
    def close(self):
        pass

def once():
    for n in range(2_000):
        yield kinds.{name}(n)

def slow(n):
    n = getattr(n, "n", n)
    time.sleep(0.0005)
    if n > AT:
        raise RuntimeError("enough")
    return n

def add(held, n):
    return (kinds.{name}(n), n) if KIND in ("state", "looped") else (0, n)

async def wait(n):
    await asyncio.sleep(0)
    return n

class Looped:
    def __init__(self):
        self.held = None
    async def __call__(self, n):
        self.held = kinds.{name}(n)
        return n
    def snapshot(self):
        return self.held
    def restore(self, held):
        self.held = held

sources = {{"place": Mark(), "extent": Logged()}}
graph = sw.Graph("gone")
source = graph.source(sources.get(KIND, range(2_000)) if KIND != "journal" else once, journal=KIND == "journal", name="s")
events = source.map(slow)
events = events.map(Looped, ordered=True, name="looped") if KIND == "looped" else events.scan(add, None, name="held")
events.sink(Keeping() if KIND == "token" else sw.jsonl(FOLDER + "/out.jsonl"), name="out")
words = {{"workers": 1}} if RUNNER == "processes" else {{}}
sw.run(graph, runner=RUNNER, checkpoint=FOLDER + "/run.db", checkpoint_interval_s=0.05, **words)
'''
KINDS_MODULE = """
class {name}:
    def __init__(self, n):
        self.n = n

class plain:
    def __init__(self, n):
        self.n = n
"""
_CHECKPOINT = "the checkpoint in"
_SAID = {
    ("state", "inline"): "a state of graph 'gone'",
    ("state", "processes"): "a state of '",
    ("looped", "inline"): "a state of graph 'gone'",
    ("looped", "processes"): "a state of '",
    ("place", "inline"): _CHECKPOINT,
    ("place", "processes"): "the place of source 's'",
    ("extent", "inline"): "the order log in",
    ("extent", "processes"): "a read of source 's' in the order log",
    ("token", "inline"): _CHECKPOINT,
    ("token", "processes"): _CHECKPOINT,
    ("journal", "inline"): "cannot be unpacked from",
    ("journal", "processes"): "cannot be unpacked from",
}


@pytest.mark.parametrize(
    ("kind", "runner"),
    [
        ("state", "inline"), ("state", "processes"), ("looped", "processes"), ("place", "inline"), ("place", "processes"),
        ("extent", "processes"), ("token", "inline"), ("journal", "inline"), ("journal", "processes"),
        slow("looped", "inline"), slow("extent", "inline"), slow("token", "processes"),
    ],
)  # fmt: skip
def test_a_class_that_is_gone_ends_the_next_run_with_a_checkpoint_error(tmp_path: Path, kind: str, runner: str) -> None:
    module = tmp_path / "kinds.py"
    module.write_text(KINDS_MODULE.format(name="Kind"))
    done = _run(GONE.format(kind=kind, at=300, name="Kind"), tmp_path, runner)
    assert "enough" in done.stderr, done.stderr
    module.write_text(KINDS_MODULE.format(name="AnotherKind"))
    done = _run(GONE.format(kind=kind, at=9_999, name="AnotherKind"), tmp_path, runner)
    assert done.returncode == 1
    last = [line for line in done.stderr.splitlines() if "CheckpointError: " in line][-1]
    assert "CheckpointError: cannot resume: " in last
    assert _SAID[kind, runner] in last
    assert "Kind" in last, last
