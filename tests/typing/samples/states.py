"""What a type checker infers from state: scans, keys and windows. Read by mypy, never run."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_type

import sluiceway as sw


@dataclass
class Login:
    user: str
    at: datetime
    seconds: float


def total(state: float, login: Login) -> tuple[float, str]:
    return state + login.seconds, f"{login.user}: {state}"


graph = sw.Graph("states")
logins = graph.source([Login("a", datetime(2024, 5, 1), 2.0)])

assert_type(logins.scan(total, 0.0), sw.Stream[str])
assert_type(logins.scan(lambda state, login: (state + 1, login.user), 0), sw.Stream[str])

by_user = logins.key_by(lambda login: login.user)
assert_type(by_user, sw.KeyedStream[str, Login])
assert_type(logins.key_by(lambda login: (login.user, 1)), sw.KeyedStream[tuple[str, int], Login])
assert_type(
    logins.key_by(lambda login: login.user, ttl=timedelta(days=1), time=lambda login: login.at),
    sw.KeyedStream[str, Login],
)

assert_type(by_user.map(lambda login: login.seconds), sw.Stream[float])
assert_type(by_user.map(lambda login: login.seconds, workers=3, on_error="skip"), sw.Stream[float])
assert_type(by_user.scan(total, 0.0), sw.Stream[str])
assert_type(by_user.count(), sw.Stream[tuple[str, int]])
assert_type(by_user.count(final=True), sw.Stream[tuple[str, int]])
assert_type(by_user.reduce(lambda one, other: one if one.at > other.at else other), sw.Stream[tuple[str, Login]])

hours = by_user.window(sw.tumbling(timedelta(hours=1)), time=lambda login: login.at, allowed_lateness=timedelta(minutes=5))
assert_type(hours.count(), sw.Stream[sw.Window[str, int]])
assert_type(hours.collect(), sw.Stream[sw.Window[str, list[Login]]])
assert_type(hours.reduce(lambda one, other: other), sw.Stream[sw.Window[str, Login]])
assert_type(hours.count().map(lambda window: window.key), sw.Stream[str])
assert_type(hours.count().map(lambda window: window.value), sw.Stream[int])


def add(held: float, login: Login) -> float:
    return held + login.seconds


sessions = by_user.window(sw.session(1800), time=lambda login: login.seconds)
assert_type(sessions.aggregate(add, 0.0, merge=lambda a, b: a + b), sw.Stream[sw.Window[str, float]])
sliding = by_user.window(sw.sliding(60, 10.0), time=lambda login: login.seconds)
assert_type(sliding.aggregate(add, 0.0), sw.Stream[sw.Window[str, float]])
