"""Digests of a node's code: the same in every process that has it, another one when it changes, none for data."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from sluiceway.engine.checkpoints.fingerprints import _MAX_OBJECTS, fingerprint, fingerprints

#: Handlers of every kind; `build` makes a graph of them.
SOURCE = '''
import functools
import sluiceway as sw

def helper(n):
    return n + 1

def deco(fn):
    @functools.wraps(fn)
    def inner(*args, **kw):
        return fn(*args, **kw)
    return inner

def work(n, more=(2, 3), *, kind="x"):
    def deeper(m):
        return m in {"a", "b", "c", "d", 5, None, 2.5} or [x * 10 for x in more]
    try:
        return helper(n), deeper(n), kind
    except (ValueError, KeyError):
        return None

@deco
def decorated(n):
    return n * 3

def times(factor):
    return lambda n: n * factor

class Base:
    def base(self):
        return 11

class Handler(Base):
    def __init__(self, size=4):
        self.size, self.address = size, object()
    def __call__(self, n):
        return self.step(n) + self.other
    @staticmethod
    def step(n):
        return n + 12
    @property
    def other(self):
        return 13
    @functools.cached_property
    def later(self):
        return 14

@functools.lru_cache
def cached(n):
    return n + 15

async def waits(n):
    return n + 16

def events():
    for n in range(17):
        yield n

def fold(state, n):
    return state + n, n + 18

def at(n):
    return n + 19

def ordering(n):
    return n + 20

def build():
    graph = sw.Graph("all")
    one, two = graph.source(events, name="one"), graph.source(events(), name="two")
    mixed = graph.sequence(one, two, key=ordering)
    mixed.map(work, name="function")
    mixed.map(decorated, name="decorated")
    mixed.map(times(21), name="closure")
    mixed.map(lambda n: n + 22, name="lambda")
    mixed.map(Handler, name="class")
    mixed.map(sw.per_worker(Handler, 23), name="per_worker")
    mixed.map(Handler().step, name="static")
    mixed.map(Handler().__call__, name="bound")
    mixed.map(functools.partial(work, more=(24,)), name="partial")
    mixed.map(cached, name="cached")
    mixed.map(waits, name="waits")
    mixed.scan(fold, 0, name="scan")
    keyed = mixed.key_by(at, name="key")
    keyed.reduce(lambda a, b: a + b + 25, name="reduce")
    keyed.window(sw.tumbling(5), time=at).aggregate(lambda a, b: a + b + 26, 0, name="window")
    mixed.sink(print, name="builtin")
    mixed.sink(lambda n: n + 27, name="sink")
    mixed.sink(sw.lines("out.txt"), name="file")
    return graph
'''
NODES = {
    "one", "two", "function", "decorated", "closure", "lambda", "class", "per_worker", "static", "bound", "partial",
    "cached", "waits", "scan", "key", "reduce", "window", "sink",
}  # fmt: skip
CLASSES = {"class", "per_worker", "bound"}


def _digests(source: str, file: str = "user.py") -> dict[str, str]:
    module = types.ModuleType("user")
    exec(compile(source, file, "exec", dont_inherit=True), module.__dict__)
    return fingerprints(module.build().nodes)


@pytest.fixture(scope="module")
def known() -> dict[str, str]:
    return _digests(SOURCE)


def test_what_has_code_has_a_digest_of_its_own(known: dict[str, str]) -> None:
    assert set(known) == NODES | {"sequence"}
    assert len({known[name] for name in NODES - {"one", "two"}}) == len(NODES) - 2


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_a_digest_is_the_same_in_every_process(tmp_path: Path, known: dict[str, str], seed: str) -> None:
    """With another order of sets, at another place, and with other line numbers."""
    tell = (
        "\nimport json\nfrom sluiceway.engine.checkpoints import fingerprints as f"
        "\nprint(json.dumps(f.fingerprints(build().nodes)))\n"
    )
    moved = tmp_path / f"place{seed}" / "user.py"
    moved.parent.mkdir()
    moved.write_text("# a comment\n" * int(seed) + SOURCE + tell)
    run = [sys.executable, "-c", "import user"]
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run(
        run, check=False, capture_output=True, text=True, timeout=60, cwd=moved.parent, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == known


@pytest.mark.parametrize(
    ("old", "new", "nodes"),
    [
        ("return n + 1\n", "return n + 2\n", {"function", "partial"}),
        ("more=(2, 3)", "more=(2, 4)", {"function", "partial"}),
        ('kind="x"', 'kind="y"', {"function", "partial"}),
        ('"c", "d"', '"c", "e"', {"function", "partial"}),
        ("x * 10", "x * 9", {"function", "partial"}),
        ("(ValueError, KeyError)", "(ValueError, IndexError)", {"function", "partial"}),
        ("return n * 3", "return n * 4", {"decorated"}),
        ("return fn(*args", "return not fn(*args", {"decorated"}),
        ("lambda n: n * factor", "lambda n: factor * n", {"closure"}),
        ("return 11", "return 0", CLASSES),
        ("size=4", "size=5", CLASSES),
        ("return n + 12", "return n - 12", CLASSES | {"static"}),
        ("return 13", "return 0", CLASSES),
        ("return 14", "return 0", CLASSES),
        ("return n + 15", "return n", {"cached"}),
        ("return n + 16", "return n", {"waits"}),
        ("range(17)", "range(16)", {"one", "two"}),
        ("n + 18", "n - 18", {"scan"}),
        ("return n + 19", "return n", {"key", "window"}),
        ("n + 22", "n + 0", {"lambda"}),
        ("a + b + 25", "a + b", {"reduce"}),
        ("a + b + 26", "a + b", {"window"}),
        ("n + 27", "n", {"sink"}),
        # no code, or of no node
        ("times(21)", "times(22)", set()),
        ("Handler, 23", "Handler, 24", set()),
        ("more=(24,)", "more=(25,)", set()),
        ('"out.txt"', '"other.txt"', set()),
        ("def helper(n):\n", "def unused(n):\n    return 1\n\ndef helper(n):\n    # why\n\n", set()),
    ],
)
def test_a_change_is_seen_where_it_is_made(known: dict[str, str], old: str, new: str, nodes: set[str]) -> None:
    assert SOURCE.count(old) == 1, "it must be clear what is changed"
    changed = _digests(SOURCE.replace(old, new))
    assert {name for name in {**known, **changed} if known.get(name) != changed.get(name)} == nodes


def test_another_order_of_numbers_is_seen(known: dict[str, str]) -> None:
    changed = _digests(SOURCE.replace("return n + 20", "return -n"))
    assert {name for name in known if known[name] != changed[name]} == {"sequence"}


def test_code_that_has_run_often_is_what_it_was() -> None:
    def work(n: int) -> int:
        return sum(abs(n - m) for m in range(3)) if n % 2 else n.bit_length()

    before = fingerprint(work)
    for n in range(5_000):
        work(n)
    assert fingerprint(work) == before


@pytest.mark.parametrize(
    "data", [None, 5, "text", [1, len], range(3), {"a": print}, iter([1]), len, json.loads, sw.lines("x.txt"), object()]
)
def test_data_and_libraries_have_none(data: Any) -> None:
    assert fingerprint(data) is None


class _Proxy:
    """Stands for something that is not there, whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"{name} was asked for outside of a request")

    def __call__(self) -> None: ...


proxy = _Proxy()


def _touches() -> object:
    return proxy


def test_nothing_of_the_users_is_called() -> None:
    assert fingerprint(_touches) is not None
    assert fingerprint(proxy) == fingerprint(_Proxy())


def test_objects_that_hold_each_other_have_an_end() -> None:
    class Node:
        def __init__(self) -> None:
            self.other = self
            self.method = self.__call__

        def __call__(self) -> Iterator[object]:
            yield Node

    def loop() -> object:
        return loop, bound

    bound = functools.partial(loop)
    assert fingerprint(Node()) is not None
    assert fingerprint(bound) != fingerprint(loop)


def test_there_is_an_end_to_what_is_looked_at() -> None:
    first: Any = len
    for _ in range(_MAX_OBJECTS + 100):

        def wrapper(n: int, inner: Any = first) -> Any:
            return inner(n)

        first = wrapper
    assert fingerprint(first) == fingerprint(first)
