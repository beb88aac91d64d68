"""Runs over sources that give an event only once: killed and begun again, each stored event comes once, in its place."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from marks import slow
from sluiceway.engine.sources.journal_file import JournalFile

PATIENCE_S = 100.0

#: A user's script over a queue that deletes a message when it delivers it, and marks each delivery with a random number.
SCRIPT = '''
import os, random, sys, time
from dataclasses import asdict, dataclass
from pathlib import Path
import sluiceway as sw

FOLDER, RUNNER, KIND = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
TOTAL = int(sys.argv[4])

@dataclass
class Job:
    n: int
    mark: float

def queue():
    taken, new = FOLDER / "taken", FOLDER / "taken.new"
    with open(FOLDER / "delivered", "a") as delivered:
        while (n := int(taken.read_text()) if taken.exists() else 0) < TOTAL:
            new.write_text(str(n + 1))
            new.replace(taken)
            job = Job(n, random.random())
            delivered.write(f"{n} {job.mark!r}\\n")
            delivered.flush()
            if not n % 50:
                time.sleep(0.005)
            yield job

class Queue:
    def __iter__(self):
        return queue()

async def connected():
    for job in queue():
        yield job

def work(job):
    assert type(job) is Job, type(job)
    with open(FOLDER / "worked", "a") as worked:
        worked.write(f"{sw.current().seq} {job.n} {job.mark!r}\\n")
    time.sleep(0.0005)
    return asdict(job)

graph = sw.Graph("jobs")
subject = {"function": queue, "iterable": Queue(), "async": connected}[KIND]
graph.source(subject, name="queue", journal=True).map(work).sink(sw.jsonl(FOLDER / "out.jsonl"))
words = {"workers": 2} if RUNNER == "processes" else {}
sw.run(graph, runner=RUNNER, checkpoint=FOLDER / "run.db", checkpoint_interval_s=0.05, **words)
'''


def _lines(path: Path) -> list[str]:
    """Return the whole lines of a file, none where there is no file."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


def _kill(process: subprocess.Popen[Any]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _until(true: Callable[[], object], process: subprocess.Popen[Any]) -> bool:
    """Wait until something is so; gives whether the process was still running then."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return True


@pytest.mark.parametrize(
    ("runner", "kind"),
    [("processes", "function"), slow("processes", "iterable"), slow("processes", "async"), ("inline", "function")],
)
def test_a_killed_run_gives_every_stored_event_once_and_in_order(tmp_path: Path, runner: str, kind: str) -> None:
    _killed(tmp_path, runner, kind, 1_200, (150, 700))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["function", "iterable", "async"])
def test_a_run_that_is_killed_over_and_over(tmp_path: Path, kind: str) -> None:
    chance = random.Random(7)
    _killed(tmp_path, "processes", kind, 3_000, sorted(chance.sample(range(10, 2_950), 40)))


def _killed(tmp_path: Path, runner: str, kind: str, total: int, places: Sequence[int]) -> None:
    """Kill a run whenever its queue has delivered so many messages, then let it come to its end, and compare."""
    script, journal = tmp_path / "script.py", tmp_path / "run.db.0.events"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path), runner, kind, str(total)]
    # Of what was delivered to a run that was killed, some first part is stored.
    ends = [(0, 0)]
    for place in places:
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)
        alive = _until(lambda: len(_lines(tmp_path / "delivered")) >= place, process)  # noqa: B023
        if not alive:
            assert process.communicate()[1].decode() == ""
            break
        _kill(process)
        file = JournalFile(journal, "queue")
        ends.append((len(_lines(tmp_path / "delivered")), file.count))
        file.close()
    assert len(ends) > 2, "the runs were over before they could be killed"
    done = subprocess.run(command, check=False, capture_output=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    delivered = [(int(n), float(mark)) for n, mark in map(str.split, _lines(tmp_path / "delivered"))]
    ends.append((len(delivered), ends[-1][1] + len(delivered) - ends[-1][0]))
    expected = []
    for (begin, before), (_, stored) in itertools.pairwise(ends):
        expected += delivered[begin : begin + stored - before]
    out = [(row["n"], row["mark"]) for row in map(json.loads, _lines(tmp_path / "out.jsonl"))]
    assert out == expected
    assert ends[-2][1] > 0, "nothing was stored when a run was killed"
    seen: dict[int, str] = {}
    for line in _lines(tmp_path / "worked"):
        seq, event = line.split(" ", 1)
        assert seen.setdefault(int(seq), event) == event, "a number has one event, in every run"
    assert [seen[seq] for seq in range(len(out))] == [f"{n} {mark!r}" for n, mark in out]
    assert sorted(path.name for path in tmp_path.glob("run.db*")) == ["run.db"], "a finished run has no journal"


HOOK = '''
import sys
from pathlib import Path
import sluiceway as sw

folder, port = Path(sys.argv[1]), int(sys.argv[2])

class Stop:
    def is_set(self):
        return (folder / "stop").exists()

graph = sw.Graph("hooks")
graph.source(sw.webhook(port, queue=100_000), name="hook", journal=True).sink(sw.jsonl(folder / "out.jsonl"))
report = sw.run(graph, workers=1, checkpoint=folder / "run.db", checkpoint_interval_s=float(sys.argv[3]), stop=Stop())
assert report.ended_by == "stop"
'''


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _post(port: int, event: Any) -> bool:
    """Send an event; gives whether it was accepted."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", "/", json.dumps(event))
        return connection.getresponse().status == 202
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def test_what_a_webhook_has_accepted_is_not_lost(tmp_path: Path) -> None:
    script, port, process = tmp_path / "script.py", _free_port(), None
    script.write_text(HOOK)
    # No checkpoint falls due in a run that is killed: what it accepts is nowhere but in the journal.
    command = [sys.executable, str(script), str(tmp_path), str(port)]
    chance = random.Random(3)
    accepted, kills = 0, 0
    while accepted < 200:
        if process is None:
            process = subprocess.Popen([*command, "1000"], start_new_session=True)
        if _post(port, {"n": accepted}):
            accepted += 1
            if kills < 4 and chance.random() < 0.04:
                _kill(process)
                process, kills = None, kills + 1
        else:
            assert process.poll() is None
            time.sleep(0.01)
    assert process is not None
    _kill(process)
    assert kills >= 2
    process = subprocess.Popen([*command, "0.05"], start_new_session=True)
    partial = tmp_path / "out.jsonl.partial"
    assert _until(lambda: len(_lines(partial)) >= 200, process)
    (tmp_path / "stop").touch()
    assert process.wait(PATIENCE_S) == 0
    numbers = [json.loads(line)["n"] for line in _lines(partial)]
    assert [n for n, _ in itertools.groupby(numbers)] == list(range(200))
    assert len(numbers) <= 200 + kills, "twice comes only what was stored when its sender could not be answered"


LINES = '''
import sys
import sluiceway as sw

def work(line):
    if line == sys.argv[2]:
        raise ValueError("broken")
    return line

graph = sw.Graph("stdin")
graph.source(sw.lines("-"), journal=True).map(work).sink(sw.lines(sys.argv[1] + "/out.txt"))
sw.run(graph, workers=2, checkpoint=sys.argv[1] + "/run.db", checkpoint_interval_s=0.01)
'''


def test_standard_input_is_kept(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(LINES)
    lines = [f"line {n}" for n in range(500)]
    for given, broken in (("\n".join(lines) + "\n", "line 499"), ("", "none")):
        command = [sys.executable, str(script), str(tmp_path), broken]
        done = subprocess.run(command, input=given, check=False, capture_output=True, text=True, timeout=PATIENCE_S)
        assert (done.returncode != 0) == (broken != "none"), done.stderr
    assert _lines(tmp_path / "out.txt") == lines


# -- one run and the next, in one process -----------------------------------------------------------------------

WAYS = pytest.mark.parametrize("way", [{"workers": 2}, {"runner": "inline"}], ids=["two", "inline"])


class _Marks:
    """A generator function that gives 300 other numbers each time, and writes them down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.__qualname__ = self.__name__ = "marks"

    def __call__(self) -> Iterator[float]:
        with open(self.folder / "given", "a", buffering=1) as given:
            for _ in range(300):
                mark = random.random()
                given.write(f"{mark!r}\n")
                yield mark
        (self.folder / "ended").touch()


class _Fails:
    """Fails at the last number, when its source has said that it was the last, until it is mended."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.__qualname__ = self.__name__ = "work"

    def __call__(self, mark: float) -> float:
        if self.folder is not None and sw.current().seq == 299:
            while not (self.folder / "ended").exists():
                time.sleep(0.001)
            raise ValueError("broken")
        return mark


def _marks(folder: Path, *, broken: bool = False, journal: bool = True) -> sw.Graph:
    graph = sw.Graph("marks")
    marks = graph.source(_Marks(folder), name="marks", journal=journal)
    marks.map(_Fails(folder if broken else None), name="work").sink(sw.jsonl(folder / "out.jsonl"), name="out")
    return graph


def _floats(path: Path) -> list[float]:
    return [float(line) for line in _lines(path)]


@pytest.fixture
def failed(tmp_path: Path, way: dict[str, Any]) -> dict[str, Any]:
    """Leave a failed run behind and give its options."""
    words: dict[str, Any] = {**way, "checkpoint": tmp_path / "run.db", "checkpoint_interval_s": 0.01}
    with pytest.raises(sw.HandlerError):
        sw.run(_marks(tmp_path, broken=True), **words)
    assert len(_floats(tmp_path / "given")) == 300
    return words


@WAYS
def test_a_source_that_has_ended_is_not_opened_again(tmp_path: Path, failed: dict[str, Any]) -> None:
    assert (tmp_path / "run.db.0.events").exists()
    report = sw.run(_marks(tmp_path), **failed, resume="required")
    assert report.ended_by == "source"
    assert len(_floats(tmp_path / "given")) == 300
    assert _floats(tmp_path / "out.jsonl") == _floats(tmp_path / "given")
    assert not (tmp_path / "run.db.0.events").exists()
    sw.run(_marks(tmp_path), **failed)  # has nothing to do, and needs no journal for it
    assert len(_floats(tmp_path / "given")) == 300


@WAYS
def test_events_without_their_checkpoints_are_not_forgotten(tmp_path: Path, failed: dict[str, Any]) -> None:
    (tmp_path / "run.db").rename(tmp_path / "elsewhere")
    for _ in range(2):  # and the store that was made meanwhile lets nobody forget them either
        with pytest.raises(sw.CheckpointError, match=r"run\.db\.0\.events holds \d+ events .* resume='never'"):
            sw.run(_marks(tmp_path), **failed)
    (tmp_path / "run.db").unlink()
    (tmp_path / "elsewhere").rename(tmp_path / "run.db")
    sw.run(_marks(tmp_path), **failed)
    assert _floats(tmp_path / "out.jsonl") == _floats(tmp_path / "given")


@WAYS
def test_beginning_afresh_forgets_the_journal(tmp_path: Path, failed: dict[str, Any]) -> None:
    sw.run(_marks(tmp_path), **failed, resume="never")
    assert _floats(tmp_path / "out.jsonl") == _floats(tmp_path / "given")[300:]


@WAYS
def test_what_does_not_fit_the_journal_is_refused(tmp_path: Path, failed: dict[str, Any]) -> None:
    with pytest.raises(sw.CheckpointError, match="its nodes is"):
        sw.run(_marks(tmp_path, journal=False), **failed)
    journal = tmp_path / "run.db.0.events"
    journal.rename(tmp_path / "elsewhere")
    with pytest.raises(sw.CheckpointError, match="is missing"):
        sw.run(_marks(tmp_path), **failed)
    (tmp_path / "elsewhere").rename(journal)
    sw.run(_marks(tmp_path), **failed)
    assert _floats(tmp_path / "out.jsonl") == _floats(tmp_path / "given")


def test_a_journal_needs_a_file_of_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(sw.GraphError, match="pass the path of a file"):
        sw.run(_marks(tmp_path), checkpoint="postgresql://localhost/none")
    journal = tmp_path / "run.db.0.events"
    journal.write_text("mine")
    journal.chmod(0o600)
    for _ in range(2):  # and the store is let go of
        with pytest.raises(sw.CheckpointError, match="damaged or no journal"):
            sw.run(_marks(tmp_path), runner="inline", checkpoint=tmp_path / "run.db")
    assert journal.read_text() == "mine"
