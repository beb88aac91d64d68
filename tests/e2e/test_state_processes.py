"""State in processes: the same results as in one thread, for every ending, with failures and with deaths beside it."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw


def outputs(source: Any, make: Callable[[Any], Any], **options: Any) -> tuple[list[Any], sw.RunReport]:
    graph = sw.Graph("state")
    seen: list[Any] = []
    make(graph.source(source)).sink(seen.append)
    return seen, sw.run(graph, **options)


def by_key(stream: Any) -> Any:
    return stream.key_by(lambda e: e % 7)


@pytest.mark.parametrize("workers", [None, 1, 2, 5])
def test_running_counts_come_in_the_order_of_the_numbers(workers: int | None) -> None:
    seen, report = outputs(range(3000), lambda s: by_key(s).count(), workers=workers)
    assert seen == [(e % 7, e // 7 + 1) for e in range(3000)]
    node = report.nodes["count"]
    assert (report.events_in, report.keys, node.events_in, node.events_out) == (3000, 7, 3000, 3000)
    if workers is not None:
        assert node.workers == workers


def test_handlers_before_and_behind_a_key() -> None:
    def make(stream: Any) -> Any:
        doubled = stream.map(lambda e: e * 2, workers=2).filter(lambda e: e % 3)
        counted = by_key(doubled).scan(lambda n, e: (n + 1, (e, n)), 0)
        again = counted.map(lambda pair: pair[0] + pair[1]).key_by(lambda e: e % 5).reduce(lambda a, b: a + b)
        return sw.merge(again, doubled.scan(lambda total, e: (total + e, total), 0))

    assert outputs(range(1000), make, workers=3)[0] == outputs(range(1000), make, runner="inline")[0]


def test_two_uses_of_one_key() -> None:
    def make(stream: Any) -> Any:
        keys = stream.map(lambda e: [e]).key_by(lambda e: e[0] % 3)

        def spoil(state: int, event: list[int]) -> tuple[int, int]:
            event.append(-1)
            return state + 1, len(event)

        spoilt = keys.scan(spoil, 0)
        kept = keys.window(sw.tumbling(50), time=lambda e: e[0]).collect()
        return sw.merge(spoilt, kept)

    inline = outputs(range(300), make, runner="inline")[0]
    assert all(len(event) == 1 for window in inline if isinstance(window, sw.Window) for event in window.value)
    assert outputs(range(300), make, workers=2)[0] == inline


def test_a_keyed_map_gives_each_key_to_one_worker() -> None:
    class Counting:
        def __init__(self) -> None:
            self.seen: dict[int, int] = {}

        def __call__(self, event: int) -> tuple[int, int, int]:
            import os

            self.seen[event % 7] = self.seen.get(event % 7, 0) + 1
            return event % 7, self.seen[event % 7], os.getpid()

    seen, _ = outputs(range(700), lambda s: by_key(s).map(Counting, workers=3), workers=2)
    assert [(key, count) for key, count, _ in seen] == [(e % 7, e // 7 + 1) for e in range(700)]
    homes = {key: pid for key, _, pid in seen}
    assert all(homes[key] == pid for key, _, pid in seen)
    assert 1 < len(set(homes.values())) <= 3


def test_a_keyed_map_takes_the_options_of_handlers() -> None:
    def strict(event: int) -> int:
        if event % 10 == 3 and sw.current().attempt == 1:
            raise ValueError("once")
        if event % 10 == 4:
            raise ValueError("always")
        return event

    def run(**options: Any) -> tuple[list[int], list[Any], sw.RunReport]:
        graph, seen, letters = sw.Graph(), [], []
        by_key(graph.source(range(100))).map(strict, retries=1, on_error="dead_letter").sink(seen.append)
        graph.dead_letters().sink(lambda letter: letters.append((letter.seq, letter.index, letter.node, letter.event)))
        return seen, letters, sw.run(graph, **options)

    seen, letters, report = run(workers=2)
    assert seen == [e for e in range(100) if e % 10 != 4]
    assert letters == [(e, 0, "strict", e) for e in range(4, 100, 10)]
    assert (seen, letters) == run(runner="inline")[:2]
    assert report.retries == 20


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("where", ["key", "time", "state", "kind"])
def test_the_lowest_failure_ends_the_run(where: str, workers: int) -> None:
    def fail(event: int) -> int:
        if event % 100 == 77:
            raise ValueError("no")
        return event

    def plain(event: int) -> int:
        return event

    key: Any = {"key": fail, "kind": lambda e: [e] if e % 100 == 77 else e}.get(where, lambda e: e % 5)
    graph, seen = sw.Graph(), []
    keys = graph.source(range(500)).key_by(key, name="keys")
    window = keys.window(sw.tumbling(10), time=fail if where == "time" else plain)
    window.aggregate(lambda held, e: held + (fail(e) if where == "state" else e), 0, name="windows").sink(seen.append)
    with pytest.raises(sw.HandlerError) as caught:
        sw.run(graph, workers=workers)
    error = caught.value
    assert (error.seq, error.event) == (77, 77)
    assert error.node == ("keys" if where in ("key", "kind") else "windows")
    assert {window.end for window in seen} == set(range(10, 80, 10))


class Fragile:
    """Can be sent once, but not on from where it arrives."""

    def __init__(self, number: int, sent: int = 0) -> None:
        if number % 10 == 4 and sent > 1:
            raise ValueError("broken on the way")
        self.number, self.sent = number, sent

    def __reduce__(self) -> Any:
        return Fragile, (self.number, self.sent + 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_event_that_breaks_on_its_way_ends_the_run_at_its_number(workers: int) -> None:
    graph, seen = sw.Graph(), []
    keys = graph.source([Fragile(number) for number in range(40)]).key_by(lambda e: e.number % 3)
    keys.scan(lambda held, e: (held + e.number, held + e.number), 0, name="sum").sink(seen.append)
    with pytest.raises(sw.HandlerError, match="broken on the way") as caught:
        sw.run(graph, workers=workers)
    assert (caught.value.seq, caught.value.node, seen) == (4, "sum", [0, 1, 2, 3])


# -- the end of the input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [range(1000), list(range(1000)), lambda: iter(range(1000))])
def test_final_counts_come_at_the_end(source: Any) -> None:
    seen, report = outputs(source, lambda s: by_key(s).count(final=True), workers=2)
    assert seen == list(Counter(e % 7 for e in range(1000)).items())
    assert (report.events_in, report.ended_by, report.released) == (1000, "source", 1001)


def test_a_limit_closes_what_is_open() -> None:
    seen, report = outputs(range(10**9), lambda s: by_key(s).count(final=True), workers=2, limit=100)
    assert seen == list(Counter(e % 7 for e in range(100)).items())
    assert (report.events_in, report.ended_by) == (100, "limit")


def test_a_time_limit_and_a_stop_close_what_is_open() -> None:
    seen, report = outputs(range(10**9), lambda s: by_key(s).count(final=True), workers=2, time_limit_s=0.6)
    assert sum(count for _, count in seen) == report.events_in
    assert report.ended_by == "time_limit"
    stop = threading.Event()
    make = lambda s: s.map(lambda e: e).key_by(lambda e: 0).count()  # noqa: E731
    graph, seen = sw.Graph(), []
    events = graph.source(range(10**9))
    make(events).sink(lambda pair: stop.set())
    events.key_by(lambda e: 0).count(final=True).sink(seen.append)
    report = sw.run(graph, workers=2, stop=stop)
    assert seen == [(0, report.events_in)]
    assert report.ended_by == "stop"


def test_an_interrupt_closes_nothing() -> None:
    graph, seen, final = sw.Graph(), [], []

    def note(pair: Any) -> None:
        if not seen:
            os.kill(os.getpid(), signal.SIGINT)
        seen.append(pair)

    keys = by_key(graph.source(range(10**9)))
    keys.count().sink(note)
    keys.count(final=True).sink(final.append)
    with pytest.raises(KeyboardInterrupt):
        sw.run(graph, workers=2)
    assert seen
    assert final == []


def test_a_source_that_fails_closes_nothing() -> None:
    def broken() -> Any:
        yield from range(50)
        raise OSError("gone")

    graph, seen = sw.Graph(), []
    by_key(graph.source(broken)).count(final=True).sink(seen.append)
    with pytest.raises(sw.SourceError):
        sw.run(graph, workers=2)
    assert seen == []


def test_a_small_budget_is_enough() -> None:
    def make(stream: Any) -> Any:
        return by_key(stream).window(sw.tumbling(10), time=lambda e: e).collect()

    found = outputs(range(500), make, workers=2, window_bytes=1 << 16)[0]
    assert found == outputs(range(500), make, runner="inline")[0]


def test_a_worker_that_splits_may_die(tmp_path: Path) -> None:
    marker = tmp_path / "died"

    def key(event: int) -> int:
        if event == 300 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return event % 7

    seen, report = outputs(range(2000), lambda s: s.key_by(key).count(), workers=2)
    assert seen == [(e % 7, e // 7 + 1) for e in range(2000)]
    assert report.worker_deaths == 1


def test_late_events_and_forgotten_keys_are_reported() -> None:
    events = [(e % 5, e - 40 * (e % 9 == 0)) for e in range(900)]

    def make(stream: Any) -> Any:
        windows = stream.key_by(lambda e: e[0]).window(sw.tumbling(10), time=lambda e: e[1]).count()
        kept = stream.key_by(lambda e: e[1] // 50, ttl=60, time=lambda e: e[1]).count()
        return sw.merge(windows, kept)

    inline, told = outputs(events, make, runner="inline")
    seen, report = outputs(events, make, workers=3)
    assert seen == inline
    assert told.late > 50
    assert told.forgotten > 10
    assert (report.late, report.forgotten, report.keys) == (told.late, told.forgotten, told.keys)


# -- a million events --------------------------------------------------------------------------------------------

MANY = 1_000_000


def user(number: int) -> int:
    return (number * 7919) % 10_007 % 500


def moment(number: int) -> int:
    # Times go up with events out of order, and every user rests now and then.
    return number + (number // 50_000) * 3_000 - (number * 31) % 200


def plain_sessions(gap: int, lateness: int) -> list[tuple[int, int, int, int]]:
    """Sessions as a table would give them: by user, sorted by time, cut where the gap is."""
    times: dict[int, list[int]] = {}
    for number in range(MANY):
        times.setdefault(user(number), []).append(moment(number))
    found = []
    for key, moments in times.items():
        moments.sort()
        start = last = moments[0]
        count = 0
        for time in moments:
            if time - last >= gap:
                found.append((key, start, last + gap, count))
                start, count = time, 0
            last = time
            count += 1
        found.append((key, start, last + gap, count))
    return sorted(found)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_events_equal_plain_python() -> None:
    def run(workers: int) -> tuple[list[Any], list[Any], Counter[int], sw.RunReport]:
        graph = sw.Graph("million")
        final: list[Any] = []
        sessions: list[Any] = []
        last: Counter[int] = Counter()
        keys = graph.source(range(MANY)).key_by(user)
        keys.count(final=True).sink(final.append)
        keys.count().sink(lambda pair: last.__setitem__(*pair))
        keys.window(sw.session(600), time=moment, allowed_lateness=200).count().sink(sessions.append)
        return final, sessions, last, sw.run(graph, workers=workers)

    counts = Counter(map(user, range(MANY)))
    expected = plain_sessions(600, 200)
    assert len(expected) > 5_000
    first: list[Any] | None = None
    for workers in (1, 2, 8):
        final, sessions, last, report = run(workers)
        assert final == list(counts.items())
        assert last == counts
        assert sorted(tuple(window) for window in sessions) == expected
        assert report.late == 0
        first = first or sessions
        assert sessions == first
