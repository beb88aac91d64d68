"""Stateful steps twice: as plain computations that go from event to event, and as graphs.

The plain ones know nothing of columns, partitions or reported watermarks. The functions of the graphs are here because
workers import the module they come from, and this one needs little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import sluiceway as sw

#: An event is `(key, time, value)`, a number a list of events.
Event = tuple[Any, int, int]
Numbers = list[list[Event]]

KEYS: tuple[Any, ...] = ("a", "b", 1, 1.0, True, None, ("a", 2), ("a", 2.0), b"a", 7, 8, 9)
KINDS = ("count", "final", "scan", "total", "reduce", "ttl", "tumbling", "sliding", "session")


# -- plain computations ------------------------------------------------------------------------------------------


@dataclass
class Found:
    outputs: list[Any]
    late: int = 0
    forgotten: int = 0


def plain_count(given: Numbers) -> Found:
    counts: dict[Any, int] = {}
    found = []
    for key, _, _ in (event for events in given for event in events):
        counts[key] = counts.get(key, 0) + 1
        found.append((key, counts[key]))
    return Found(found)


def plain_final(given: Numbers) -> Found:
    counts: dict[Any, int] = {}
    for key, _, _ in (event for events in given for event in events):
        counts[key] = counts.get(key, 0) + 1
    return Found(list(counts.items()))


def plain_scan(given: Numbers) -> Found:
    states: dict[Any, list[int]] = {}
    found = []
    for key, _, value in (event for events in given for event in events):
        states.setdefault(key, []).append(value)
        found.append(list(states[key]))
    return Found(found)


def plain_total(given: Numbers) -> Found:
    found, total = [], 0
    for _, _, value in (event for events in given for event in events):
        total += value
        found.append((total, value))
    return Found(found)


def plain_reduce(given: Numbers) -> Found:
    values: dict[Any, Event] = {}
    found = []
    for event in (event for events in given for event in events):
        key = event[0]
        values[key] = add(values[key], event) if key in values else event
        found.append((key, values[key]))
    return Found(found)


def plain_ttl(given: Numbers, ttl: int) -> Found:
    counts: dict[Any, int] = {}
    last: dict[Any, int] = {}
    mark: int | None = None
    found, forgotten = [], 0
    for events in given:
        for key, time, _ in events:
            if key in counts and mark is not None and mark - last[key] > ttl:
                del counts[key], last[key]
                forgotten += 1
            counts[key] = counts.get(key, 0) + 1
            last[key] = max(time, last.get(key, time))
            found.append((key, counts[key]))
        mark = max([*([mark] if mark is not None else []), *(time for _, time, _ in events)], default=None)
    forgotten += sum(1 for time in last.values() if mark is not None and mark - time > ttl)
    return Found(found, forgotten=forgotten)


def plain_grid(given: Numbers, size: int, slide: int, lateness: int) -> Found:
    open_: dict[tuple[int, Any], list[Any]] = {}
    found: list[Any] = []
    mark: int | None = None
    late = 0

    def close(upto: int | None) -> None:
        ready = [at for at in open_ if upto is None or at[0] + size + lateness <= upto]
        for at in sorted(ready, key=lambda at: (at[0] + size, open_[at][0])):
            _, key, values = open_.pop(at)
            found.append(sw.Window(key, at[0], at[0] + size, values))

    for seq, events in enumerate(given):
        for index, (key, time, value) in enumerate(events):
            starts = [start for start in range(time - time % slide, time - size, -slide) if start <= time < start + size]
            starts = [start for start in starts if mark is None or start + size + lateness > mark]
            late += not starts
            for start in starts:
                open_.setdefault((start, key), [(seq, index), key, []])[2].append(value)
        mark = max([*([mark] if mark is not None else []), *(time for _, time, _ in events)], default=None)
        if mark is not None:
            close(mark)
    close(None)
    return Found(found, late)


def plain_sessions(given: Numbers, gap: int, lateness: int) -> Found:
    """Sessions hold the sum of their values, so their order inside does not matter."""
    open_: list[list[Any]] = []  # key, start, last, total, (seq, index)
    found: list[Any] = []
    mark: int | None = None
    late = 0

    def close(upto: int | None) -> None:
        ready = [s for s in open_ if upto is None or s[2] + gap + lateness <= upto]
        for session in sorted(ready, key=lambda s: (s[2] + gap, s[4])):
            open_.remove(session)
            found.append(sw.Window(session[0], session[1], session[2] + gap, session[3]))

    for seq, events in enumerate(given):
        for index, (key, time, value) in enumerate(events):
            near = [s for s in open_ if s[0] == key and s[1] - gap < time < s[2] + gap]
            if not near and mark is not None and time + gap + lateness <= mark:
                late += 1
                continue
            session = [key, time, time, value, (seq, index)]
            # The key is that of the session that came first in time, the name that of its first event.
            for other in sorted(near, key=lambda s: -s[1]):
                open_.remove(other)
                session = [
                    other[0], min(session[1], other[1]), max(session[2], other[2]), session[3] + other[3],
                    min(session[4], other[4]),
                ]  # fmt: skip
            open_.append(session)
        mark = max([*([mark] if mark is not None else []), *(time for _, time, _ in events)], default=None)
        if mark is not None:
            close(mark)
    close(None)
    return Found(found, late)


# -- the same as graphs ------------------------------------------------------------------------------------------


def add(one: Event, other: Event) -> Event:
    return one[0], max(one[1], other[1]), one[2] + other[2]


def push(state: list[int], event: Event) -> tuple[list[int], list[int]]:
    state.append(event[2])
    return state, state


def total(state: int, event: Event) -> tuple[int, tuple[int, int]]:
    return state + event[2], (state + event[2], event[2])


def key_of(event: Event) -> Any:
    return event[0]


def time_of(event: Event) -> int:
    return event[1]


def add_value(held: int, event: Event) -> int:
    return held + event[2]


def push_value(held: list[int], event: Event) -> list[int]:
    held.append(event[2])
    return held


def graph_of(kind: str, sizes: tuple[int, int, int]) -> Callable[[Any], Any]:
    size, slide, lateness = sizes
    return {
        "count": lambda s: s.key_by(key_of).count(),
        "final": lambda s: s.key_by(key_of).count(final=True),
        "scan": lambda s: s.key_by(key_of).scan(push, []),
        "total": lambda s: s.scan(total, 0),
        "reduce": lambda s: s.key_by(key_of).reduce(add),
        "ttl": lambda s: s.key_by(key_of, ttl=size, time=time_of).count(),
        "tumbling": lambda s: s.key_by(key_of)
        .window(sw.tumbling(size), time=time_of, allowed_lateness=lateness)
        .aggregate(push_value, []),
        "sliding": lambda s: s.key_by(key_of)
        .window(sw.sliding(size, slide), time=time_of, allowed_lateness=lateness)
        .aggregate(push_value, []),
        "session": lambda s: s.key_by(key_of)
        .window(sw.session(size), time=time_of, allowed_lateness=lateness)
        .aggregate(add_value, 0, merge=lambda a, b: a + b),
    }[kind]


def plain_of(kind: str, sizes: tuple[int, int, int]) -> Callable[[Numbers], Found]:
    size, slide, lateness = sizes
    return {
        "count": plain_count,
        "final": plain_final,
        "scan": plain_scan,
        "total": plain_total,
        "reduce": plain_reduce,
        "ttl": partial(plain_ttl, ttl=size),
        "tumbling": partial(plain_grid, size=size, slide=size, lateness=lateness),
        "sliding": partial(plain_grid, size=size, slide=slide, lateness=lateness),
        "session": partial(plain_sessions, gap=size, lateness=lateness),
    }[kind]


def graph_over(events: Numbers, make: Callable[[Any], Any]) -> Any:
    stream: Any = sw.Graph("state").source(events)
    if any(len(each) != 1 for each in events):
        stream = stream.flat_map(lambda each: [*each, None]).filter(lambda event: event is not None)
    else:
        stream = stream.map(lambda each: each[0])
    return make(stream)
