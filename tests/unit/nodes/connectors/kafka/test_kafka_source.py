"""The reader of the Kafka source, driven by hand against a mock cluster: places, extents, groups and commits."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from marks import slow
from mock_kafka import FETCH, OFFSET_COMMIT, QUICK, MockKafka, mock_kafka, values
from sluiceway.nodes.connectors.kafka.api import KafkaMessage, kafka
from sluiceway.nodes.connectors.kafka.source import KafkaReader
from sluiceway.nodes.errors import GraphError

MANY = 1 << 20


def open_reader(cluster: MockKafka, topic: str, position: Any = None, **options: Any) -> KafkaReader:
    options = {"group": "g-" + topic, "config": QUICK, **options}
    return kafka(topic, bootstrap_servers=cluster.servers, **options).reader(position)


def read_all(reader: KafkaReader, limit: int = 100) -> list[KafkaMessage]:
    """Read to the end."""
    found: list[KafkaMessage] = []
    while (events := reader.read(limit, MANY)) is not None:
        found += events
    return found


def read_until(reader: KafkaReader, count: int, limit: int = 100) -> list[KafkaMessage]:
    """Read at least `count` messages."""
    found: list[KafkaMessage] = []
    wait_until(lambda: bool(found.extend(reader.read(limit, MANY) or ()) or len(found) >= count))
    return found


def wait_until(happened: Callable[[], bool], seconds: float = 20) -> None:
    """Call `happened`, which itself waits or polls, until it says so."""
    end_at = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end_at, "it did not happen in time"


def by_partition(messages: list[KafkaMessage]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for message in messages:
        found.setdefault(message.partition, []).append(message.offset)
    return found


# Reading


def test_a_topic_is_read_to_its_end_and_each_partition_in_order(cluster: MockKafka, topic: str) -> None:
    cluster.produce(topic, values(500), keys=True)
    reader = open_reader(cluster, topic, stop_at_end=True)
    messages = read_all(reader, limit=30)
    assert reader.progress() == 1.0
    assert reader.read(10, MANY) is None
    reader.close()
    assert sorted(message.value or b"" for message in messages) == values(500)
    for offsets in by_partition(messages).values():
        assert offsets == list(range(len(offsets)))
    one = messages[0]
    assert (one.topic, one.key, one.headers) == (topic, (one.value or b"")[-1:], ())
    assert abs((one.timestamp or 0) / 1000 - time.time()) < 60
    assert pickle.loads(pickle.dumps(one)) == one


@pytest.mark.parametrize("stop_at_end", [True, False])
def test_a_place_behind_the_end_of_a_topic_that_was_made_anew_is_told(
    cluster: MockKafka, topic: str, stop_at_end: bool
) -> None:
    """The group knows an offset of the old topic; what stands below it in the new one must not pass for read."""
    import confluent_kafka

    cluster.produce(topic, values(3), partition=0)
    settings = {"bootstrap.servers": cluster.servers, "group.id": "g-" + topic}
    earlier = confluent_kafka.Consumer(settings)
    earlier.commit(offsets=[confluent_kafka.TopicPartition(topic, 0, 9)], asynchronous=False)
    earlier.close()
    reader = open_reader(cluster, topic, stop_at_end=stop_at_end)
    with pytest.raises(LookupError, match=r"made anew|offset 9 of partition 0 is gone"):
        wait_until(lambda: reader.read(10, MANY) is None)
    reader.close()


def test_a_read_gives_no_more_than_it_may(cluster: MockKafka, topic: str) -> None:
    cluster.produce(topic, [b"x" * 1000] * 200, partition=0)
    reader = open_reader(cluster, topic, stop_at_end=True)
    sizes = []
    while (events := reader.read(50, 10_000)) is not None:
        sizes.append(len(events))
    reader.close()
    assert sum(sizes) == 200
    assert max(sizes) <= 50
    first = next(number for number, size in enumerate(sizes) if size)
    assert max(sizes[first + 1 :]) <= 10, "the size of messages is known after the first read"


def test_messages_that_come_later_are_given_unless_the_end_was_asked_for(cluster: MockKafka, topic: str) -> None:
    cluster.produce(topic, values(3), partition=1)
    ending, following = open_reader(cluster, topic, stop_at_end=True), open_reader(cluster, topic, group="other-" + topic)
    cluster.produce(topic, values(2, 3), partition=2)
    assert [message.value for message in read_all(ending)] == values(3)
    ending.acknowledge(ending.position())
    assert sorted(message.value or b"" for message in read_until(following, 5)) == values(5)
    cluster.produce(topic, values(1, 5), partition=1)
    assert [message.value for message in read_until(following, 1)] == values(1, 5)
    ending.close()
    following.close()
    again = open_reader(cluster, topic, stop_at_end=True)
    assert sorted(message.value or b"" for message in read_all(again)) == values(3, 3), "what came later is next"
    again.close()


def test_an_empty_topic_has_an_end_too(cluster: MockKafka, topic: str) -> None:
    reader = open_reader(cluster, topic, stop_at_end=True)
    assert read_all(reader) == []
    reader.close()


def test_latest_begins_behind_what_is_there_and_its_position_says_where(cluster: MockKafka, topic: str) -> None:
    cluster.produce(topic, values(10), partition=0)
    reader = open_reader(cluster, topic, start="latest")
    wait_until(lambda: reader.read(10, MANY) == [] and reader.position() == {0: 10, 1: 0, 2: 0, 3: 0})
    place = reader.position()
    reader.close()
    cluster.produce(topic, values(2, 10), partition=0)
    again = open_reader(cluster, topic, place, start="latest")
    assert [message.value for message in read_until(again, 2)] == values(2, 10)
    again.close()


# Places and extents


def test_reading_goes_on_exactly_behind_a_position(cluster: MockKafka, topic: str) -> None:
    cluster.produce(topic, values(300), keys=True)
    reader = open_reader(cluster, topic, stop_at_end=True)
    before = read_until(reader, 100, limit=7)
    place = pickle.loads(pickle.dumps(reader.position()))
    reader.close()
    cluster.produce(topic, values(50, 300), keys=True)
    after = read_all(again := open_reader(cluster, topic, place, stop_at_end=True))
    again.close()
    assert sorted(message.value or b"" for message in before + after) == values(300), "to the end that the first run saw"


def test_extents_give_the_same_messages_again_in_the_same_order(cluster: MockKafka, topic: str) -> None:
    cluster.produce(topic, values(400), keys=True)
    reader = open_reader(cluster, topic, stop_at_end=True)
    logged: list[tuple[Any, list[KafkaMessage], Any]] = []
    while (events := reader.read(37, MANY)) is not None:
        if events:
            logged.append((pickle.loads(pickle.dumps(reader.extent())), list(events), reader.position()))
    reader.close()
    assert sum(count for extent, _, _ in logged for _, _, count in extent) == 400
    cut, place = 3, logged[2][2]
    again = open_reader(cluster, topic, place, stop_at_end=True)
    for extent, events, position in logged[cut:-2]:
        assert again.replay(extent) == events
        assert again.position() == position
    assert sorted(read_all(again)) == sorted(message for _, events, _ in logged[-2:] for message in events)
    again.close()


def test_an_extent_whose_messages_are_gone_is_refused(cluster: MockKafka, topic: str) -> None:
    cluster.produce(topic, values(50), partition=2)
    cluster.delete_below(topic, 2, 20)
    reader = open_reader(cluster, topic, {2: 10})
    with pytest.raises(LookupError, match=r"offset 10 of partition 2 is gone"):
        reader.replay([(2, 10, 5)])
    assert [message.offset for message in reader.replay([(2, 30, 2), (2, 25, 1)])] == [30, 31, 25]
    reader.close()


@pytest.mark.parametrize("offset", [5, 90])
def test_a_place_that_is_gone_is_an_error_and_no_silent_gap(cluster: MockKafka, topic: str, offset: int) -> None:
    cluster.produce(topic, values(50), partition=2)
    cluster.delete_below(topic, 2, 20)
    reader = open_reader(cluster, topic, {2: offset})
    with pytest.raises(LookupError, match=rf"offset {offset} of partition 2 is gone.*20 to 49"):
        read_until(reader, 1)
    reader.close()


def test_a_topic_that_is_not_there_is_named(cluster: MockKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluiceway.nodes.connectors.kafka.source._TOPIC_S", 0.2)
    with pytest.raises(LookupError, match=r"no topic 'nowhere'"):
        open_reader(cluster, "nowhere")


# Groups and commits


def test_only_what_is_acknowledged_is_committed_and_never_backwards(cluster: MockKafka, topic: str) -> None:
    cluster.produce(topic, values(40), partition=0)
    reader = open_reader(cluster, topic)
    read_until(reader, 40)
    assert cluster.committed(topic, "g-" + topic) == {}
    reader.acknowledge({0: 25})
    wait_until(lambda: reader.read(1, MANY) == [] and cluster.committed(topic, "g-" + topic) == {0: 25})
    reader.acknowledge({0: 10})
    reader.close()
    assert cluster.committed(topic, "g-" + topic) == {0: 25}
    again = open_reader(cluster, topic, stop_at_end=True)
    assert [message.offset for message in read_all(again)] == list(range(25, 40))
    again.acknowledge(again.position())
    again.close()
    assert cluster.committed(topic, "g-" + topic) == {0: 40}


def test_a_commit_that_fails_for_a_while_is_repeated(cluster: MockKafka, topic: str) -> None:
    cluster.produce(topic, values(10), partition=0)
    reader = open_reader(cluster, topic)
    read_until(reader, 10)
    cluster.fail(OFFSET_COMMIT, 27, 27)  # REBALANCE_IN_PROGRESS
    reader.acknowledge({0: 10})
    wait_until(lambda: reader.read(1, MANY) == [] and cluster.committed(topic, "g-" + topic) == {0: 10})
    reader.close()


def test_a_commit_that_is_not_allowed_is_an_error(cluster: MockKafka, topic: str) -> None:
    cluster.produce(topic, values(10), partition=0)
    reader = open_reader(cluster, topic)
    read_until(reader, 10)
    cluster.fail(OFFSET_COMMIT, 30)  # GROUP_AUTHORIZATION_FAILED
    reader.acknowledge({0: 10})
    with pytest.raises(PermissionError, match="GROUP_AUTHORIZATION_FAILED"):
        wait_until(lambda: reader.read(1, MANY) is None)
    reader.close()


@pytest.mark.parametrize("strategy", [slow("range"), "cooperative-sticky"])
def test_a_partition_that_another_member_took_is_neither_given_nor_committed(
    cluster: MockKafka, topic: str, strategy: str
) -> None:
    config = {**QUICK, "partition.assignment.strategy": strategy}
    for partition in range(4):
        cluster.produce(topic, values(20), partition=partition)
    first = open_reader(cluster, topic, config=config)
    before = read_until(first, 80)
    first.acknowledge({0: 5, 1: 5, 2: 5, 3: 5})
    second = open_reader(cluster, topic, config=config)
    taken: list[KafkaMessage] = []
    wait_until(
        lambda: (
            first.read(10, MANY) == []
            and bool(taken.extend(second.read(100, MANY) or ()) or len({m.partition for m in taken}) == 2)
            and len(taken) >= 30
        )
    )
    lost = {message.partition for message in taken}
    assert all(offsets == list(range(5, 20)) for offsets in by_partition(taken).values()), "from what was committed on"
    first.acknowledge(dict.fromkeys(range(4), 20))
    wait_until(lambda: first.read(1, MANY) == [] and len(_at(cluster, topic, 20)) == 2)
    assert _at(cluster, topic, 20) == {0, 1, 2, 3} - lost
    second.acknowledge(dict.fromkeys(lost, 17))
    second.close()
    for partition in range(4):
        cluster.produce(topic, values(3, 20), partition=partition)
    after = read_until(first, 12)
    first.acknowledge(dict.fromkeys(range(4), 19))
    first.close()
    assert all(offsets == list(range(23)) for offsets in by_partition(before + after).values())
    assert cluster.committed(topic, "g-" + topic) == dict.fromkeys(range(4), 20), "what came back counts too"


def _at(cluster: MockKafka, topic: str, offset: int) -> set[int]:
    return {p for p, committed in cluster.committed(topic, "g-" + topic).items() if committed == offset}


def test_idling_keeps_the_membership_and_loses_nothing(cluster: MockKafka, topic: str) -> None:
    config = {**QUICK, "max.poll.interval.ms": 1300}
    cluster.produce(topic, values(300), keys=True)
    reader = open_reader(cluster, topic, config=config, stop_at_end=True)
    messages = read_until(reader, 20, limit=20)
    idle_until = time.monotonic() + 1.8
    pause = threading.Event()
    while time.monotonic() < idle_until:
        reader.idle()
        pause.wait(0.3)
    reader.acknowledge(reader.position())
    committed = dict(reader.position())
    messages += read_all(reader)
    assert sorted(message.value or b"" for message in messages) == values(300)
    end = committed.pop("end")
    held = cluster.committed(topic, "g-" + topic)
    assert {p: held.get(p, 0) for p in end} == {p: committed.get(p, 0) for p in end}
    reader.close()


def test_closing_from_another_thread_ends_the_reading_and_the_last_commit_still_counts(
    cluster: MockKafka, topic: str
) -> None:
    cluster.produce(topic, values(10), partition=0)
    reader = open_reader(cluster, topic)
    read_until(reader, 10)
    closing = threading.Thread(target=reader.close)
    closing.start()
    wait_until(lambda: reader.read(10, MANY) is None)
    closing.join()
    reader.acknowledge({0: 10})
    reader.close()
    assert cluster.committed(topic, "g-" + topic) == {0: 10}


# Brokers that fail


def test_a_broker_that_is_away_for_a_while_loses_nothing() -> None:
    with mock_kafka() as cluster:
        topic = cluster.create("away")
        cluster.produce(topic, values(100), partition=0)
        reader = open_reader(cluster, topic, config={**QUICK, "reconnect.backoff.max.ms": 200})
        messages = read_until(reader, 40, limit=40)
        cluster.set_down()
        reader.acknowledge({0: 40})
        for _ in range(5):
            messages += reader.read(100, MANY) or []
        cluster.set_down(down=False)
        cluster.fail(FETCH, 6, 6, 7)  # NOT_LEADER_FOR_PARTITION, REQUEST_TIMED_OUT
        cluster.produce(topic, values(100, 100), partition=0)
        wait_until(lambda: bool(messages.extend(reader.read(100, MANY) or ()) or len(messages) >= 200))
        reader.close()
        assert [message.value for message in messages] == values(200)
        assert cluster.committed(topic, "g-away") == {0: 40}


def test_a_run_that_ends_without_its_brokers_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for patience in ("_END_S", "_LEAVE_S"):
        monkeypatch.setattr(f"sluiceway.nodes.connectors.kafka.group_member.{patience}", 0.5)
    with mock_kafka() as cluster:
        topic = cluster.create("gone")
        cluster.produce(topic, values(10), partition=0)
        reader = open_reader(cluster, topic)
        read_until(reader, 10)
        cluster.set_down()
        reader.acknowledge({0: 10})
        reader.close()
    assert "not all offsets could be committed at the end" in caplog.text


# Arguments


def test_what_is_wrong_with_the_arguments_is_said_when_the_source_is_made() -> None:
    good: dict[str, Any] = {"topic": "t", "group": "g", "bootstrap_servers": ["a:1", "b:2"]}
    assert kafka(**good).bootstrap_servers == "a:1,b:2"
    for wrong, text in (
        ({"topic": ""}, "name of one topic"),
        ({"topic": "^t.*"}, "not a pattern"),
        ({"group": ""}, "consumer group"),
        ({"bootstrap_servers": []}, "bootstrap_servers"),
        ({"start": "middle"}, "'earliest' or 'latest'"),
        ({"config": {"enable.auto.commit": True}}, "must not set 'enable.auto.commit'"),
        ({"config": {"group.id": "x"}}, "pass group="),
    ):
        with pytest.raises(GraphError, match=text):
            kafka(**{**good, **wrong})
    with pytest.raises(GraphError, match="position in a topic is a dict"):
        kafka(**good).reader(7)


def test_a_password_is_never_shown_and_a_source_can_be_pickled() -> None:
    source = kafka("t", group="g", bootstrap_servers="a:1", config={"sasl.password": "hunter2"})
    assert repr(source) == "kafka('t', group='g')"
    assert pickle.loads(pickle.dumps(source)) == source


def test_a_setting_that_nobody_knows_is_named(cluster: MockKafka, topic: str) -> None:
    with pytest.raises(OSError, match=r'No such configuration property: "colour"'):
        open_reader(cluster, topic, config={"colour": "blue"})
