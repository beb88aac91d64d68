"""The Redis lock against a real server: one holder, tokens that rise, leases that run out."""

from __future__ import annotations

import os
import pickle
import threading
import time
from typing import Any

import pytest
from redis_server import RedisServer, redis_server
from sluiceway.nodes.connectors.redis.api import RedisLock, redis_lock
from sluiceway.nodes.errors import GraphError, LockHeld, LockLost
from sluiceway.nodes.locks import Lock

KEY = "sluiceway:lock:{job}"


def make(server: RedisServer, **options: Any) -> RedisLock:
    return redis_lock(server.url, "job", **options)


def test_one_holds_it_and_each_later_one_has_a_higher_token(server: RedisServer, db: Any) -> None:
    first, second = make(server), make(server)
    assert isinstance(first, Lock)
    assert first.fenced
    tokens = []
    for _ in range(3):
        tokens.append(first.acquire())
        first.check()
        with pytest.raises(LockHeld, match=rf"process {os.getpid()} holds it"):
            second.acquire()
        first.release()
        tokens.append(second.acquire())
        second.check()
        second.release()
    assert tokens == sorted(set(tokens))
    assert db.get(KEY) is None


def test_many_contenders_take_turns(server: RedisServer, db: Any) -> None:
    inside, most, tokens = [], [], []

    def work() -> None:
        lock = make(server, wait_s=30)
        token = lock.acquire()
        inside.append(token)
        most.append(len(inside))
        lock.check()
        inside.remove(token)
        tokens.append(token)
        lock.release()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6
    assert tokens == sorted(set(tokens))


def test_it_is_renewed_for_longer_than_its_lease(server: RedisServer, db: Any) -> None:
    lock = make(server, ttl_s=0.4)
    lock.acquire()
    until = time.monotonic() + 1.2
    while time.monotonic() < until:
        lock.check()
        time.sleep(0.05)
    assert 0 < db.pttl(KEY) <= 400
    lock.release()


def test_waiting_ends_when_the_time_is_over(server: RedisServer, db: Any) -> None:
    first = make(server)
    first.acquire()
    began = time.monotonic()
    with pytest.raises(LockHeld):
        make(server, wait_s=0.3).acquire()
    assert 0.3 <= time.monotonic() - began < 5
    first.release()


def test_the_lock_of_a_dead_holder_ends_with_its_lease(server: RedisServer, db: Any) -> None:
    db.set(KEY, "somebody else process 7", px=400)
    with pytest.raises(LockHeld, match="else process 7 holds it"):
        make(server).acquire()
    lock = make(server, wait_s=10)
    lock.acquire()
    lock.release()


def test_a_server_that_does_not_answer_loses_the_lock_in_time(tmp_path: Any) -> None:
    with redis_server(tmp_path) as server:
        lock = make(server, ttl_s=0.6)
        lock.acquire()
        server.freeze()
        lock.check()
        lost_within(lock, 0.6)
        server.freeze(frozen=False)
        with pytest.raises(LockLost, match="lost"):
            lock.check()
        lock.release()


def lost_within(lock: RedisLock, seconds: float) -> None:
    """Assert that `check` raises no later than the lease can have ended on the server."""
    end_at = time.monotonic() + seconds
    while time.monotonic() < end_at:
        try:
            lock.check()
        except LockLost:
            return
        time.sleep(0.01)
    with pytest.raises(LockLost):
        lock.check()


@pytest.mark.parametrize("theirs", [None, "theirs process 9"])
def test_a_key_that_is_gone_or_somebody_elses_is_lost_and_left_alone(
    server: RedisServer, db: Any, theirs: str | None
) -> None:
    lock = make(server, ttl_s=0.6)
    lock.acquire()
    db.delete(KEY)
    if theirs is not None:
        db.set(KEY, theirs)
    lost_within(lock, 0.55)
    with pytest.raises(LockLost, match=r"gone or somebody else's"):
        lock.check()
    lock.release()
    lock.release()
    assert db.get(KEY) == (theirs and theirs.encode())


def test_a_lease_that_ran_out_while_the_machine_slept_is_lost(
    server: RedisServer, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = make(server)
    lock.acquire()
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr("sluiceway.nodes.connectors.redis.lock._clock", lambda: now + 11)
    with pytest.raises(LockLost, match="its lease of 10 s"):
        lock.check()
    lock.release()


def test_a_lock_that_is_not_held_is_not_held(server: RedisServer, db: Any) -> None:
    lock = make(server)
    with pytest.raises(LockLost, match="is not held"):
        lock.check()
    lock.release()
    lock.acquire()
    with pytest.raises(LockHeld, match="this very object"):
        lock.acquire()
    copy = pickle.loads(pickle.dumps(lock))
    with pytest.raises(LockHeld):
        copy.acquire()
    lock.release()


def test_what_is_wrong_with_the_arguments_is_said_when_the_lock_is_made() -> None:
    url = "redis://:open-sesame@localhost"
    assert repr(redis_lock(url, "job")) == "redis_lock('job')"
    for name, options, text in (
        ("", {}, "name must be a name"),
        ("job", {"ttl_s": 0}, "ttl_s"),
        ("job", {"wait_s": -1}, "wait_s"),
    ):
        with pytest.raises(GraphError, match=text):
            redis_lock(url, name, **options)  # type: ignore[arg-type]
