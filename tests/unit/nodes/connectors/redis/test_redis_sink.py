"""The Redis sink, driven by hand against a real server: crashes at every point, take-overs, and the stage."""

from __future__ import annotations

import enum
import pickle
import threading
from typing import Any

import numpy
import pytest
from redis_server import PASSWORD, RedisServer, redis_server
from sluiceway.nodes.connectors.redis import sink as sink_module
from sluiceway.nodes.connectors.redis.api import RedisEntry, RedisSink, redis_sink
from sluiceway.nodes.errors import CheckpointError, GraphError, LockLost
from sluiceway.nodes.sinks import BadEvent, Batch


def batch(begin: int, end: int) -> Batch[dict[str, int]]:
    """Return events `begin` to `end` - 1; event `n` has the number n // 2 and the index n % 2."""
    return Batch([{"n": n} for n in range(begin, end)], [(n // 2, n % 2) for n in range(begin, end)])


def opened(server: RedisServer, **options: Any) -> tuple[RedisSink, Any]:
    sink = redis_sink("s", url=server.url, **options)
    sink.open()
    return sink, sink.commit(-1)


def resumed(server: RedisServer, token: Any, fence: int | None = None) -> tuple[RedisSink, int]:
    sink = redis_sink("s", url=server.url)
    if fence is not None:
        sink.fence(fence)
    return sink, sink.recover(pickle.loads(pickle.dumps(token)))


def held(db: Any) -> list[int]:
    return [int(fields[b"n"]) for _, fields in db.xrange("s")]


def stages(db: Any) -> list[bytes]:
    return list(db.keys("sluiceway:*:stage:*"))


@pytest.fixture(params=[False, True], ids=["in memory", "staged"])
def staged(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run a test twice: with entries that wait here, and on the server."""
    if request.param:
        monkeypatch.setattr(sink_module, "STAGE_BYTES", 100)
    return bool(request.param)


def test_entries_appear_with_a_commit_all_at_once(server: RedisServer, db: Any, staged: bool) -> None:
    sink, token = opened(server)
    assert token["n"] == -1
    sink.write(batch(0, 700))
    sink.write(batch(700, 2000))
    sink.write(batch(2000, 2001))
    assert held(db) == []
    assert bool(stages(db)) is staged
    sink.commit(1000)
    assert held(db) == list(range(2001))
    assert stages(db) == []
    sink.write(batch(2001, 2010))
    sink.commit(1004)
    sink.close()
    assert held(db) == list(range(2010))


def test_what_was_not_committed_is_not_there_after_a_death(server: RedisServer, db: Any, staged: bool) -> None:
    sink, _ = opened(server)
    sink.write(batch(0, 100))
    token = sink.commit(49)
    sink.write(batch(100, 200))
    again, last = resumed(server, token)
    assert last == 49
    assert stages(db) == []
    again.write(batch(100, 300))
    again.commit(149)
    again.close()
    assert held(db) == list(range(300))


def test_a_commit_that_its_checkpoint_does_not_know_of_counts(server: RedisServer, db: Any, staged: bool) -> None:
    sink, _ = opened(server)
    sink.write(batch(0, 100))
    token = sink.commit(49)
    sink.write(batch(100, 200))
    sink.commit(99)
    again, last = resumed(server, token)
    assert last == 99
    again.write(batch(200, 300))
    token = again.commit(149)
    finished, last = resumed(server, token)
    assert last == 149
    finished.close()
    finished, last = resumed(server, token)
    assert last == 149
    finished.close()
    assert held(db) == list(range(300))


def test_a_run_given_up_for_dead_cannot_commit_any_more(server: RedisServer, db: Any, staged: bool) -> None:
    dead, _ = opened(server)
    dead.write(batch(0, 100))
    token = dead.commit(49)
    dead.write(batch(100, 200))
    again, _ = resumed(server, token)
    again.write(batch(100, 120))
    dead.write(batch(200, 210))
    with pytest.raises(LockLost, match="another run has taken the stream over"):
        dead.commit(104)
    again.commit(59)
    again.close()
    assert held(db) == list(range(120))
    dead.abort()
    assert stages(db) == []


def test_an_answer_that_is_lost_doubles_nothing(server: RedisServer, db: Any, staged: bool) -> None:
    sink, _ = opened(server)
    sink.write(batch(0, 100))
    lost = [lose_answers(sink, "EXEC")]
    token = sink.commit(49)
    assert token["commits"] == 2
    sink.write(batch(100, 300))
    lost.append(lose_answers(sink, "XADD"))
    sink.write(batch(300, 400))
    sink.commit(199)
    sink.close()
    assert held(db) == list(range(400))
    assert lost == [[0], [0 if staged else 1]]


def lose_answers(sink: RedisSink, command: str) -> list[int]:
    """Lose the answer to the next command of a kind after the server has done it; gives how many are still to be lost."""
    client = sink._client
    make, left = client.pipeline, [1]

    def pipeline(*args: Any, **options: Any) -> Any:
        pipe = make(*args, **options)
        execute = pipe.execute

        def lossy() -> Any:
            commands = {"EXEC"} if pipe.watching else {str(args[0]) for args, _ in pipe.command_stack}
            answer = execute()
            if left[0] and command in commands:
                left[0] -= 1
                raise sink._passing[0]("connection lost")
            return answer

        pipe.execute = lossy
        return pipe

    client.pipeline = pipeline
    return left


def test_close_commits_what_is_left_and_abort_forgets_it(server: RedisServer, db: Any, staged: bool) -> None:
    sink, _ = opened(server)
    sink.write(batch(0, 50))
    sink.close()
    sink, _ = opened(server)
    sink.write(batch(50, 90))
    sink.abort()
    assert held(db) == list(range(50))
    assert stages(db) == []


# Fences, and foreign hands


def test_a_later_lock_token_keeps_earlier_ones_out(server: RedisServer, db: Any) -> None:
    sink = redis_sink("s", url=server.url)
    sink.fence(7)
    sink.open()
    token = sink.commit(-1)
    again, _ = resumed(server, token, fence=8)
    with pytest.raises(LockLost, match="later lock token 8 has written, this one holds 7"):
        resumed(server, token, fence=7)
    late = redis_sink("s", url=server.url)
    late.fence(6)
    with pytest.raises(LockLost):
        late.open()
    again.write(batch(0, 10))
    again.commit(4)
    again.close()
    assert held(db) == list(range(10))


def test_another_run_under_the_same_progress_key_is_seen(server: RedisServer, db: Any) -> None:
    sink, token = opened(server)
    other, other_token = opened(server, progress="another")
    sink.write(batch(0, 4))
    other.write(batch(100, 104))
    sink.commit(1)
    other.commit(51)
    assert held(db) == [0, 1, 2, 3, 100, 101, 102, 103]
    opened(server)[0].close()
    with pytest.raises(CheckpointError, match="another run has since written under the progress key"):
        resumed(server, token)
    db.delete("another")
    again = redis_sink("s", url=server.url, progress="another")
    with pytest.raises(CheckpointError):
        again.recover(other_token)


def test_a_server_that_forgot_commits_is_seen(server: RedisServer, db: Any) -> None:
    sink, _ = opened(server)
    sink.write(batch(0, 10))
    token = sink.commit(4)
    db.hset("sluiceway:{s}", mapping={"n": -1, "commits": 0})
    with pytest.raises(CheckpointError, match="lost what was committed"):
        resumed(server, token)


def test_two_sinks_that_commit_at_the_same_time_both_get_through(server: RedisServer, db: Any) -> None:
    def fill(progress: str) -> None:
        sink, _ = opened(server, progress=progress)
        for begin in range(0, 400, 20):
            sink.write(batch(begin, begin + 20))
            sink.commit((begin + 19) // 2)
        sink.close()

    threads = [threading.Thread(target=fill, args=(f"p{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(held(db)) == sorted([*range(400)] * 3)


def test_a_key_that_is_no_stream_is_refused_before_anything_counts(server: RedisServer, db: Any) -> None:
    sink, token = opened(server)
    sink.write(batch(0, 4))
    db.set("s", "text")
    with pytest.raises(TypeError, match="the key is a string, not a stream"):
        sink.commit(1)
    db.delete("s")
    assert resumed(server, token)[1] == -1


def test_a_stage_that_the_server_evicted_is_refused(
    server: RedisServer, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_module, "STAGE_BYTES", 100)
    sink, _ = opened(server)
    sink.write(batch(0, 100))
    db.delete(*stages(db))
    with pytest.raises(LookupError, match="0 of 100 staged entries"):
        sink.commit(49)
    assert held(db) == []
    sink.abort()


def test_a_server_that_is_away_for_a_moment_is_waited_for(tmp_path: Any) -> None:
    with redis_server(tmp_path) as server:
        sink, _ = opened(server)
        sink.write(batch(0, 100))
        server.stop()
        starting = threading.Timer(0.3, server.start)
        starting.start()
        sink.commit(49)
        starting.join()
        sink.close()
        with server.client() as db:
            assert held(db) == list(range(100))


# Events


@pytest.mark.parametrize(
    ("event", "options", "text"),
    [
        (7, {}, "this one is an int"),
        ({}, {}, "1 to 1000 fields"),
        (dict.fromkeys(range(1001), 0), {}, "1 to 1000 fields"),
        ({"at": None}, {}, "field 'at' is None"),
        ({"yes": True}, {}, "field 'yes' is a bool"),
        ({"a": 1}, {"fields": lambda event: event["b"]}, "the function fields raised KeyError"),
    ],
)
def test_an_event_that_is_no_entry_is_named_by_its_position(
    server: RedisServer, db: Any, event: Any, options: dict[str, Any], text: str
) -> None:
    sink, _ = opened(server, **options)
    events: Batch[Any] = Batch([{"b": {"a": 1}, "a": 1} if options else {"a": 1}, event], [(0, 0), (1, 0)])
    with pytest.raises(BadEvent, match=text) as caught:
        sink.write(events)
    assert caught.value.position == (1 if not options else caught.value.position)
    sink.abort()


def test_what_an_entry_may_be_made_of(server: RedisServer, db: Any) -> None:
    sink, _ = opened(server)
    entry = RedisEntry("5-1", {b"\xff": b"\x00"})
    sink.write(Batch([{"a": "ä", b"b": b"\xff", "c": 7, "d": 1.5}, entry], [(0, 0), (1, 0)]))
    sink.close()
    fields = {b"a": "ä".encode(), b"b": b"\xff", b"c": b"7", b"d": b"1.5"}
    assert [found for _, found in db.xrange("s")] == [fields, entry.fields]


def test_a_password_is_never_shown_and_a_sink_can_be_pickled(server: RedisServer, db: Any) -> None:
    sink, _ = opened(server)
    assert repr(sink) == "redis_sink('s')"
    copy = pickle.loads(pickle.dumps(sink))
    copy.open()
    copy.close()
    sink.abort()
    assert sink.delivery == "exactly-once"
    with pytest.raises(GraphError, match="redis://") as caught:
        redis_sink("s", url=f"http://:{PASSWORD}@host")
    assert PASSWORD not in str(caught.value)
    with pytest.raises(GraphError, match="fields must be a function"):
        redis_sink("s", url=server.url, fields="user")  # type: ignore[arg-type]


def test_fields_are_written_as_what_they_are_equal_to(server: RedisServer, db: Any) -> None:
    class Colour(str, enum.Enum):  # noqa: UP042 - its str() is not its text
        RED = "red"

    sink = redis_sink("s", url=server.url)
    sink.open()
    sink.write(Batch([{"a": numpy.int64(5), "b": numpy.float64(1.5), "c": Colour.RED, "d": 0.1}], [(0, 0)]))
    with pytest.raises(BadEvent, match="field 'a' has half of a surrogate pair"):
        sink.write(Batch([{"a": "\ud800"}], [(1, 0)]))
    with pytest.raises(BadEvent, match="field 'a' is a bool"):
        sink.write(Batch([{"a": numpy.bool_(True)}], [(1, 0)]))
    sink.close()
    assert [fields for _, fields in db.xrange("s")] == [{b"a": b"5", b"b": b"1.5", b"c": b"red", b"d": b"0.1"}]
