"""Kafka from end to end, on librdkafka's mock cluster: runs, the ready-made graph, and the page that explains it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from marks import slow
from mock_kafka import QUICK, MockKafka, mock_kafka, values
from pages import check_examples
from resuming import MiniRun
from sluiceway.graphs import kafka_logins
from sluiceway.nodes.connectors.kafka.api import kafka, kafka_sink

SLUICEWAY = [sys.executable, "-m", "sluiceway.engine.cli.main"]
RUNNERS = ("inline", "processes")


@pytest.fixture
def cluster() -> Iterator[MockKafka]:
    with mock_kafka(brokers=2) as running:
        yield running


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_topic_is_handled_in_parallel_and_given_in_the_order_of_each_partition(
    cluster: MockKafka, runner: Any
) -> None:
    topic = cluster.create("events")
    cluster.produce(topic, values(3000), keys=True)
    found: list[tuple[int, int, bytes]] = []
    graph = sw.Graph()
    source = kafka(topic, group="g", bootstrap_servers=cluster.servers, stop_at_end=True, config=QUICK)
    graph.source(source).map(lambda m: (m.partition, m.offset, m.value)).sink(found.append)
    report = sw.run(graph, runner=runner, workers=2)
    assert report.events_in == 3000
    assert sorted(value for _, _, value in found) == values(3000)
    for partition in {partition for partition, _, _ in found}:
        offsets = [offset for at, offset, _ in found if at == partition]
        assert offsets == list(range(len(offsets)))
    ends = {p: sum(at == p for at, _, _ in found) for p, _, _ in found}
    assert cluster.committed(topic, "g") == ends
    assert sw.run(graph, runner=runner, workers=2).events_in == 0, "the group stands behind all of it"


@pytest.mark.parametrize("runner", RUNNERS)
def test_offsets_are_not_committed_beyond_a_number_that_failed(cluster: MockKafka, runner: Any) -> None:
    topic = cluster.create("events")
    cluster.produce(topic, values(100), partition=0)
    graph, found = sw.Graph(), []

    def work(message: Any) -> bytes:
        if message.offset == 60:
            raise ValueError("no")
        return bytes(message.value)

    source = kafka(topic, group="g", bootstrap_servers=cluster.servers, stop_at_end=True)
    graph.source(source).map(work).sink(found.append)
    with pytest.raises(sw.HandlerError):
        sw.run(graph, runner=runner, workers=2)
    assert found == values(60)
    assert cluster.committed(topic, "g").get(0, 0) <= 60


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_run_from_topic_to_topic_delivers_all_once_and_in_order(cluster: MockKafka, runner: Any) -> None:
    cluster.create("in", partitions=1)
    cluster.create("out", partitions=1)
    cluster.produce("in", values(2000), partition=0)
    graph = sw.Graph()
    source = kafka("in", group="g", bootstrap_servers=cluster.servers, stop_at_end=True)
    sink = kafka_sink("out", bootstrap_servers=cluster.servers)
    graph.source(source).map(lambda m: m.value).sink(sink)
    sw.run(graph, runner=runner, workers=2)
    assert [message.value() for message in cluster.everything("out")[0]] == values(2000)


@pytest.mark.parametrize("runner", ["inline", slow("processes")])
def test_a_failing_topic_ends_the_run_with_its_name(
    cluster: MockKafka, runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluiceway.nodes.connectors.kafka.source._TOPIC_S", 0.2)  # not for a source in its own process
    graph = sw.Graph()
    graph.source(kafka("nowhere", group="g", bootstrap_servers=cluster.servers)).sink(print)
    with pytest.raises(sw.SourceError, match="no topic 'nowhere'"):
        sw.run(graph, runner=runner, workers=1)


# Deaths


@pytest.mark.parametrize("lives", [(31,), slow((14, 31, 26, 38))])
def test_whenever_a_run_dies_nothing_is_lost_or_doubled(cluster: MockKafka, lives: tuple[int, ...]) -> None:
    chance = random.Random(5)
    for topic in ("in", "out"):
        cluster.create(topic)
    cluster.produce("in", values(600), keys=True)
    source = kafka("in", group="g", bootstrap_servers=cluster.servers, stop_at_end=True, config=QUICK)

    def sink() -> Any:
        return kafka_sink("out", bootstrap_servers=cluster.servers, key=lambda v: v[-1:], config={"linger.ms": 1})

    run = MiniRun(source, sink, lambda message: message.value)
    for steps in lives:
        assert not run.live(steps, limit=12, commit_each=chance.randrange(1, 6))
        # what a killed process leaves: some of it sent, no farewell to the group
        run.sink._producer.flush(chance.choice([0, 5]))
        run.sink._producer.purge()
        run.sink = run.reader = None
    assert run.live(10_000, limit=100, commit_each=3)
    out = cluster.everything("out")
    assert sorted(message.value() or b"" for messages in out.values() for message in messages) == values(600)
    for messages in out.values():
        numbers = [(message.headers() or [("", b"")])[0][1].split(b"/")[1] for message in messages]
        assert numbers == sorted(numbers, key=int)
    assert cluster.committed("in", "g") == {p: len(m) for p, m in cluster.everything("in").items() if m}


# The ready-made graph


def user_events(count: int) -> list[bytes]:
    """Return JSON user events, every third a login, and some that are none."""
    kinds = ("user_login", "page_view", "search")
    events = [json.dumps({"type": kinds[n % 3], "user": f"u{n}"}).encode() for n in range(count)]
    events[7:7] = [b"not json"]
    return events


def logins_of(events: list[bytes]) -> list[Any]:
    return [json.loads(event) for event in events if b"user_login" in event]


def test_the_ready_graph_prints_logins_in_order(cluster: MockKafka, tmp_path: Path) -> None:
    cluster.create("event_topic")
    cluster.produce("event_topic", events := user_events(300), partition=2)
    command = [*SLUICEWAY, "run", "sluiceway.graphs.kafka_logins:logins"]
    settings = [f"bootstrap_servers={cluster.servers}", "stop_at_end=true"]
    done = subprocess.run(
        [*command, *(part for setting in settings for part in ("--set", setting))],
        capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")] == logins_of(events)
    [letter] = (tmp_path / "rejected.jsonl").read_text().splitlines()
    assert "JSONDecodeError" in json.loads(letter)["error"]
    assert cluster.committed("event_topic", "event_group") == {2: 301}


def test_the_ready_graph_waits_for_more_until_ctrl_c(cluster: MockKafka, tmp_path: Path) -> None:
    cluster.create("event_topic")
    command = [*SLUICEWAY, "run", "sluiceway.graphs.kafka_logins:logins"]
    process = subprocess.Popen(
        [*command, "--set", f"bootstrap_servers={cluster.servers}", "--workers", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    watchdog = threading.Timer(60, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        for event in user_events(9):
            cluster.produce("event_topic", [event], partition=0)
            if event in (logins := [e for e in user_events(9) if b"user_login" in e]):
                assert json.loads(process.stdout.readline()) == json.loads(logins[logins.index(event)])
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130, said
    finally:
        watchdog.cancel()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def test_the_ready_graph_is_one_that_people_can_copy() -> None:
    graph = kafka_logins.logins(bootstrap_servers="a:1", event_topic="t", event_group="g")
    plan = str(sw.compile(graph, workers=1))
    assert "events" in plan


# The page


def test_the_examples_print_what_they_say(cluster: MockKafka, capsys: pytest.CaptureFixture[str]) -> None:
    for topic in ("event_topic", "shouts"):
        cluster.create(topic)
    check_examples("kafka", 2, capsys, server=("localhost:9092", cluster.servers))
    assert sum(map(len, cluster.everything("shouts").values())) == 3
