"""The Kafka sink, driven by hand against a mock cluster: numbers in headers, crashes, and brokers that refuse."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from marks import slow
from mock_kafka import PRODUCE, MockKafka, mock_kafka
from sluiceway.nodes.connectors.kafka.api import KafkaSink, kafka_sink
from sluiceway.nodes.connectors.kafka.sink import NotDelivered
from sluiceway.nodes.connectors.kafka.topic_tail import number_in
from sluiceway.nodes.errors import CheckpointError, GraphError
from sluiceway.nodes.sinks import BadEvent, Batch

#: Keys that go to all four partitions.
KEYS = 7


def make(cluster: MockKafka, topic: str, **options: Any) -> KafkaSink:
    """Make a sink of numbers: the event `n` has one of a few keys and becomes a text."""
    options = {"key": lambda n: f"k{n % KEYS}", "value": str, "config": {"linger.ms": 1}, **options}
    return kafka_sink(topic, bootstrap_servers=cluster.servers, **options)


def batch(begin: int, end: int) -> Batch[int]:
    """Return events `begin` to `end` - 1; event `n` has the number n // 2 and the index n % 2."""
    return Batch(range(begin, end), [(n // 2, n % 2) for n in range(begin, end)])


def opened(cluster: MockKafka, topic: str, **options: Any) -> tuple[KafkaSink, Any]:
    sink = make(cluster, topic, **options)
    sink.open()
    return sink, sink.commit(-1)


def resumed(cluster: MockKafka, topic: str, token: Any) -> tuple[KafkaSink, int]:
    sink = make(cluster, topic)
    return sink, sink.recover(pickle.loads(pickle.dumps(token)))


def crash(sink: KafkaSink) -> None:
    """Drop a sink as a killed process does: what is not sent is not sent, and nobody waits for anything."""
    sink._producer.purge(in_flight=False)
    sink._producer.poll(0)


def assert_once(cluster: MockKafka, topic: str, count: int) -> None:
    """Assert that a topic holds each event once, and each partition in order."""
    found = [[int(m.value() or b"") for m in messages] for messages in cluster.everything(topic).values()]
    assert sorted(value for values in found for value in values) == list(range(count))
    for values in found:
        assert values == sorted(values)


def test_messages_carry_their_numbers_and_stand_in_order(cluster: MockKafka, topic: str) -> None:
    sink, token = opened(cluster, topic)
    assert token["n"] == -1
    for begin in range(0, 1000, 50):
        sink.write(batch(begin, begin + 50))
    token = sink.commit(499)
    sink.close()
    assert_once(cluster, topic, 1000)
    for messages in cluster.everything(topic).values():
        for message in messages:
            value = int(message.value() or b"")
            assert number_in(message.headers(), token["run"]) == (value // 2, value % 2)
            assert message.key() == b"k%d" % (value % KEYS)
    assert token["ends"] == {p: len(messages) for p, messages in cluster.everything(topic).items()}


def test_a_commit_means_that_all_of_it_is_with_the_brokers(cluster: MockKafka, topic: str) -> None:
    sink, _ = opened(cluster, topic, config={"linger.ms": 5000})
    sink.write(batch(0, 100))
    sink.commit(49)
    assert_once(cluster, topic, 100)
    sink.abort()


@pytest.mark.parametrize("sent", [slow(0), slow(1), 37, slow(200)])
def test_what_a_run_that_died_had_sent_is_not_sent_again(cluster: MockKafka, topic: str, sent: int) -> None:
    sink, _ = opened(cluster, topic)
    sink.write(batch(0, 100))
    token = sink.commit(49)
    sink.write(batch(100, 100 + sent))
    sink._producer.flush(10)
    crash(sink)
    again, last = resumed(cluster, topic, token)
    assert last == 49
    for begin in range(100, 400, 60):
        again.write(batch(begin, begin + 60))
    again.commit(199)
    again.close()
    assert_once(cluster, topic, 400)


def test_partitions_that_died_at_different_places_are_both_completed(cluster: MockKafka, topic: str) -> None:
    sink, token = opened(cluster, topic)
    sink.write(batch(0, 60))
    sink._producer.flush(10)
    crash(sink)
    hidden = {p: messages for p, messages in cluster.everything(topic).items() if messages}
    assert len(hidden) > 1
    # as if the partitions but one had not got the last of it
    again, _ = resumed(cluster, topic, token)
    kept = next(iter(hidden))
    again._there = {number: place for number, place in again._there.items() if place[0] == kept}
    again.write(batch(0, 60))
    again.commit(29)
    again.close()
    values = [int(m.value() or b"") for m in cluster.everything(topic)[kept]]
    assert values == [int(m.value() or b"") for m in hidden[kept]], "nothing was sent again to the one that has it"
    for partition, before in hidden.items():
        if partition != kept:
            assert len(cluster.everything(topic)[partition]) == 2 * len(before)


def test_a_second_death_before_the_next_commits_finds_what_both_have_sent(cluster: MockKafka, topic: str) -> None:
    sink, token = opened(cluster, topic)
    sink.write(batch(0, 100))
    sink._producer.flush(10)
    crash(sink)
    second, last = resumed(cluster, topic, token)
    assert last == -1
    second.write(batch(0, 40))
    early = second.commit(19)  # below what the first run had sent
    second.write(batch(40, 150))
    second._producer.flush(10)
    crash(second)
    third, last = resumed(cluster, topic, early)
    assert last == 19
    third.write(batch(40, 200))
    token = third.commit(99)
    third.close()
    assert_once(cluster, topic, 200)
    finished, last = resumed(cluster, topic, token)
    assert last == 99
    finished.close()
    assert_once(cluster, topic, 200)


def test_messages_of_others_in_between_are_left_alone(cluster: MockKafka, topic: str) -> None:
    cluster.produce(topic, [b"other"] * 30, partition=0)
    sink, token = opened(cluster, topic)
    other, _ = opened(cluster, topic, value=lambda n: f"{1000 + n}")
    for begin in range(0, 100, 10):
        sink.write(batch(begin, begin + 10))
        other.write(batch(begin, begin + 10))
    sink._producer.flush(10)
    crash(sink)
    other.close()
    again, _ = resumed(cluster, topic, token)
    again.write(batch(0, 150))
    again.close()
    found = [int(m.value() or b"") for ms in cluster.everything(topic).values() for m in ms if m.value() != b"other"]
    assert sorted(found) == [*range(150), *range(1000, 1100)]


def test_a_topic_whose_tail_is_gone_cannot_be_gone_on_with(cluster: MockKafka, topic: str) -> None:
    sink, _ = opened(cluster, topic)
    sink.write(batch(0, 100))
    token = sink.commit(49)
    sink.write(batch(100, 200))
    sink._producer.flush(10)
    crash(sink)
    partition, messages = next((p, found) for p, found in cluster.everything(topic).items() if found)
    cluster.delete_below(topic, partition, len(messages))
    with pytest.raises(CheckpointError, match=rf"partition {partition} holds offsets .*resume='never'"):
        resumed(cluster, topic, token)


# What goes wrong


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"value": None}, "a value is bytes or str, this one is an int"),
        ({"value": lambda n: [n]}, "a value is bytes or str, this one is a list"),
        ({"key": lambda n: 7}, "a key is bytes or str"),
        ({"value": lambda n: 1 // (n - 3)}, "the function value raised ZeroDivisionError"),
    ],
)
def test_an_event_that_is_no_message_is_named_by_its_position(
    cluster: MockKafka, topic: str, options: dict[str, Any], text: str
) -> None:
    sink, _ = opened(cluster, topic, **{"value": lambda n: "x", **options})
    sink._producer.poll(0)
    with pytest.raises(BadEvent, match=text) as caught:
        sink.write(batch(3, 5))
    assert caught.value.position == 0
    sink.abort()


def test_a_message_that_is_too_large_is_named_and_all_before_it_is_sent(cluster: MockKafka, topic: str) -> None:
    sink, _ = opened(cluster, topic, value=lambda n: "x" * (2_000_000 if n == 5 else 1))
    with pytest.raises(BadEvent, match="2,000,000") as caught:
        sink.write(batch(2, 9))
    assert caught.value.position == 3
    assert "xx" not in str(caught.value)
    sink.commit(2)
    sink.abort()
    assert sum(map(len, cluster.everything(topic).values())) == 3


def test_nothing_is_sent_of_a_tombstone_but_its_key(cluster: MockKafka, topic: str) -> None:
    sink, _ = opened(cluster, topic, value=lambda n: None)
    sink.write(batch(0, 1))
    sink.close()
    [message] = [m for messages in cluster.everything(topic).values() for m in messages]
    assert (message.key(), message.value()) == (b"k0", None)


def test_what_the_brokers_refuse_is_an_error_with_the_number() -> None:
    with mock_kafka() as cluster:
        sink, _ = opened(cluster, cluster.create("refused"))
        cluster.fail(PRODUCE, *[29] * 10)  # TOPIC_AUTHORIZATION_FAILED
        sink.write(batch(6, 8))
        with pytest.raises(NotDelivered, match=r"number 3 \(index [01]\).*TOPIC_AUTHORIZATION_FAILED") as caught:
            sink.commit(3)
        number = caught.value.number
        assert number in ((3, 0), (3, 1))
        with pytest.raises(NotDelivered) as caught:
            sink.write(batch(6, 8))
        assert caught.value.position == number[1]
        sink.abort()


def test_errors_that_pass_are_ridden_out_without_a_gap_or_a_double() -> None:
    with mock_kafka() as cluster:
        topic = cluster.create("rough")
        sink, token = opened(cluster, topic, config={"linger.ms": 1, "retry.backoff.ms": 20})
        for begin in range(0, 300, 100):
            cluster.fail(PRODUCE, 7, 6, 20)  # REQUEST_TIMED_OUT, NOT_LEADER_FOR_PARTITION, NOT_ENOUGH_REPLICAS_AFTER_APPEND
            sink.write(batch(begin, begin + 100))
            token = sink.commit((begin + 99) // 2)
        sink.close()
        assert token["n"] == 149
        assert_once(cluster, topic, 300)


def test_a_broker_that_is_away_for_a_while_holds_the_commit_back() -> None:
    with mock_kafka() as cluster:
        topic = cluster.create("away")
        config = {"linger.ms": 1, "reconnect.backoff.max.ms": 100, "message.timeout.ms": 1500}
        sink, _ = opened(cluster, topic, config=config)
        cluster.set_down()
        sink.write(batch(0, 10))
        with pytest.raises(NotDelivered, match=r"number \d \(index \d\).*_MSG_TIMED_OUT"):
            sink.commit(4)
        sink.abort()
        cluster.set_down(down=False)
        assert sum(map(len, cluster.everything(topic).values())) == 0


def test_a_topic_that_is_not_there_is_named(cluster: MockKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluiceway.nodes.connectors.kafka.sink._MAKING_S", 0.2)
    cluster.forget("nowhere")
    sink = make(cluster, "nowhere")
    with pytest.raises(LookupError, match="no topic 'nowhere'"):
        sink.open()
    sink.abort()


def test_what_is_wrong_with_the_arguments_is_said_when_the_sink_is_made() -> None:
    good: dict[str, Any] = {"topic": "t", "bootstrap_servers": "a:1"}
    for wrong, text in (
        ({"topic": 7}, "name of one topic"),
        ({"key": "user"}, "key must be a function"),
        ({"config": {"transactional.id": "x"}}, "no transactions"),
        ({"config": ["linger.ms"]}, "config must be a dict"),
    ):
        with pytest.raises(GraphError, match=text):
            kafka_sink(**{**good, **wrong})
    sink = kafka_sink("t", bootstrap_servers="a:1", config={"sasl.password": "hunter2"})
    assert repr(sink) == "kafka_sink('t')"
    assert sink.delivery == "effectively-once"
    assert pickle.loads(pickle.dumps(sink)).config == sink.config
    sink.close()
