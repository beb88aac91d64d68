"""The Redis lock: one holder at a time, for as long as it renews its lease.

Decides when the lock counts as held: until the lease that the server has last confirmed can have run out, by this
machine's clock counted from before the request was sent. Every holder gets a higher token than all before it.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from typing import Any

from ...checks import check_seconds
from ...errors import LockHeld, LockLost
from .client import checked_name, checked_url, connect, package, text_of

LOG = logging.getLogger("sluiceway")
#: Bounds of a lease: shorter ones end between two renewals, longer ones keep the lock of a dead holder for days.
MIN_TTL_S, MAX_TTL_S = 0.1, 1e6
_STEP_S = 0.1
#: The part of a lease that is not used, for clocks that run at different speeds.
_DRIFT = 0.01

#: Returns {1, token} to the holder, {0, value of the holder} to others.
_ACQUIRE = """
local value = redis.call('GET', KEYS[1])
if not value then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return {1, redis.call('INCR', KEYS[2])}
elseif value == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {1, tonumber(redis.call('GET', KEYS[2]))}
end
return {0, value}
"""
_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


def _clock() -> float:
    """Return seconds that pass also while the machine sleeps, where the system can."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class RedisLock:
    """A lock by a key with a lease; made by `sluiceway.redis_lock`."""

    fenced = True

    def __init__(self, url: str, name: str, ttl_s: float, wait_s: float | None) -> None:
        self.name = name
        self.ttl_s = ttl_s
        self.wait_s = wait_s
        self.url = url
        self._clear()

    def _clear(self) -> None:
        self._client: Any = None
        self._value = ""
        self._held_until = 0.0
        self._lost = ""
        self._stop = threading.Event()
        self._renewing: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"redis_lock({self.name!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._clear()

    @property
    def _keys(self) -> tuple[str, str]:
        return f"sluiceway:lock:{{{self.name}}}", f"sluiceway:lock:{{{self.name}}}:token"

    def acquire(self) -> int:
        """Acquire the lock, waiting up to `wait_s` for it, and return its fencing token.

        Raises `LockHeld` with who holds it, and the client's own error where the server does not answer.
        """
        if self._renewing is not None:
            raise LockHeld(f"cannot acquire {self!r}: this very object holds it; make a lock for each run")
        self._clear()
        # no answer may come later than the lease could end
        self._client = connect(self.url, "redis_lock", answer_s=self.ttl_s / 3, retries=1)
        self._value = f"{uuid.uuid4().hex} {socket.gethostname()} process {os.getpid()}"
        token = self._wait()
        self._renewing = threading.Thread(target=self._renew, name="sluiceway-redis-lock", daemon=True)
        self._renewing.start()
        return token

    def _wait(self) -> int:
        end_at = None if self.wait_s is None else _clock() + self.wait_s
        while True:
            asked_at = _clock()
            mine, answer = self._client.eval(_ACQUIRE, 2, *self._keys, self._value, self._ttl_ms)
            if mine:
                self._confirm(asked_at)
                return int(answer)
            if end_at is not None and _clock() >= end_at:
                holder = text_of(answer).partition(" ")[2] or "another program"
                self._client.close()
                raise LockHeld(
                    f"cannot acquire {self!r}: {holder} holds it; wait until that run has ended (wait_s=), or for at most "
                    f"{self.ttl_s:g} s after it has died"
                )
            self._stop.wait(_STEP_S)  # in short steps, so that Ctrl-C is heard

    @property
    def _ttl_ms(self) -> int:
        return int(self.ttl_s * 1000)

    def _confirm(self, asked_at: float) -> None:
        self._held_until = asked_at + self.ttl_s * (1 - _DRIFT)

    def _renew(self) -> None:
        passing = package("redis_lock").exceptions
        while not self._stop.wait(self.ttl_s / 3):
            asked_at = _clock()
            try:
                renewed = self._client.eval(_RENEW, 1, self._keys[0], self._value, self._ttl_ms)
            except (passing.ConnectionError, passing.TimeoutError):
                continue  # asked again in time, or the lease ends, which `check` sees
            except passing.RedisError as error:
                self._lost = f"the server refused to renew it ({error})"
                return
            if not renewed:
                self._lost = "its key was gone or somebody else's when it was to be renewed"
                return
            self._confirm(asked_at)

    def check(self) -> None:
        """Raise `LockLost` where the lease may have run out or the key is not this run's any more; asks nobody."""
        if self._renewing is None:
            raise LockLost(f"{self!r} is not held; acquire it first")
        if self._lost:
            raise LockLost(f"{self!r} is lost: {self._lost}; another run may have begun, this one must not commit")
        if _clock() >= self._held_until:
            raise LockLost(
                f"{self!r} may be lost: its lease of {self.ttl_s:g} s was not renewed in time; another run may have begun, "
                "this one must not commit; a longer ttl_s rides out longer pauses of server and machine"
            )

    def release(self) -> None:
        """Return the lock back, if it is still this run's."""
        renewing, self._renewing = self._renewing, None
        if renewing is None:
            return
        self._stop.set()
        renewing.join()
        try:
            self._client.eval(_RELEASE, 1, self._keys[0], self._value)
        except package("redis_lock").exceptions.RedisError as error:
            LOG.warning("%r could not be released (%s); it ends by itself within %g s", self, error, self.ttl_s)
        self._client.close()


def redis_lock(url: str, name: str, *, ttl_s: float = 10, wait_s: float | None = 0) -> RedisLock:
    """Make a lock by a key of a Redis server, for `run(lock=...)`: one run at a time, on all machines.

    A holder that dies keeps the lock for up to `ttl_s` seconds; one whose lease is not renewed for as long has lost
    it. `wait_s` is how long to wait for it, `None` for ever. Each holder's token is higher than all before.

    Raises `GraphError` for arguments of another shape and a missing package redis.
    """
    package("redis_lock")
    checked_name(name, "name", "redis_lock")
    where = "cannot make redis_lock()"
    ttl_s = check_seconds(where, "ttl_s", ttl_s, "pass for example 10", least=MIN_TTL_S, most=MAX_TTL_S)
    if wait_s is not None:
        wait_s = check_seconds(where, "wait_s", wait_s, "pass None to wait for ever")
    return RedisLock(checked_url(url, "redis_lock"), name, ttl_s, wait_s)
