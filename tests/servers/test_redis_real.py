"""Redis from end to end, on a real server: runs, the lock, and the page that explains them."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
import redis as package
import sluiceway as sw
from marks import slow
from pages import check_examples
from redis_server import PASSWORD, RedisServer
from resuming import MiniRun
from sluiceway.nodes.connectors.redis import sink as sink_module
from sluiceway.nodes.connectors.redis.api import redis, redis_lock, redis_sink
from sluiceway.nodes.errors import LockHeld, LockLost

RUNNERS = ("inline", "processes")


def fill(db: Any, count: int) -> None:
    pipe = db.pipeline(transaction=False)
    for number in range(count):
        pipe.xadd("in", {"n": number})
    pipe.execute()


def double(entry: Any) -> dict[str, int]:
    return {"n": 2 * int(entry.fields[b"n"])}


def doubler(server: RedisServer, fn: Any = double, **options: Any) -> sw.Graph:
    graph = sw.Graph()
    graph.source(redis("in", url=server.url, stop_at_end=True, **options)).map(fn).sink(redis_sink("out", url=server.url))
    return graph


def written(db: Any) -> list[int]:
    return [int(fields[b"n"]) for _, fields in db.xrange("out")]


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("group", [None, "g"])
def test_a_run_from_stream_to_stream_keeps_the_order(
    server: RedisServer, db: Any, runner: Any, group: str | None
) -> None:
    fill(db, 3000)
    report = sw.run(doubler(server, group=group), runner=runner, workers=2)
    assert report.events_in == 3000
    assert written(db) == list(range(0, 6000, 2))
    if group is not None:
        assert db.xpending("in", group)["pending"] == 0
        assert sw.run(doubler(server, group=group), runner=runner).events_in == 0


def fail_at_500(entry: Any) -> dict[str, int]:
    if entry.fields[b"n"] == b"500":
        raise ValueError("no")
    return double(entry)


@pytest.mark.parametrize("runner", RUNNERS)
def test_nothing_is_acknowledged_beyond_a_number_that_failed(server: RedisServer, db: Any, runner: Any) -> None:
    fill(db, 1000)
    with pytest.raises(sw.HandlerError) as caught:
        sw.run(doubler(server, fail_at_500, group="g"), runner=runner, workers=2)
    assert PASSWORD not in str(caught.value)
    done = len(written(db))
    assert written(db) == list(range(0, 2 * done, 2))
    waiting = [entry["message_id"] for entry in db.xpending_range("in", "g", "-", "+", 2000)]
    acknowledged = [fields[b"n"] for entry_id, fields in db.xrange("in", "-", "+", 500) if entry_id not in waiting]
    assert len(acknowledged) <= done <= 500, "only what the sink has committed is acknowledged"


@pytest.mark.parametrize("seed", [0, 1, 2, *map(slow, range(3, 30))])
def test_whenever_a_run_dies_nothing_is_lost_or_doubled(
    server: RedisServer, db: Any, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(sink_module, "STAGE_BYTES", chance.choice([200, 1 << 20]))
    fill(db, 600)
    source = redis("in", url=server.url, group="g", stop_at_end=True)
    run = MiniRun(source, lambda: redis_sink("out", url=server.url), double)
    deaths = 0
    while not run.live(chance.randrange(2, 40), limit=chance.randrange(5, 40), commit_each=chance.randrange(1, 6)):
        deaths += 1
        run.sink = run.reader = None
    assert deaths >= 2
    assert written(db) == list(range(0, 1200, 2))
    assert db.xpending("in", "g")["pending"] == 0


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_run_under_a_lock_keeps_others_out(server: RedisServer, db: Any, runner: Any) -> None:
    fill(db, 100)
    other = redis_lock(server.url, "job")
    other.acquire()
    with pytest.raises(LockHeld, match="holds it"):
        sw.run(doubler(server), runner=runner, workers=1, lock=redis_lock(server.url, "job"))
    assert written(db) == []
    other.release()
    sw.run(doubler(server), runner=runner, workers=1, lock=redis_lock(server.url, "job"))
    assert written(db) == list(range(0, 200, 2))
    assert int(db.hget("sluiceway:{out}", "fence")) == int(db.get("sluiceway:lock:{job}:token"))
    again = redis_lock(server.url, "job")
    again.acquire()
    again.release()


@pytest.mark.parametrize("runner", [slow("inline"), "processes"])
def test_a_lost_lock_stops_the_run_before_its_next_commit(server: RedisServer, db: Any, runner: Any) -> None:
    fill(db, 25)
    lock = redis_lock(server.url, "job", ttl_s=0.5)
    url = server.url

    def steal(entry: Any) -> dict[str, int]:
        if entry.fields[b"n"] == b"5":
            with package.Redis.from_url(url) as thief:
                thief.set("sluiceway:lock:{job}", "thief process 1")
        time.sleep(0.04)  # as work does: the lock's thread finds out meanwhile
        return double(entry)

    with pytest.raises(LockLost):
        sw.run(doubler(server, steal), runner=runner, workers=1, lock=lock, checkpoint_interval_s=60)
    done = written(db)
    assert done == list(range(0, 2 * len(done), 2))
    assert len(done) < 25, "what came after the loss was not committed"


def test_the_examples_print_what_they_say(server: RedisServer, db: Any, capsys: pytest.CaptureFixture[str]) -> None:
    check_examples("redis", 2, capsys, server=("redis://localhost:6379/0", server.url))
