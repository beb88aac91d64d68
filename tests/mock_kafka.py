"""A Kafka cluster for tests: librdkafka's mock, inside this process, on real TCP ports of the loopback.

It speaks produce, consume, groups and commits, and does what a test asks: brokers go down, requests fail, records are
deleted. It does not enforce transactions, nor who owns a partition. The fixtures `cluster`, one for each test module,
and `topic` are there in every test, by way of `conftest.py`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import confluent_kafka

_POINTER = ctypes.c_void_p
_SIGNATURES: dict[str, tuple[Any, Sequence[Any]]] = {
    "rd_kafka_new": (_POINTER, [ctypes.c_int, _POINTER, ctypes.c_char_p, ctypes.c_size_t]),
    "rd_kafka_conf_new": (_POINTER, []),
    "rd_kafka_conf_set": (ctypes.c_int, [_POINTER, *[ctypes.c_char_p] * 3, ctypes.c_size_t]),
    "rd_kafka_destroy": (None, [_POINTER]),
    "rd_kafka_mock_cluster_new": (_POINTER, [_POINTER, ctypes.c_int]),
    "rd_kafka_mock_cluster_destroy": (None, [_POINTER]),
    "rd_kafka_mock_cluster_bootstraps": (ctypes.c_char_p, [_POINTER]),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [_POINTER, ctypes.c_int32]),
    "rd_kafka_mock_topic_create": (ctypes.c_int, [_POINTER, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]),
    "rd_kafka_mock_topic_set_error": (None, [_POINTER, ctypes.c_char_p, ctypes.c_int]),
    "rd_kafka_mock_broker_set_down": (ctypes.c_int, [_POINTER, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_up": (ctypes.c_int, [_POINTER, ctypes.c_int32]),
    "rd_kafka_mock_partition_delete_records": (
        ctypes.c_int,
        [_POINTER, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int64],
    ),
    "rd_kafka_mock_push_request_errors_array": (
        None,
        [_POINTER, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)],
    ),
}
#: Numbers of requests in Kafka's protocol.
PRODUCE, FETCH, OFFSET_COMMIT = 0, 1, 8

#: Settings that make members of a group notice each other within a second.
QUICK = {"session.timeout.ms": 1300, "heartbeat.interval.ms": 100, "fetch.wait.max.ms": 20}


def _library() -> Any:
    import confluent_kafka

    packages = Path(confluent_kafka.__file__).parent.parent
    found = sorted(packages.glob("confluent_kafka.libs/librdkafka*"))
    if not found:
        pytest.skip("this build of confluent-kafka has its librdkafka inside: no mock cluster can be controlled")
    library = ctypes.CDLL(str(found[0]))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class MockKafka:
    """A running mock cluster. Topics are made with four partitions by the first producer, or by `create`."""

    def __init__(self, brokers: int) -> None:
        self._library = _library()
        conf, error = self._library.rd_kafka_conf_new(), ctypes.create_string_buffer(512)
        for name, value in ((b"bootstrap.servers", b"127.0.0.1:1"), (b"log_level", b"0")):
            assert self._library.rd_kafka_conf_set(conf, name, value, error, 512) == 0, error.value
        self._handle = self._library.rd_kafka_new(0, conf, error, 512)
        assert self._handle, error.value
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, brokers)
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 10)
        self.servers: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def close(self) -> None:
        """End the cluster."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._handle)

    # What a test asks for

    def create(self, topic: str, partitions: int = 4) -> str:
        """Make a topic."""
        assert self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1) == 0
        return topic

    def forget(self, topic: str) -> None:
        """Answer from now on that there is no such topic."""
        self._library.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), 3)

    def set_down(self, broker: int = 1, *, down: bool = True) -> None:
        """Take a broker down, or up again."""
        name = "rd_kafka_mock_broker_set_down" if down else "rd_kafka_mock_broker_set_up"
        assert getattr(self._library, name)(self._cluster, broker) == 0

    def delete_below(self, topic: str, partition: int, offset: int) -> None:
        """Delete the messages of a partition below an offset, as retention does."""
        self._library.rd_kafka_mock_partition_delete_records(self._cluster, topic.encode(), partition, offset)

    def fail(self, request: int, *errors: int) -> None:
        """Answer the next requests of a kind with these errors, by their numbers in Kafka's protocol."""
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, request, len(errors), (ctypes.c_int * len(errors))(*errors)
        )

    # What stands in it

    def produce(self, topic: str, values: Sequence[bytes], *, partition: int | None = None, keys: bool = False) -> None:
        """Send values as a user's producer does, to one partition or (with `keys`) spread by their key."""
        import confluent_kafka

        settings = {"bootstrap.servers": self.servers, "linger.ms": 1, "queue.buffering.max.messages": 0}
        producer = confluent_kafka.Producer(settings)
        for value in values:
            where = {} if partition is None else {"partition": partition}
            producer.produce(topic, value=value, **({"key": value[-1:]} if keys else {}), **where)
        assert producer.flush(20) == 0

    def everything(self, topic: str) -> dict[int, list[confluent_kafka.Message]]:
        """Return all messages of a topic by partition, in their order."""
        import confluent_kafka

        settings = {"bootstrap.servers": self.servers, "group.id": "everything", "enable.partition.eof": True}
        consumer = confluent_kafka.Consumer({**settings, "fetch.wait.max.ms": 20})
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([confluent_kafka.TopicPartition(topic, p, confluent_kafka.OFFSET_BEGINNING) for p in partitions])
        found: dict[int, list[confluent_kafka.Message]] = {p: [] for p in partitions}
        ended: set[int | None] = set()
        while len(ended) < len(found):
            message = consumer.poll(10)
            assert message is not None, f"topic {topic} was not read to its end"
            if message.error():
                ended.add(message.partition())
            else:
                found[message.partition() or 0].append(message)
        consumer.close()
        return found

    def committed(self, topic: str, group: str) -> dict[int, int]:
        """Return the offsets that a group has committed; partitions without are left out."""
        import confluent_kafka

        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.servers, "group.id": group})
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        places = consumer.committed([confluent_kafka.TopicPartition(topic, p) for p in partitions], timeout=10)
        consumer.close()
        return {place.partition: place.offset for place in places if place.offset >= 0}


@contextmanager
def mock_kafka(brokers: int = 1) -> Iterator[MockKafka]:
    """Run a mock cluster."""
    cluster = MockKafka(brokers)
    try:
        yield cluster
    finally:
        cluster.close()


def values(count: int, begin: int = 0) -> list[bytes]:
    """Return values that sort in the order they were made."""
    return [b"%05d" % number for number in range(begin, begin + count)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[MockKafka]:
    """Return the cluster of this test module, for the tests that leave it whole; each has its own topic."""
    with mock_kafka() as running:
        yield running


@pytest.fixture
def topic(cluster: MockKafka, request: pytest.FixtureRequest) -> str:
    """Make a topic of four partitions, named after the test."""
    return cluster.create(request.node.name[:100].replace("[", "-").replace("]", ""))
