"""A worker with a state is killed: the next one has the same state, and the results are those of a run without deaths."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from fault_handlers import Sum
from marks import slow


def _graph(kind: str, events: int, marks: str, results: list[Any], each: int) -> sw.Graph:
    """Number `k * each` kills the worker that handles it, once: a file remembers that it did."""
    graph = sw.Graph("state")
    numbers = graph.source(range(events))

    def fatal(number: int) -> None:
        if number and number % each == 0:
            mark = Path(marks) / str(number)
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    def add(total: int, number: int) -> tuple[int, int]:
        fatal(number)
        return total + number, total + number

    def join(a: int, b: int) -> int:
        fatal(b)
        return a + b

    if kind == "scan":
        numbers.scan(add, 0).sink(results.append)
    elif kind == "keyed":
        numbers.key_by(lambda n: n % 7).scan(add, 0).sink(results.append)
    elif kind == "reduce":
        numbers.key_by(lambda n: n % 7).reduce(join, final=True).sink(results.append)
    else:
        numbers.map(Sum, ordered=True).map(lambda n: (fatal(n[1]), n)[1], ordered=True).sink(results.append)
    return graph


@pytest.mark.parametrize("kind", ["scan", "keyed", slow("reduce"), "class"])
def test_the_state_of_a_killed_worker_is_made_again(tmp_path: Path, kind: str) -> None:
    events, expected, results = 20_000, [], []
    sw.run(_graph(kind, events, str(tmp_path), expected, events), runner="inline")
    report = sw.run(_graph(kind, events, str(tmp_path), results, 4_000), workers=2)
    assert results == expected
    assert report.worker_deaths == 4


def test_snapshots_bound_what_is_handled_again(tmp_path: Path) -> None:
    """With a budget far smaller than the input the run could not go on if nothing were ever saved."""
    events, results = 3_000, []
    graph = sw.Graph("state")

    def grow(count: int, text: str) -> tuple[int, int]:
        if count == 2_500 and not (tmp_path / "dead").exists():
            (tmp_path / "dead").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return count + 1, count

    graph.source(["x" * 1_000] * events).scan(grow, 0).sink(results.append)
    report = sw.run(graph, workers=1, window_bytes=256 << 10)
    assert results == list(range(events))
    assert report.worker_deaths == 1


def test_a_state_that_cannot_be_saved_ends_the_run_with_the_reason() -> None:
    graph = sw.Graph("state")
    graph.source(["x" * 1_000] * 3_000).map(_Unsaved, ordered=True).sink(len)
    with pytest.raises(sw.SluicewayError, match="cannot be saved today"):
        sw.run(graph, workers=1, window_bytes=256 << 10)


class _Unsaved:
    def __call__(self, text: str) -> str:
        return text

    def snapshot(self) -> object:
        raise RuntimeError("cannot be saved today")

    def restore(self, state: object) -> None:
        raise AssertionError("nothing was saved")


@pytest.mark.slow
def test_keyed_counts_are_right_under_kills_at_random_times(tmp_path: Path) -> None:
    events, results, expected = 300_000, [], []

    def outputs(into: list[Any], **words: Any) -> None:
        graph = sw.Graph("state")
        graph.source(range(events)).key_by(lambda n: n % 1_000).count().sink(into.append)
        sw.run(graph, max_deaths=None, **words)

    outputs(expected, runner="inline")
    with _kills(every_s=0.4, seed=7):
        outputs(results, workers=2)
    assert results == expected


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("events", "every_s"), [(1_000_000, 0.4), (200_000, 0.06)])
def test_a_million_keyed_events_are_right_under_kills(events: int, every_s: float) -> None:
    """Counts and sessions, for 1, 2 and 8 workers, while a worker is killed every now and then; fewer, more often."""
    from collections import Counter

    def key(n: int) -> int:
        return n * 2_654_435_761 % 1009

    def outputs(**words: Any) -> tuple[list[Any], list[Any]]:
        graph, counts, sessions = sw.Graph("state"), [], []
        numbers = graph.source(range(events))
        numbers.key_by(key).count(final=True).sink(counts.append, name="counts")
        busy = numbers.filter(lambda n: n // 5000 % 3 != 1).key_by(lambda n: key(n) % 50)
        busy.window(sw.session(0.5), time=lambda n: n / 1000).count().sink(sessions.append, name="sessions")
        sw.run(graph, max_deaths=None, **words)
        return counts, sessions

    expected = outputs(runner="inline")
    assert dict(expected[0]) == Counter(map(key, range(events)))
    for workers in (1, 2, 8):
        with _kills(every_s, seed=workers):
            found = outputs(workers=workers)
        assert found == expected


@contextmanager
def _kills(every_s: float, seed: int) -> Iterator[None]:
    """Kill a worker every now and then, until the block is left, also with an error: it would go on in other tests."""
    over, chance = threading.Event(), random.Random(seed)
    killer = threading.Thread(target=_kill_now_and_then, args=(over, every_s, chance), daemon=True)
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join()


def _kill_now_and_then(over: threading.Event, every_s: float, chance: random.Random) -> None:
    while not over.wait(every_s):
        mine = _workers_of(os.getpid())
        if mine:
            with suppress(ProcessLookupError):  # it has gone by itself meanwhile
                os.kill(chance.choice(mine), signal.SIGKILL)


def _workers_of(root: int) -> list[int]:
    """The grandchildren of this process: the starter's children, which are the workers."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
    starters = {pid for pid, parent in parents.items() if parent == root}
    return [pid for pid, parent in parents.items() if parent in starters]
