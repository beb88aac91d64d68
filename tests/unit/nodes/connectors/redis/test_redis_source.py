"""The readers of the Redis source, driven by hand against a real server."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest
from redis_server import PASSWORD, RedisServer, redis_server
from sluiceway.nodes.connectors.redis.api import RedisEntry, redis
from sluiceway.nodes.errors import GraphError

MANY = 1 << 20


def fill(db: Any, count: int, begin: int = 0) -> list[str]:
    """Add entries with the field n; gives their ids."""
    pipe = db.pipeline(transaction=False)
    for number in range(begin, begin + count):
        pipe.xadd("s", {"n": number})
    return [entry_id.decode() for entry_id in pipe.execute()]


def open_reader(server: RedisServer, position: Any = None, **options: Any) -> Any:
    return redis("s", url=server.url, **options).reader(position)


def read_all(reader: Any, limit: int = 100) -> list[int]:
    """Read to the end; gives the numbers."""
    found: list[int] = []
    while (entries := reader.read(limit, MANY)) is not None:
        found += numbers(entries)
    return found


def numbers(entries: list[RedisEntry]) -> list[int]:
    return [int(entry.fields[b"n"]) for entry in entries]


def read_some(reader: Any, limit: int = 100) -> list[RedisEntry]:
    """Read until something is there."""
    for _ in range(100):
        if entries := reader.read(limit, MANY):
            return list(entries)
    raise AssertionError("nothing came")


# By ids


def test_a_stream_is_read_in_order_to_its_end(server: RedisServer, db: Any) -> None:
    ids = fill(db, 250)
    reader = open_reader(server, stop_at_end=True)
    first = reader.read(7, MANY)
    fill(db, 10, 250)
    assert [entry.id for entry in first] == ids[:7]
    assert first[0] == RedisEntry(ids[0], {b"n": b"0"}) == pickle.loads(pickle.dumps(first[0]))
    assert numbers(first) + read_all(reader, 40) == list(range(250))
    reader.close()


def test_reading_goes_on_exactly_behind_a_position_to_the_same_end(server: RedisServer, db: Any) -> None:
    fill(db, 100)
    reader = open_reader(server, stop_at_end=True)
    before = numbers(reader.read(33, MANY))
    place = pickle.loads(pickle.dumps(reader.position()))
    reader.close()
    fill(db, 20, 100)
    again = open_reader(server, place, stop_at_end=True)
    assert before + read_all(again, 10) == list(range(100))
    again.close()


def test_entries_that_come_later_are_given(server: RedisServer, db: Any) -> None:
    reader = open_reader(server)
    assert reader.read(10, MANY) == []
    fill(db, 3)
    assert numbers(read_some(reader)) == [0, 1, 2]
    assert reader.read(10, MANY) == []
    fill(db, 2, 3)
    assert numbers(read_some(reader)) == [3, 4]
    reader.close()


def test_a_reader_may_begin_with_what_comes_from_now_on(server: RedisServer, db: Any) -> None:
    fill(db, 5)
    reader = open_reader(server, start="$")
    place = reader.position()
    reader.close()
    fill(db, 2, 5)
    again = open_reader(server, place, start="$")
    assert numbers(read_some(again)) == [5, 6]
    again.close()


def test_a_read_gives_no_more_than_it_may(server: RedisServer, db: Any) -> None:
    for number in range(30):
        db.xadd("s", {"n": number, "text": "x" * 1000})
    reader = open_reader(server, stop_at_end=True)
    sizes = []
    while (entries := reader.read(6, 3500)) is not None:
        sizes.append(len(entries))
    assert sizes[0] == 6
    assert sizes[1:] == [3] * 8
    reader.close()


def test_entries_that_were_trimmed_before_they_were_read_are_missed(server: RedisServer, db: Any) -> None:
    fill(db, 100)
    reader = open_reader(server)
    reader.read(10, MANY)
    db.xtrim("s", maxlen=50, approximate=False)
    with pytest.raises(LookupError, match="may have been trimmed before they were read"):
        reader.read(10, MANY)
    reader.close()
    db.xtrim("s", maxlen=0, approximate=False)
    with pytest.raises(LookupError, match="may have been trimmed"):
        open_reader(server, reader.position()).read(10, MANY)


def test_trimming_what_was_read_is_no_loss(server: RedisServer, db: Any) -> None:
    ids = fill(db, 100)
    reader = open_reader(server)
    reader.read(10, MANY)
    db.xtrim("s", minid=ids[9], approximate=False)
    assert numbers(reader.read(10, MANY)) == list(range(10, 20))
    db.xdel("s", ids[19])  # deleted by itself: older ones are still there
    assert numbers(reader.read(10, MANY)) == list(range(20, 30))
    assert numbers(reader.read(100, MANY)) == list(range(30, 100))
    db.xtrim("s", maxlen=0, approximate=False)
    assert reader.read(10, MANY) == []
    assert read_all(open_reader(server, stop_at_end=True)) == []
    reader.close()


# In a group


def grouped(server: RedisServer, position: Any = None, **options: Any) -> Any:
    return open_reader(server, position, **{"group": "g", "stop_at_end": True, **options})


def pending(db: Any) -> int:
    return int(db.xpending("s", "g")["pending"])


def test_entries_are_acknowledged_when_they_are_done_and_no_others(server: RedisServer, db: Any) -> None:
    fill(db, 100)
    reader = grouped(server)
    assert numbers(reader.read(30, MANY)) == list(range(30))
    place = reader.position()
    assert numbers(reader.read(30, MANY)) == list(range(30, 60))
    assert pending(db) == 60
    reader.acknowledge(place)
    assert pending(db) == 30
    reader.close()
    again = grouped(server)
    assert read_all(again, 20) == list(range(30, 100))
    again.acknowledge(again.position())
    again.acknowledge(place)
    assert pending(db) == 0
    again.close()


def test_two_consumers_share_a_stream(server: RedisServer, db: Any) -> None:
    fill(db, 40)
    one, two = grouped(server, consumer="one"), grouped(server, consumer="two")
    found = numbers(one.read(15, MANY)) + numbers(two.read(15, MANY)) + read_all(one)
    assert two.read(10, MANY) is None
    assert found == list(range(40))
    one.acknowledge(one.position())
    assert pending(db) == 15, "what the other was given is not this one's to acknowledge"
    one.close()
    two.close()


def test_a_resumed_reader_replays_its_log_and_goes_on(server: RedisServer, db: Any) -> None:
    fill(db, 100)
    reader = grouped(server)
    reader.read(20, MANY)
    place = reader.position()
    logged = []
    for _ in range(2):
        entries = reader.read(10, MANY)
        logged.append((pickle.loads(pickle.dumps(reader.extent())), entries, reader.position()))
    reader.read(10, MANY)  # given, but the process died before it was logged
    reader.close()
    again = grouped(server, place)
    assert pending(db) == 30, "what the checkpoint covers is acknowledged now"
    for extent, entries, behind in logged:
        assert again.replay(extent) == entries
        assert again.position() == behind
    assert read_all(again, 7) == list(range(40, 100))
    again.acknowledge(again.position())
    assert pending(db) == 0
    again.close()


def test_entries_of_a_log_that_were_deleted_are_named(server: RedisServer, db: Any) -> None:
    ids = fill(db, 10)
    reader = grouped(server)
    reader.read(5, MANY)
    extent = reader.extent()
    reader.close()
    db.xdel("s", ids[2])
    again = grouped(server, ("0-0", None))
    with pytest.raises(LookupError, match=rf"the entry {ids[2]} was deleted"):
        again.replay(extent)
    again.close()
    anew = grouped(server)
    with pytest.raises(LookupError, match=rf"the entry {ids[2]}, which consumer 'sluiceway' was given"):
        anew.read(10, MANY)
    anew.close()


def test_a_stream_that_was_deleted_and_made_anew_is_told(server: RedisServer, db: Any) -> None:
    for number in range(9):
        db.xadd("s", {"n": number}, id=f"{number + 100}-0")
    reader = open_reader(server, stop_at_end=True)
    reader.read(5, MANY)
    place = reader.position()
    reader.close()
    db.delete("s")
    for number in range(3):
        db.xadd("s", {"n": number}, id=f"{number + 1}-0")
    for ends in (True, False):
        again = open_reader(server, place, stop_at_end=ends)
        with pytest.raises(LookupError, match=r"the entry 104-0 was read, but .* it was deleted and made anew"):
            again.read(10, MANY)
        again.close()


def test_an_entry_with_a_field_twice_is_refused_by_its_id(server: RedisServer, db: Any) -> None:
    fill(db, 2)
    twice = db.execute_command("XADD", "s", "*", "n", "1", "n", "2").decode()
    for options in ({}, {"group": "g"}):
        reader = open_reader(server, stop_at_end=True, **options)
        with pytest.raises(ValueError, match=rf"the entry {twice} has a field twice, which an event cannot hold"):
            read_all(reader, 1)
        reader.close()
    db.xdel("s", twice)
    assert read_all(open_reader(server, stop_at_end=True)) == [0, 1]


def test_all_pending_entries_that_were_deleted_are_named_at_once(server: RedisServer, db: Any) -> None:
    ids = fill(db, 5)
    reader = grouped(server)
    reader.read(5, MANY)
    reader.close()
    db.xtrim("s", maxlen=2, approximate=False)
    anew = grouped(server)
    with pytest.raises(LookupError, match=rf"3 entries \({' '.join(ids[:3])}\), which consumer 'sluiceway' was given"):
        anew.read(10, MANY)
    anew.close()
    db.xack("s", "g", *ids[:3])
    assert read_all(grouped(server)) == [3, 4]


def test_an_answer_that_is_lost_loses_no_entry(server: RedisServer, db: Any) -> None:
    fill(db, 30)
    reader = grouped(server)
    found = numbers(reader.read(10, MANY))
    # what a lost answer is to the server: given to this consumer, never seen by it
    db.xreadgroup("g", "sluiceway", {"s": ">"}, count=10)
    real, failing = reader._client.xreadgroup, reader._passing[0]("connection lost")

    def lost(*_: Any, **__: Any) -> Any:
        reader._client.xreadgroup = real
        raise failing

    reader._client.xreadgroup = lost
    assert reader.read(10, MANY) == []
    assert found + read_all(reader, 10) == list(range(30))
    reader.close()


def test_a_server_that_is_away_for_a_moment_is_waited_for(tmp_path: Any) -> None:
    with redis_server(tmp_path) as server:
        with server.client() as db:
            fill(db, 60)
        alone, sharing = open_reader(server, stop_at_end=True), grouped(server)
        found = [numbers(reader.read(20, MANY)) for reader in (alone, sharing)]
        place = sharing.position()
        server.stop()
        sharing.acknowledge(place)
        assert sharing.read(10, MANY) == []
        server.start()
        assert found[0] + read_all(alone) == list(range(60))
        assert found[1] + read_all(sharing) == list(range(60))
        with server.client() as db:
            assert pending(db) == 40
        alone.close()
        sharing.close()


# Both


@pytest.mark.parametrize("group", [None, "g"])
def test_closing_from_another_thread_ends_the_reading(server: RedisServer, db: Any, group: str | None) -> None:
    fill(db, 5)
    reader = open_reader(server, group=group)
    read_some(reader)
    closing = threading.Thread(target=reader.close)
    closing.start()
    closing.join()
    assert reader.read(10, MANY) is None
    if group is not None:
        reader.acknowledge(reader.position())
        assert pending(db) == 0
    reader.close()


def test_what_is_wrong_with_the_arguments_is_said_when_the_source_is_made() -> None:
    for wrong, text in (
        ({"stream": ""}, "the stream must be a name"),
        ({"url": "localhost:6379"}, "redis://"),
        ({"url": f"redis://:{PASSWORD}@host:port"}, "redis://"),
        ({"group": ""}, "group must be a name"),
        ({"start": "yesterday"}, "start is the id"),
    ):
        with pytest.raises(GraphError, match=text) as caught:
            redis(**{"stream": "s", "url": "redis://localhost", **wrong})
        assert PASSWORD not in str(caught.value)
    with pytest.raises(GraphError, match="a pair of ids"):
        redis("s", url="redis://localhost").reader("5-1")


def test_a_password_is_never_shown_and_a_source_can_be_pickled(server: RedisServer) -> None:
    source = redis("s", url=server.url, group="g")
    assert repr(source) == "redis('s', group='g')"
    assert source.replay == "logged"
    assert redis("s", url=server.url).replay == "exact"
    assert pickle.loads(pickle.dumps(source)) == source
    wrong = redis("s", url=server.url.replace(PASSWORD, "wrong-word"))
    with pytest.raises(Exception, match=r"(?i)password") as caught:
        wrong.reader(None).read(1, 1)
    assert "wrong-word" not in repr(caught.value)
