"""A run with checkpoints is killed at any moment and begun again: what its sinks hold is as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from failing_sums import Fails, sums_of
from marks import slow
from sluiceway.engine.checkpoints.store import TableStore

#: A user's script: counts words by key and keeps a running sum, into a plain and a compressed file.
SCRIPT = '''
import json, sys, time
import sluiceway as sw

def slow(record):
    time.sleep(0.0006)
    if record["n"] % 97 == 3:
        raise ValueError("bad")
    return record

def add(total, record):
    return total + record["n"], {"n": record["n"], "total": total + record["n"]}

def build(folder):
    graph = sw.Graph("killed")
    records = graph.source(sw.jsonl(folder + "/in.jsonl")).map(slow, on_error="dead_letter")
    records.scan(add, 0).sink(sw.jsonl(folder + "/sums.jsonl"))
    records.key_by(lambda r: r["key"]).count().map(list).sink(sw.jsonl(folder + "/counts.jsonl.gz"))
    records.key_by(lambda r: r["key"]).count(final=True).map(list).sink(sw.jsonl(folder + "/final.jsonl"))
    graph.dead_letters().map(lambda letter: letter.seq).sink(sw.jsonl(folder + "/bad.jsonl"))
    return graph

if __name__ == "__main__":
    folder, runner = sys.argv[1:3]
    words = {"workers": 2} if runner == "processes" else {}
    sw.run(build(folder), runner=runner, checkpoint=folder + "/run.db", checkpoint_interval_s=0.05, **words)
'''
OUTPUTS = ("sums.jsonl", "counts.jsonl.gz", "final.jsonl", "bad.jsonl")


def _prepare(folder: Path, events: int) -> Path:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    with open(folder / "in.jsonl", "w") as file:
        for n in range(events):
            file.write(json.dumps({"n": n, "key": f"k{n * 7919 % 13}"}) + "\n")
    return script


def _start(script: Path, folder: Path, runner: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), runner], start_new_session=True, stderr=subprocess.PIPE
    )


def _whole(script: Path, folder: Path, runner: str) -> None:
    process = _start(script, folder, runner)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors.decode()


def _killed_often(script: Path, folder: Path, runner: str, kills: int, chance: random.Random) -> int:
    """Kill run after run, each a while after its first checkpoint was there; gives how many were killed."""
    done = 0
    while done < kills:
        process = _start(script, folder, runner)
        try:
            process.wait(chance.uniform(0.4, 0.8))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            done += 1
            process.communicate()
            continue
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
        break
    _whole(script, folder, runner)
    return done


@pytest.mark.parametrize("runner", ["processes", slow("inline")])
def test_a_run_that_is_killed_goes_on_from_its_checkpoint(tmp_path: Path, runner: str) -> None:
    _kill_and_compare(tmp_path, runner, 4_000, 3, 1)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("runner", ["processes", "inline"])
def test_a_run_that_is_killed_a_hundred_times(tmp_path: Path, runner: str) -> None:
    _kill_and_compare(tmp_path, runner, 60_000, 100, 2)


def _kill_and_compare(tmp_path: Path, runner: str, events: int, kills: int, seed: int) -> None:
    expected, killed = tmp_path / "expected", tmp_path / "killed"
    for folder in (expected, killed):
        folder.mkdir()
        script = _prepare(folder, events)
    _whole(script, expected, runner)
    done = _killed_often(script, killed, runner, kills, random.Random(seed))
    assert done >= min(kills, 2), "the runs were over before they could be killed"
    for name in OUTPUTS:
        assert (killed / name).read_bytes() == (expected / name).read_bytes(), name
    assert not list(killed.glob("*.partial"))


@pytest.mark.parametrize("way", [{"workers": 2}, {"runner": "inline"}], ids=["two", "inline"])
def test_a_failed_run_goes_on_when_its_handler_is_mended(tmp_path: Path, way: dict[str, Any]) -> None:
    out, store = tmp_path / "out.txt", tmp_path / "run.db"
    words: dict[str, Any] = {**way, "checkpoint": store, "checkpoint_interval_s": 0.02}
    with pytest.raises(sw.HandlerError):
        sw.run(sums_of(out, more=Fails(3_000)), **words)
    assert not out.exists()
    with closing(sqlite3.connect(store)) as db, db:
        (n,) = db.execute("SELECT max(n) FROM history").fetchone()
    assert 0 < n <= 3_000
    report = sw.run(sums_of(out, more=Fails(None)), **words, resume="required")
    assert report.ended_by == "source"
    expected, total = [], 0
    for number in range(5_000):
        total += number
        expected.append(str(total))
    assert out.read_text().split() == expected


def test_a_finished_run_has_nothing_left_to_do_but_its_rename(tmp_path: Path, caplog: Any) -> None:
    out, store = tmp_path / "out.txt", tmp_path / "run.db"
    sw.run(sums_of(out), workers=1, checkpoint=store)
    whole = out.read_bytes()
    out.rename(tmp_path / "out.txt.partial")  # as if it had died before the rename
    report = sw.run(sums_of(out), workers=1, checkpoint=store)
    assert out.read_bytes() == whole
    assert (report.ended_by, report.events_out) == ("source", 0)
    assert [one for one in caplog.messages if one.startswith("'sums' has finished before, at number 5000: nothing is re")]
    sw.run(sums_of(out, range(10)), workers=1, checkpoint=store, resume="never")
    assert len(out.read_text().split()) == 10


class _Ahead:
    """A sink that had committed up to 100 when its run died, before the store knew."""

    def __init__(self) -> None:
        self.numbers, self.commits = [], []  # type: tuple[list[int], list[int]]

    def write(self, events: Any) -> None:
        self.numbers += [seq for seq, _ in events.numbers]

    def recover(self, token: Any) -> int:
        return 100

    def commit(self, n: int) -> int:
        self.commits.append(n)
        return n

    def close(self) -> None: ...


@pytest.mark.parametrize("way", [{"workers": 2}, {"runner": "inline"}], ids=["two", "inline"])
def test_a_sink_that_is_ahead_gets_nothing_again(
    tmp_path: Path, way: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be ahead of the last checkpoint, never of what was announced to the store before the sink committed."""
    words: dict[str, Any] = {**way, "checkpoint": tmp_path / "run.db", "checkpoint_interval_s": 0.005}

    def run(sink: Any, at: int | None) -> None:
        graph = sw.Graph("ahead")
        graph.source(range(300)).map(Fails(at), name="work").sink(sink, name="sink")
        sw.run(graph, **words)

    first, second = _Ahead(), _Ahead()
    announce = TableStore.announce
    with monkeypatch.context() as patch:
        patch.setattr(TableStore, "announce", lambda store, n: announce(store, max(n, 100)))
        with pytest.raises(sw.HandlerError):
            run(first, 50)
    run(second, None)
    assert second.numbers == list(range(101, 300))
    assert second.commits == sorted(second.commits)
    assert second.commits[0] > 100
    assert first.commits[0] == -1


@pytest.mark.parametrize("way", [{"workers": 2}, {"runner": "inline"}], ids=["two", "inline"])
def test_a_report_is_about_this_run_alone(tmp_path: Path, way: dict[str, Any]) -> None:
    words: dict[str, Any] = {**way, "checkpoint": tmp_path / "run.db"}
    stop = threading.Event()
    graph = sw.Graph("stopped")
    graph.source(range(2_000)).map(Fails(None), name="work").sink(lambda n: stop.set() if n == 500 else None, name="out")
    first, second, third = sw.run(graph, stop=stop, **words), sw.run(graph, **words), sw.run(graph, **words)
    assert first.events_in + second.events_in == 2_000
    for report in (first, second, third):
        assert report.events_in == report.events_out == report.released == report.nodes["work"].events_in
    assert second.expected in (None, second.events_in)


def test_a_paused_run_leaves_its_files_unfinished_and_goes_on(tmp_path: Path) -> None:
    out, store = tmp_path / "out.txt", tmp_path / "run.db"
    seen = 0

    def enough(report: sw.RunReport) -> None:
        nonlocal seen
        seen = report.events_in

    class Stop:
        def is_set(self) -> bool:
            return (tmp_path / "out.txt.partial").exists() and (tmp_path / "out.txt.partial").stat().st_size > 2_000

    words: dict[str, Any] = {"workers": 2, "checkpoint": store, "checkpoint_interval_s": 0.02}
    report = sw.run(sums_of(out, more=Fails(None)), stop=Stop(), progress=enough, **words)
    assert report.ended_by == "stop"
    assert not out.exists()
    report = sw.run(sums_of(out, more=Fails(None)), **words)
    assert report.ended_by == "source"
    assert len(out.read_text().split()) == 5_000


def test_the_command_line_makes_and_shows_checkpoints(tmp_path: Path) -> None:
    script = _prepare(tmp_path, 300)
    store = tmp_path / "run.db"
    command = [sys.executable, "-m", "sluiceway.engine.cli.main"]
    run = [*command, "run", f"{script}:build", "--set", f"folder={tmp_path}", "--checkpoint", str(store)]
    done = subprocess.run(run, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    shown = subprocess.run([*command, "checkpoints", str(store)], check=False, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stderr
    assert "finished" in shown.stdout
    assert "everything below number 301" in shown.stdout  # the end of the input is a number too
    none = subprocess.run([*command, "checkpoints", str(script)], check=False, capture_output=True, text=True, timeout=60)
    assert none.returncode == 1
    assert "no store" in none.stderr
