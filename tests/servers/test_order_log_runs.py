"""Killed and resumed runs over sources that interleave anew: what was released once has its number for good.

Every line that the plain sink ever wrote, in any life of a run, tells which event had which number: the same in all of
them. The JSON lines, which are written exactly once, then hold every event once, in that order.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from marks import slow
from mock_kafka import MockKafka
from redis_server import redis_server

SCRIPT = '''
import json, os, random, sys, time
import sluiceway as sw

kind, url, folder, runner = sys.argv[1:5]

class Numbered:
    """Notes which event has which number; what it wrote stays, whatever becomes of the run."""
    def open(self):
        self.file = os.open(os.path.join(folder, "numbered"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    def write(self, events):
        for (seq, index), event in zip(events.numbers, events):
            os.write(self.file, f"{seq} {event}\\n".encode())
    def close(self):
        os.close(self.file)

def ticking(name, count):
    def give():
        chance = random.Random()
        for n in range(count):
            if chance.random() < 0.2:
                time.sleep(chance.random() * 0.01)
            yield f"{name}{n}"
    return give

def keyed(name, count):
    def give():
        for n in range(count):
            time.sleep(0.0005)
            yield f"{name}{n}"
    return give

def every_third(event):
    n = int(event[1:])
    return n if n % 3 == 0 else None

def slow(event):
    time.sleep(0.0005)
    return event

graph = sw.Graph("killed")
if kind == "arrival":
    events = graph.sequence(*[graph.source(ticking(name, 500), name=name) for name in "abc"])
elif kind == "files":
    events = graph.sequence(*[graph.source(sw.lines(os.path.join(folder, name)), name=name) for name in "abc"])
elif kind == "key":
    events = graph.sequence(*[graph.source(keyed(name, 500), name=name) for name in "abc"], key=every_third)
elif kind == "kafka":
    source = sw.kafka("ordered", group="g", bootstrap_servers=url, stop_at_end=True,
                      config={"session.timeout.ms": 1300, "heartbeat.interval.ms": 100, "fetch.wait.max.ms": 20})
    events = graph.source(source, name="topic").map(lambda message: message.value.decode())
elif kind == "sql":
    events = graph.source(sw.sql(url, table="events", key="id"), name="rows").map(lambda row: row["name"])
elif kind == "redis":
    source = sw.redis("events", url=url, group="g", consumer="one", stop_at_end=True)
    events = graph.source(source, name="stream").map(lambda entry: entry.fields[b"name"].decode())
handled = events.map(slow)
handled.sink(Numbered(), name="numbered")
handled.sink(sw.jsonl(os.path.join(folder, "out.jsonl")), name="once")
words = {"runner": "inline"} if runner == "inline" else {"workers": 2}
sw.run(graph, checkpoint=os.path.join(folder, "run.db"), checkpoint_interval_s=0.1, **words)
'''


def kill_and_finish(folder: Path, kind: str, url: str, runner: str, kills: int) -> int:
    """Run the script, kill all of it when it has written a few hundred lines more, and begin again until it ends.

    Gives how often it was killed.
    """
    script, numbered, chance, killed = folder / "script.py", folder / "numbered", random.Random(7), 0
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), kind, url, str(folder), runner]
    while True:
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)
        enough = (numbered.stat().st_size if numbered.exists() else 0) + chance.randrange(2_000)
        while killed < kills and process.poll() is None:
            if numbered.exists() and numbered.stat().st_size > enough:
                os.killpg(process.pid, signal.SIGKILL)
                killed += 1
                break
            time.sleep(0.002)
        _, errors = process.communicate(timeout=100)
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, errors.decode()
            return killed


def check(folder: Path, expected: list[str]) -> None:
    """Check that every number had one event in all lives, and that the exact sink has all events in that order."""
    known: dict[int, str] = {}
    for line in (folder / "numbered").read_text().splitlines():
        seq, event = line.split(" ", 1)
        assert known.setdefault(int(seq), event) == event
    assert sorted(known.values()) == sorted(expected)
    written = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert written == [known[seq] for seq in sorted(known)]
    for name in {event[0] for event in expected}:
        own = [int(event[1:]) for event in written if event[0] == name]
        assert own == sorted(own)


NAMES = [f"{name}{n}" for name in "abc" for n in range(500)]


@pytest.mark.parametrize(
    ("kind", "runner"),
    [
        ("arrival", "processes"),
        ("key", "processes"),
        slow("files", "processes"),
        *(slow(kind, "inline") for kind in ("arrival", "files", "key")),
    ],
)
def test_several_sources_are_numbered_as_before(tmp_path: Path, kind: str, runner: str) -> None:
    for name in "abc":
        (tmp_path / name).write_text("".join(f"{name}{n}\n" for n in range(500)))
    assert kill_and_finish(tmp_path, kind, "", runner, 2) == 2
    check(tmp_path, NAMES)


@pytest.mark.parametrize("runner", [slow("processes"), slow("inline")])
def test_partitions_are_read_as_before(tmp_path: Path, runner: str) -> None:
    kafka = MockKafka(1)
    try:
        kafka.create("ordered")
        kafka.produce("ordered", [f"m{n}".encode() for n in range(1500)], keys=True)
        assert kill_and_finish(tmp_path, "kafka", kafka.servers, runner, 2) == 2
    finally:
        kafka.close()
    check_partitions(tmp_path)


def check_partitions(folder: Path) -> None:
    """As `check`, but the order holds within each partition, and so for every key."""
    known: dict[int, str] = {}
    for line in (folder / "numbered").read_text().splitlines():
        seq, event = line.split(" ", 1)
        assert known.setdefault(int(seq), event) == event
    written = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert written == [known[seq] for seq in sorted(known)]
    assert sorted(int(event[1:]) for event in written) == list(range(1500))
    for key in range(10):  # a key is the last digit
        own = [n for n in (int(event[1:]) for event in written) if n % 10 == key]
        assert own == sorted(own)


@pytest.mark.parametrize("runner", [slow("processes"), slow("inline")])
def test_rows_are_read_as_before(tmp_path: Path, runner: str) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE events (id INTEGER PRIMARY KEY, name TEXT)"))
        rows = [{"id": 3 * n, "name": f"r{n}"} for n in range(1500)]
        connection.execute(sa.text("INSERT INTO events VALUES (:id, :name)"), rows)
    engine.dispose()
    assert kill_and_finish(tmp_path, "sql", url, runner, 2) == 2
    check(tmp_path, [f"r{n}" for n in range(1500)])


@pytest.mark.parametrize("runner", ["processes", slow("inline")])
def test_entries_of_a_group_are_read_as_before(tmp_path: Path, runner: str) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    with redis_server(folder) as server:
        with server.client() as client:
            for n in range(1500):
                client.xadd("events", {"name": f"e{n}"})
        assert kill_and_finish(tmp_path, "redis", server.url, runner, 2) == 2
        with server.client() as client:
            assert client.xpending("events", "g")["pending"] == 0
    check(tmp_path, [f"e{n}" for n in range(1500)])
