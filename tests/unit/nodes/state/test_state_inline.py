"""What state means: scans, keys, windows, lateness, forgetting and the end of the input, in one thread."""

from __future__ import annotations

import operator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sluiceway as sw


def given(source: Any, make: Any, **options: Any) -> tuple[list[Any], sw.RunReport]:
    graph = sw.Graph("g")
    seen: list[Any] = []
    make(graph.source(source)).sink(seen.append)
    return seen, sw.run(graph, runner="inline", **options)


def outputs(source: Any, make: Any, **options: Any) -> list[Any]:
    return given(source, make, **options)[0]


# -- scans and folds ---------------------------------------------------------------------------------------------


def test_a_scan_hands_its_state_from_event_to_event() -> None:
    assert outputs([3, 1, 4], lambda s: s.scan(lambda total, e: (total + e, total), 0)) == [0, 3, 4]


def test_initial_states_are_copies() -> None:
    initial: list[int] = []

    def keep(state: list[int], event: int) -> tuple[list[int], int]:
        state.append(event)
        return state, len(state)

    for _ in range(2):
        assert outputs([1, 2, 3], lambda s: s.scan(keep, initial)) == [1, 2, 3]
        assert outputs([1, 2, 3], lambda s: s.key_by(lambda e: e % 2).scan(keep, initial)) == [1, 1, 2]
    assert initial == []


def test_an_output_is_not_the_state_that_goes_on() -> None:
    def keep(state: list[int], event: int) -> tuple[list[int], list[int]]:
        state.append(event)
        return state, state

    def spoil(held: list[int]) -> list[int]:
        held.append(-1)
        return held

    expected = [[1, -1], [1, 2, -1], [1, 2, 3, -1]]
    assert outputs([1, 2, 3], lambda s: s.scan(keep, []).map(spoil)) == expected
    assert outputs([1, 2, 3], lambda s: s.key_by(lambda e: 0).scan(keep, []).map(spoil)) == expected


def test_a_reduced_value_is_not_the_one_that_is_given() -> None:
    def spoil(pair: tuple[int, list[int]]) -> list[int]:
        pair[1].append(-1)
        return pair[1]

    found = outputs([[1], [2]], lambda s: s.key_by(lambda e: 0).reduce(operator.iadd).map(spoil))
    assert found == [[1, -1], [1, 2, -1]]


def test_keys_are_given_as_they_came_and_equal_ones_count_together() -> None:
    assert outputs([1, True, 1.0, 2], lambda s: s.key_by(lambda e: e).count()) == [(1, 1), (True, 2), (1.0, 3), (2, 1)]


def test_final_results_come_once_by_first_appearance() -> None:
    words = ["b", "a", "b", "c", "a", "b"]
    assert outputs(words, lambda s: s.key_by(str).count(final=True)) == [("b", 3), ("a", 2), ("c", 1)]
    numbers = [5, 2, 7, 4, 9]
    assert outputs(numbers, lambda s: s.key_by(lambda e: e % 2).reduce(max, final=True)) == [(1, 9), (0, 4)]


def test_nothing_at_the_end_of_nothing() -> None:
    assert outputs([], lambda s: s.key_by(str).count(final=True)) == []
    assert outputs([], lambda s: s.key_by(str).window(sw.tumbling(5), time=int).count()) == []


def test_indices_are_kept_behind_a_key() -> None:
    class Numbered:
        def __init__(self) -> None:
            self.seen: list[tuple[int, int, Any]] = []

        def write(self, events: Any, /) -> None:
            self.seen += [(seq, index, event) for (seq, index), event in zip(events.numbers, events, strict=True)]

        def close(self) -> None: ...

    graph, sink = sw.Graph(), Numbered()
    events = graph.source([3, 0, 2]).flat_map(range).filter(lambda e: e != 0)
    events.key_by(lambda e: e).count().sink(sink)
    sw.run(graph, runner="inline")
    assert sink.seen == [(0, 1, (1, 1)), (0, 2, (2, 1)), (2, 1, (1, 2))]


def test_the_context_names_the_event() -> None:
    def where(state: int, event: int) -> tuple[int, tuple[int, int, str, int]]:
        now = sw.current()
        return state, (now.seq, now.index, now.node, event)

    found = outputs([2, 3], lambda s: s.flat_map(lambda n: [n] * n).key_by(lambda e: e).scan(where, 0))
    assert [(seq, index) for seq, index, _, _ in found] == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    assert {node for _, _, node, _ in found} == {"where"}


def test_async_handlers_around_a_state_change_nothing() -> None:
    async def later(event: int) -> int:
        return event + 1

    found = outputs(range(9), lambda s: s.map(later).key_by(lambda e: e % 3).count().map(lambda pair: pair))
    assert found == [(e % 3, (e - 1) // 3 + 1) for e in range(1, 10)]
    windows = outputs(range(9), lambda s: s.map(later).key_by(lambda e: 0).window(sw.tumbling(4), time=int).collect())
    assert [window.value for window in windows] == [[1, 2, 3], [4, 5, 6, 7], [8, 9]]


# -- failures ----------------------------------------------------------------------------------------------------


def boom(*_: Any) -> Any:
    raise ValueError("no")


def at_three(state: int, event: int) -> tuple[int, int]:
    return (state, event) if event != 3 else boom()


@pytest.mark.parametrize(
    ("make", "node"),
    [
        (lambda s: s.scan(at_three, 0), "at_three"),
        (lambda s: s.key_by(lambda e: e % 2).scan(at_three, 0, name="mine"), "mine"),
        (lambda s: s.key_by(lambda e: e if e != 3 else boom(), name="keys").count(), "keys"),
        (lambda s: s.key_by(lambda e: 0).reduce(lambda a, e: e if e != 3 else boom(), name="r"), "r"),
        (lambda s: s.key_by(lambda e: e if e != 3 else [e], name="keys").count(), "keys"),
        (lambda s: s.key_by(lambda e: e).window(sw.tumbling(1), time=lambda e: e if e != 3 else boom()).count(), "window"),
        (lambda s: s.key_by(lambda e: e).window(sw.tumbling(1), time=lambda e: e if e != 3 else "3").count(), "window"),
        (
            lambda s: s.key_by(lambda e: 0)
            .window(sw.tumbling(5), time=lambda e: e)
            .aggregate(lambda a, e: a if e != 3 else boom(), 0, name="agg"),
            "agg",
        ),
        (lambda s: s.scan(lambda state, e: (state, e) if e != 3 else 7, 0, name="wrong"), "wrong"),
    ],
)
def test_a_failure_ends_the_run_at_its_number(make: Any, node: str) -> None:
    graph, seen = sw.Graph(), []
    source = graph.source(range(6))
    make(source).sink(lambda _: None)
    source.sink(seen.append)
    with pytest.raises(sw.HandlerError) as caught:
        sw.run(graph, runner="inline")
    error = caught.value
    assert (error.seq, error.index, error.node, error.event) == (3, 0, node, 3)
    assert seen == [0, 1, 2]


def test_what_a_scan_must_give_is_said() -> None:
    with pytest.raises(sw.HandlerError, match=r"gives \(state, output\), this one gave something else"):
        outputs([1], lambda s: s.scan(lambda state, e: None, 0))


def test_times_of_two_kinds_are_refused() -> None:
    times = [datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)]
    for window in (sw.tumbling(timedelta(hours=1)), sw.session(timedelta(hours=1))):
        with pytest.raises(sw.HandlerError, match="with and without a zone") as caught:
            outputs(times, lambda s, window=window: s.key_by(lambda e: 0).window(window, time=lambda e: e).count())
        assert caught.value.seq == 1


# -- windows -----------------------------------------------------------------------------------------------------


def windows(events: Any, window: Any, **options: Any) -> tuple[list[Any], sw.RunReport]:
    """Return the windows of `(key, time)` events, with the times they hold."""
    found, report = given(
        events,
        lambda s: s.key_by(lambda e: e[0])
        .window(window, time=lambda e: e[1], **options)
        .collect()
        .map(lambda w: (w.key, w.start, w.end, [time for _, time in w.value])),
    )
    return found, report


def test_a_window_closes_when_the_watermark_has_passed_it() -> None:
    events = [("a", 1), ("b", 4), ("a", 9), ("a", 10), ("b", 25)]
    found, report = windows(events, sw.tumbling(10))
    assert found == [("a", 0, 10, [1, 9]), ("b", 0, 10, [4]), ("a", 10, 20, [10]), ("b", 20, 30, [25])]
    assert (report.late, report.events_in, report.keys) == (0, 5, 0)


def test_a_window_is_an_output_of_the_number_that_closed_it() -> None:
    graph, seen = sw.Graph(), []
    source = graph.source([1, 2, 10, 11, 20])
    source.sink(seen.append)
    source.key_by(lambda e: 0).window(sw.tumbling(10), time=lambda e: e).count().sink(lambda w: seen.append((w.end, w.value)))
    sw.run(graph, runner="inline")
    assert seen == [1, 2, 10, (10, 2), 11, 20, (20, 2), (30, 1)]


def test_late_events_are_dropped_and_counted() -> None:
    events = [("a", 1), ("a", 12), ("a", 9), ("b", 3), ("a", 13)]
    found, report = windows(events, sw.tumbling(10))
    assert found == [("a", 0, 10, [1]), ("a", 10, 20, [12, 13])]
    assert report.late == 2
    assert "2 late" in str(report)
    found, report = windows(events, sw.tumbling(10), allowed_lateness=3)
    assert found == [("a", 0, 10, [1, 9]), ("b", 0, 10, [3]), ("a", 10, 20, [12, 13])]
    assert report.late == 0


def test_a_number_is_judged_by_the_watermark_before_it() -> None:
    found, report = given(
        [[1], [50, 2, 51], [3]],
        lambda s: s.flat_map(lambda e: e).key_by(lambda e: 0).window(sw.tumbling(10), time=lambda e: e).collect(),
    )
    assert [window.value for window in found] == [[1, 2], [50, 51]]
    assert report.late == 1


def test_windows_that_close_together_come_by_end_and_first_event() -> None:
    events = [("b", 3), ("a", 1), ("c", 14), ("a", 12), ("z", 100)]
    found, _ = windows(events, sw.tumbling(10), allowed_lateness=50)
    assert [(key, end) for key, _, end, _ in found] == [("b", 10), ("a", 10), ("c", 20), ("a", 20), ("z", 110)]


def test_sliding_windows_hold_an_event_several_times() -> None:
    found, _ = windows([("a", 4), ("a", 11)], sw.sliding(10, 5))
    assert found == [("a", -5, 5, [4]), ("a", 0, 10, [4]), ("a", 5, 15, [11]), ("a", 10, 20, [11])]


def test_overlapping_windows_do_not_share_their_events() -> None:
    def spoil(window: sw.Window[int, list[Any]]) -> list[Any]:
        for event in window.value:
            event.append("spoilt")
        return window.value

    found = outputs(
        [[4], [11], [30]], lambda s: s.key_by(lambda e: 0).window(sw.sliding(10, 5), time=lambda e: e[0]).collect().map(spoil)
    )
    assert {len(event) for events in found for event in events} == {2}


def test_a_sliding_event_is_late_only_when_all_its_windows_are() -> None:
    found, report = windows([("a", 11), ("a", 7), ("a", 3)], sw.sliding(10, 5))
    assert report.late == 1
    assert [times for _, start, _, times in found if start == 5] == [[11, 7]]


def test_a_session_ends_when_nothing_comes_for_its_gap() -> None:
    events = [("a", 1), ("a", 5), ("b", 6), ("a", 10), ("b", 16), ("a", 30)]
    found, _ = windows(events, sw.session(10))
    assert found == [("b", 6, 16, [6]), ("a", 1, 20, [1, 5, 10]), ("b", 16, 26, [16]), ("a", 30, 40, [30])]


def test_an_event_between_two_sessions_makes_one_of_them() -> None:
    events = [("a", 19), ("a", 1), ("a", 10), ("b", 100)]
    found, report = windows(events, sw.session(10), allowed_lateness=50)
    assert found == [("a", 1, 29, [1, 10, 19]), ("b", 100, 110, [100])]
    assert report.late == 0


def test_a_session_made_of_two_has_the_first_event_of_both() -> None:
    events = [("a", 19), ("b", 19), ("a", 1), ("a", 10), ("z", 100)]
    found, _ = windows(events, sw.session(10), allowed_lateness=50)
    assert [(key, end) for key, _, end, _ in found] == [("a", 29), ("b", 29), ("z", 110)]


def test_sessions_are_merged_by_the_merge_of_the_aggregate() -> None:
    found = outputs(
        [19, 1, 10],
        lambda s: s.key_by(lambda e: 0)
        .window(sw.session(10), time=lambda e: e, allowed_lateness=50)
        .aggregate(lambda held, e: [*held, e], [0], merge=lambda a, b: [*a, *b]),
    )
    assert [window.value for window in found] == [[0, 1, 10, 0, 19]]


def test_a_session_that_an_event_moves_up_stays_open() -> None:
    found, _ = windows([("a", 0), ("a", 9), ("b", 12), ("a", 18), ("b", 19)], sw.session(10))
    assert found == [("a", 0, 28, [0, 9, 18]), ("b", 12, 29, [12, 19])]


def test_a_session_that_begins_late_may_end_before_all_others() -> None:
    found, _ = windows([("a", 100), ("b", 70), ("c", 101), ("d", 130)], sw.session(10), allowed_lateness=21)
    assert [(key, end) for key, _, end, _ in found] == [("b", 80), ("a", 110), ("c", 111), ("d", 140)]


def test_windows_of_datetimes() -> None:
    day = datetime(2024, 5, 1, tzinfo=UTC)
    times = [day + timedelta(minutes=minute) for minute in (5, 50, 65, 130)]
    found = outputs(
        times, lambda s: s.key_by(lambda e: "k").window(sw.tumbling(timedelta(hours=1)), time=lambda e: e).count()
    )
    hour = timedelta(hours=1)
    assert found == [sw.Window("k", day + n * hour, day + (n + 1) * hour, count) for n, count in ((0, 2), (1, 1), (2, 1))]


def test_windows_of_floats() -> None:
    found = outputs([0.1, 0.25, 0.3], lambda s: s.key_by(lambda e: 0).window(sw.tumbling(0.25), time=lambda e: e).count())
    assert found == [sw.Window(0, 0.0, 0.25, 1), sw.Window(0, 0.25, 0.5, 2)]


# -- forgetting --------------------------------------------------------------------------------------------------


def test_an_idle_key_is_forgotten() -> None:
    events = [("a", 0), ("b", 1), ("a", 10), ("c", 21), ("a", 22), ("a", 23), ("b", 23)]

    def count(**options: Any) -> Any:
        return lambda s: s.key_by(lambda e: e[0], ttl=10, time=lambda e: e[1]).count(**options)

    found, report = given(events, count())
    assert found == [("a", 1), ("b", 1), ("a", 2), ("c", 1), ("a", 1), ("a", 2), ("b", 1)]
    assert (report.forgotten, report.keys) == (2, 3)
    final, report = given([*events, ("z", 40)], count(final=True))
    assert final == [("z", 1)]
    assert (report.forgotten, report.keys) == (5, 1)


def test_keys_without_a_time_to_live_are_told() -> None:
    report = given(range(100), lambda s: s.key_by(lambda e: e % 30).count())[1]
    assert report.keys == 30
    assert report.nodes["count"].events_in == 100


# -- the end of the input ----------------------------------------------------------------------------------------


def test_a_limit_closes_what_is_open() -> None:
    seen, report = given(range(100), lambda s: s.key_by(lambda e: e % 2).count(final=True), limit=5)
    assert seen == [(0, 3), (1, 2)]
    assert (report.events_in, report.ended_by) == (5, "limit")


def test_a_stop_closes_what_is_open() -> None:
    class Stop:
        def __init__(self) -> None:
            self.asked = 0

        def is_set(self) -> bool:
            self.asked += 1
            return self.asked > 3

    seen, report = given(range(10**9), lambda s: s.key_by(lambda e: 0).count(final=True), stop=Stop())
    assert seen == [(0, report.events_in)]
    assert report.ended_by == "stop"


def test_a_source_that_fails_closes_nothing() -> None:
    def broken() -> Any:
        yield from [1, 2]
        raise OSError("gone")

    graph, seen = sw.Graph(), []
    graph.source(broken).key_by(lambda e: e).count(final=True).sink(seen.append)
    with pytest.raises(sw.SourceError):
        sw.run(graph, runner="inline")
    assert seen == []


def test_no_function_of_the_user_sees_the_end() -> None:
    called: list[Any] = []

    def note(event: Any) -> Any:
        called.append(event)
        return event

    def note_all(events: list[Any]) -> list[Any]:
        assert events
        return events

    graph = sw.Graph()
    events = graph.source([1, 2]).map(note).map_batches(note_all)
    events.key_by(note).count(final=True).sink(lambda _: None)
    sw.merge(events, events.map(note)).sink(lambda _: None)
    report = sw.run(graph, runner="inline")
    assert called.count(1) == called.count(2) == 3
    assert len(called) == 6
    assert report.events_in == 2
