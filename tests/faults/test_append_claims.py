"""Files that are appended to: a store that does not match them is refused, and what others have added is not cut off."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw

EVENTS = 30
FORMS: dict[str, Callable[..., Any]] = {"a.txt": sw.lines, "a.jsonl": sw.jsonl, "a.csv": sw.csv, "a.jsonl.gz": sw.jsonl}


@pytest.fixture(params=list(FORMS))
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / "out" / str(request.param)


def run(path: Path, *, fail_at: int = EVENTS, store: str = "run.db", **words: Any) -> None:
    """Append numbers to a file, one checkpoint for each, until one fails."""

    def work(n: int) -> Any:
        if n == fail_at:
            raise RuntimeError("enough")
        return str(n) if path.suffix == ".txt" else {"n": n}

    path.parent.mkdir(exist_ok=True)
    graph = sw.Graph("appended")
    graph.source(range(EVENTS)).map(work).sink(FORMS[path.name](path, append=True), name="out")
    options = {"checkpoint": path.parent.parent / store, "checkpoint_interval_s": 1e-9, **words}
    if fail_at < EVENTS:
        with pytest.raises(sw.HandlerError):
            sw.run(graph, runner="inline", **options)
    else:
        sw.run(graph, runner="inline", **options)


def rows(path: Path) -> list[int]:
    found: list[int] = []
    graph = sw.Graph("look")
    read = graph.source(FORMS[path.name](path))
    read.map(lambda event: int(event if isinstance(event, str) else event["n"])).sink(found.append)
    sw.run(graph, runner="inline")
    return found


def lost(path: Path) -> None:
    for store in path.parent.parent.glob("run.db*"):
        store.unlink()


def refused(path: Path, said: str) -> None:
    before = path.read_bytes()
    with pytest.raises(sw.CheckpointError, match=said):
        run(path)
    assert path.read_bytes() == before


def test_a_lost_store_is_refused_before_a_row_is_doubled(path: Path) -> None:
    run(path, fail_at=20)
    lost(path)
    refused(path, r"'out': it holds the numbers up to \d+ of a run .* nothing of that run.*resume='never'")
    before = rows(path)
    run(path, resume="never")
    assert rows(path) == [*before, *range(EVENTS)]


def test_an_older_store_is_refused_and_the_newest_goes_on(path: Path) -> None:
    run(path, fail_at=5)
    store = path.parent.parent / "run.db"
    shutil.copy(store, store.with_name("older.db"))
    run(path, fail_at=20)
    shutil.copy(store, store.with_name("newest.db"))
    shutil.copy(store.with_name("older.db"), store)
    refused(path, r"with sink 'out': it holds the numbers up to \d+ .* that run up to number \d+ only")
    shutil.copy(store.with_name("newest.db"), store)
    run(path)
    assert rows(path) == list(range(EVENTS))
    assert os.listdir(path.parent) == [path.name]


def test_another_store_or_a_finished_run_begins_another_one(path: Path) -> None:
    run(path)
    lost(path)
    run(path, fail_at=7)
    run(path, store="other.db")
    assert rows(path) == [*range(EVENTS), *range(7), *range(EVENTS)]


def test_a_store_that_was_moved_goes_on(path: Path) -> None:
    run(path, fail_at=20)
    (path.parent.parent / "run.db").rename(path.parent.parent / "moved.db")
    run(path, store="moved.db")
    assert rows(path) == list(range(EVENTS))


def test_what_another_run_has_added_is_not_cut_off(path: Path) -> None:
    run(path, fail_at=7)
    run(path, fail_at=9, store="other.db")
    held = rows(path)
    with pytest.raises(sw.CheckpointError, match=r"cannot go on in .* another run has written since .*cut the file to"):
        run(path)
    assert rows(path) == held
    run(path, store="other.db")
    with pytest.raises(sw.CheckpointError, match=r"cannot go on in .* nothing says whose they are .*cut the file to"):
        run(path)
    assert rows(path) == [*range(7), *range(EVENTS)]


def test_a_claim_that_cannot_be_read_is_refused(path: Path) -> None:
    run(path, fail_at=7)
    (path.parent / f".{path.name}.claim").write_text('{"run": 7')
    refused(path, "does not say whose events the file holds")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_a_stranger_put_in_place_of_a_claim_is_not_used(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out" / "a.txt"
    path.parent.mkdir()
    claim, other = path.parent / ".a.txt.claim", tmp_path / "other"
    other.write_text("not for us")
    if kind == "link":
        claim.symlink_to(other)
    else:
        os.mkfifo(claim) if kind == "pipe" else claim.mkdir()
    with pytest.raises((sw.SinkError, sw.CheckpointError), match=r"cannot append to .*\.a\.txt\.claim"):
        run(path)
    assert not path.exists()
    assert other.read_text() == "not for us"


KILLED = """
import os, signal, sys
import sluiceway as sw
path, store = sys.argv[1:]
def work(n):
    return str(n)
class Killer:
    def write(self, events):
        if 5 in events:
            os.kill(os.getpid(), signal.SIGKILL)
    def close(self):
        pass
graph = sw.Graph("appended")
numbers = graph.source(range(30))
numbers.map(work).sink(sw.lines(path, append=True), name="out")
numbers.sink(Killer(), name="killer")
sw.run(graph, runner="inline", checkpoint=store, checkpoint_interval_s=1000)
"""


def test_a_run_that_was_killed_before_its_first_commit_holds_what_it_wrote(tmp_path: Path) -> None:
    path, store = tmp_path / "a.txt", tmp_path / "run.db"
    arguments = [sys.executable, "-c", KILLED, str(path), str(store)]
    assert subprocess.run(arguments, check=False, timeout=60).returncode == -signal.SIGKILL
    before = path.read_text()
    assert before.startswith("0\n")
    assert subprocess.run(arguments, check=False, timeout=60).returncode == -signal.SIGKILL
    assert path.read_text() == before, "the run goes on at its beginning, and nothing is doubled"
    for name in tmp_path.glob("run.db*"):
        name.unlink()
    done = subprocess.run(arguments, check=False, timeout=60, capture_output=True, text=True)
    assert "CheckpointError" in done.stderr
    assert "it holds the numbers up to 0 of a run" in done.stderr
    assert path.read_text() == before
