"""Checkpoints that a run refuses: another input, graph, state or store, and what could not go on exactly."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from failing_sums import Fails, sums_of


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda out: sums_of(out, range(1, 5_001)), "other events"),
        (lambda out: sums_of(out, range(3)), "fewer events"),
    ],
)
def test_another_input_is_refused(tmp_path: Path, change: Any, words: str) -> None:
    out, store = tmp_path / "out.txt", tmp_path / "run.db"
    with pytest.raises(sw.HandlerError):
        sw.run(sums_of(out, more=Fails(3_000)), workers=1, checkpoint=store, checkpoint_interval_s=0.02)
    with pytest.raises(sw.SluicewayError, match=words):
        sw.run(change(out), workers=1, checkpoint=store)


def test_another_file_is_refused_alike_wherever_it_is_read(tmp_path: Path) -> None:
    given, out = tmp_path / "in.txt", tmp_path / "out.txt"
    for way in ({"workers": 1}, {"runner": "inline"}):
        given.write_text("".join(f"{number}\n" for number in range(5_000)))
        words: dict[str, Any] = {**way, "checkpoint": tmp_path / f"{len(way)}{next(iter(way))}.db"}
        with pytest.raises(sw.HandlerError):
            sw.run(sums_of(out, sw.lines(given), Fails(3_000).of_text), **words, checkpoint_interval_s=0.0)
        given.write_text("another\n")
        with pytest.raises(sw.CheckpointError, match=r"cannot go on in .*in\.txt: it ends before byte"):
            sw.run(sums_of(out, sw.lines(given), Fails(None).of_text), **words)


def test_another_graph_and_another_runner_are_refused(tmp_path: Path) -> None:
    out, store = tmp_path / "out.txt", tmp_path / "run.db"
    sw.run(sums_of(out), workers=1, checkpoint=store)
    graph = sw.Graph("sums")
    graph.source(range(5_000)).sink(sw.lines(out))
    with pytest.raises(sw.CheckpointError, match="its nodes is"):
        sw.run(graph, workers=1, checkpoint=store)
    with pytest.raises(sw.CheckpointError, match="its runner is"):
        sw.run(sums_of(out), runner="inline", checkpoint=store)


def _modulo(n: int) -> int:
    return n % 10


def _windows(window: Any, make: str, **words: Any) -> Any:
    return lambda s: getattr(s.key_by(_modulo).window(window, time=abs, **words), make)(name="state")


def _counted(**words: Any) -> Any:
    return lambda s: s.key_by(_modulo).count(name="state", **words)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (
            lambda s: s.scan(lambda t, n: (t + n, t), 0, name="state"),
            lambda s: s.scan(lambda t, n: (t + str(n), n), "", name="state"),
            r'its nodes is \[\["state", "scan from int", \["work"\]\]\], this run\'s is \[\["state", "scan from str"',
        ),
        (
            lambda s: s.key_by(_modulo).scan(lambda t, n: (t + n, t), 0, name="state"),
            lambda s: s.key_by(_modulo).scan(lambda t, n: ([*t, n], n), [], name="state"),
            "keyed_scan from list",
        ),
        (_counted(), _counted(final=True), "count final"),
        (_counted(), lambda s: s.key_by(_modulo, ttl=3, time=abs).count(name="state"), "key_by with ttl"),
        (_windows(sw.tumbling(10), "count"), _windows(sw.tumbling(20), "count"), r"Tumbling\(size=20\)"),
        (_windows(sw.tumbling(10), "count"), _windows(sw.session(10), "count"), r"Session\(gap=10\)"),
        (_windows(sw.tumbling(10), "count"), _windows(sw.tumbling(10), "collect"), "collect"),
        (_windows(sw.tumbling(10), "count"), _windows(sw.tumbling(10), "count", allowed_lateness=3), "lateness 3"),
    ],
)
def test_states_that_would_mean_something_else_are_refused(tmp_path: Path, before: Any, after: Any, words: str) -> None:
    def run(state: Any, fails_at: int | None) -> None:
        graph = sw.Graph("states")
        state(graph.source(range(200)).map(Fails(fails_at), name="work")).map(str).sink(sw.lines(tmp_path / "out.txt"))
        sw.run(graph, runner="inline", checkpoint=tmp_path / "run.db", checkpoint_interval_s=0.0)

    with pytest.raises(sw.HandlerError):
        run(before, 150)
    with pytest.raises(sw.CheckpointError, match=words):
        run(after, None)
    run(before, None)


def _keyed(folder: Path, key: Any, fails_at: int | None, workers: int) -> None:
    graph = sw.Graph("keyed")
    counted = graph.source(range(200)).map(Fails(fails_at), name="work").key_by(key, name="key").count(name="state")
    counted.map(str).sink(sw.lines(folder / "out.txt"))
    sw.run(graph, workers=workers, checkpoint=folder / "run.db", checkpoint_interval_s=0.0)


def test_keys_that_are_made_or_shared_out_otherwise_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(sw.HandlerError):
        _keyed(tmp_path, _modulo, 150, 2)
    with pytest.raises(sw.CheckpointError, match=r'number of workers of each node with a state is \{"state": 2\}, .* 3\}'):
        _keyed(tmp_path, _modulo, None, 3)
    with pytest.raises(sw.CheckpointError, match=r"node 'key' changed the code that gives its keys"):
        _keyed(tmp_path, lambda n: str(n % 10), None, 2)
    _keyed(tmp_path, _modulo, None, 2)
    assert (tmp_path / "out.txt").read_text().splitlines()[-1] == "(9, 20)"


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    out, store = tmp_path / "out.txt", tmp_path / "run.db"
    store.write_bytes(b"nothing that SQLite knows" * 100)
    store.chmod(0o600)
    with pytest.raises(sw.CheckpointError, match="damaged or no store"):
        sw.run(sums_of(out), workers=1, checkpoint=store)
    store.unlink()
    with closing(sqlite3.connect(store)) as db, db:
        db.execute("CREATE TABLE mine (x)")
    store.chmod(0o600)
    with pytest.raises(sw.CheckpointError, match="something else"):
        sw.run(sums_of(out), workers=1, checkpoint=store)
    store.unlink()
    with pytest.raises(sw.CheckpointError, match="holds no checkpoint"):
        sw.run(sums_of(out), workers=1, checkpoint=store, resume="required")
    assert not store.exists()
    sw.run(sums_of(out), workers=1, checkpoint=store)
    assert stat.S_IMODE(store.stat().st_mode) == 0o600
    store.chmod(0o666)
    with pytest.raises(sw.CheckpointError, match="chmod 600"):
        sw.run(sums_of(out), workers=1, checkpoint=store)


def test_two_runs_cannot_use_one_store(tmp_path: Path) -> None:
    store, seen = tmp_path / "run.db", []  # type: tuple[Path, list[str]]

    def second(number: int) -> None:
        with pytest.raises(sw.CheckpointError, match="another run uses it") as caught:
            sw.run(sums_of(tmp_path / "other.txt"), workers=1, checkpoint=store)
        seen.append(str(caught.value))

    graph = sw.Graph("outer")
    graph.source(range(1)).sink(second)
    sw.run(graph, runner="inline", checkpoint=store)
    assert len(seen) == 1


def test_what_could_not_go_on_exactly_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "run.db"
    class Ordered:
        def __call__(self, number: int) -> int:
            return number

    classes = sw.Graph("classes")
    classes.source(range(3)).map(Ordered, ordered=True).sink(print)
    with pytest.raises(sw.GraphError, match="snapshot"):
        sw.run(classes, checkpoint=store)
    hooks = sw.Graph("hooks")
    hooks.source(sw.webhook(0)).sink(print)
    with pytest.raises(sw.GraphError, match="cannot be read again"):
        sw.run(hooks, checkpoint=store)
    numbers = sw.Graph("numbers")
    with pytest.raises(sw.GraphError, match="no handler is durable"):
        next(sw.iterate(numbers.source(range(3)), checkpoint=store))
    assert not store.exists()
