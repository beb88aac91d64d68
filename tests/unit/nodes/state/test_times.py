"""Event times and lengths of any type: instants, exact numbers, and which of them are refused, with which words."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import sluiceway as sw
from sluiceway.nodes.state.times import TimeCheck, TimeScale

NEW_YORK = ZoneInfo("America/New_York")
HOUR = timedelta(hours=1)


def windows(times: list[Any], window: Any, **options: Any) -> tuple[list[Any], int]:
    graph, seen = sw.Graph(), []
    keyed = graph.source(range(len(times))).key_by(lambda e: "k")
    keyed.window(window, time=times.__getitem__, **options).count().sink(lambda w: seen.append((w.start, w.end, w.value)))
    return seen, sw.run(graph, runner="inline").late


def local(utc: datetime, minutes: int) -> datetime:
    return (utc + timedelta(minutes=minutes)).astimezone(NEW_YORK)


# -- instants ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [datetime(2024, 3, 10, 6, tzinfo=UTC), datetime(2024, 11, 3, 5, tzinfo=UTC)])
@pytest.mark.parametrize("window", [sw.tumbling(timedelta(minutes=10)), sw.sliding(2 * HOUR, timedelta(minutes=40))])
def test_a_change_of_the_clocks_moves_no_window(change: datetime, window: Any) -> None:
    times = [local(change, 5 * at) for at in range(30)]
    found = windows(times, window)
    assert found == windows([time.astimezone(UTC) for time in times], window)
    assert found[1] == 0
    assert {bound.tzinfo for start, end, _ in found[0] for bound in (start, end)} == {UTC}


def test_sessions_and_times_to_live_count_real_hours() -> None:
    spring, autumn = datetime(2024, 3, 10, 6, 30, tzinfo=UTC), datetime(2024, 11, 3, 5, 50, tzinfo=UTC)
    one = [local(spring, 15 * at) for at in range(6)]
    assert [value for _, _, value in windows(one, sw.session(HOUR / 2))[0]] == [6]
    two = [local(autumn, 0), local(autumn, 50)]
    assert windows(two, sw.session(HOUR / 2))[0] == [(time, time + HOUR / 2, 1) for time in map(utc, two)]

    def counts(*times: datetime) -> list[tuple[str, int]]:
        events = [("a", times[0]), ("b", times[1]), ("a", times[1])]
        keyed = sw.Graph().source(events).key_by(lambda e: e[0], ttl=HOUR, time=lambda e: e[1])
        return list(sw.iterate(keyed.count(), runner="inline"))

    assert counts(local(autumn, 0), local(autumn, 80)) == [("a", 1), ("b", 1), ("a", 1)]
    assert counts(local(spring, 0), local(spring, 40)) == [("a", 1), ("b", 1), ("a", 2)]


def utc(time: datetime) -> datetime:
    return time.astimezone(UTC)


def test_datetimes_without_a_zone_stay_without_one() -> None:
    day = datetime(2024, 1, 1)
    assert windows([day, day + HOUR], sw.session(2 * HOUR))[0] == [(day, day + 3 * HOUR, 2)]
    assert windows([day + HOUR], sw.tumbling(2 * HOUR))[0] == [(day, day + 2 * HOUR, 1)]


@pytest.mark.parametrize("options", [{"runner": "inline"}, {"workers": 2}])
def test_mixed_zones_are_found_at_the_same_number(options: dict[str, Any]) -> None:
    times = [datetime(2024, 1, 1), datetime(2024, 1, 2), datetime(2024, 1, 3, tzinfo=UTC), datetime(2024, 1, 4)]
    graph = sw.Graph()
    graph.source(times).key_by(lambda e: 0).window(sw.tumbling(HOUR), time=lambda e: e).count().sink(lambda w: None)
    with pytest.raises(sw.HandlerError, match="with and without a zone") as caught:
        sw.run(graph, **options)
    assert caught.value.seq == 2


class FineDatetime(datetime):
    """A datetime of nanoseconds, as pandas has it."""

    nanosecond = 0


class FineDelta(timedelta):
    nanoseconds = 0

    def __new__(cls, value: int, unit: str = "ns") -> FineDelta:
        made = super().__new__(cls, microseconds=value // 1000)
        made.nanoseconds = value % 1000
        return made

    def __add__(self, other: Any) -> Any:
        whole = timedelta(self.days, self.seconds, self.microseconds)
        moved = other + whole
        made = FineDatetime.combine(moved.date(), moved.timetz())
        made.nanosecond = self.nanoseconds
        return made


def fine(nanoseconds: int) -> FineDatetime:
    return FineDelta(nanoseconds) + datetime(2024, 1, 1, tzinfo=UTC)


def test_nanoseconds_are_kept() -> None:
    times = [fine(50 * at) for at in range(30)]
    found, late = windows(times, sw.tumbling(FineDelta(100)))
    assert (len(found), late, {value for _, _, value in found}) == (15, 0, {2})
    assert [start.nanosecond for start, _, _ in found] == [100 * at % 1000 for at in range(15)]
    assert windows(times, sw.session(FineDelta(50)))[0][0][1].nanosecond == 50
    start, end, value = windows(times, sw.session(timedelta(microseconds=1)))[0][0]
    assert (start.microsecond, end.microsecond, value) == (0, 3, 30), "what datetimes cannot hold is rounded outwards"


# -- numbers -----------------------------------------------------------------------------------------------------


def test_a_float_is_the_decimal_number_that_it_is_shown_as() -> None:
    times = [at / 10 for at in range(20)]
    assert windows(times, sw.tumbling(0.1)) == ([(at / 10, (at + 1) / 10, 1) for at in range(20)], 0)
    assert windows(times, sw.session(0.1)) == ([(at / 10, (at + 1) / 10, 1) for at in range(20)], 0)
    assert windows(times, sw.session(0.2)) == ([(0.0, 2.1, 20)], 0)


def test_numbers_of_fixed_width_do_not_overflow() -> None:
    assert windows([np.int8(100), np.int8(120)], sw.tumbling(np.int8(100))) == ([(100, 200, 2)], 0)
    assert windows([np.uint8(1), np.uint8(250)], sw.session(np.uint8(50)))[0] == [(1, 51, 1), (250, 300, 1)]
    assert windows([np.uint64(3)], sw.sliding(10, 5))[0] == [(-5, 5, 1), (0, 10, 1)]


def test_bounds_have_the_type_of_the_length() -> None:
    def bound(time: Any, window: Any) -> Any:
        return windows([time], window)[0][0][0]

    cases = [
        (12.5, sw.tumbling(10), 10),
        (12, sw.tumbling(10.0), 10.0),
        (Decimal("0.35"), sw.tumbling(Decimal("0.1")), Decimal("0.3")),
        (1, sw.tumbling(Fraction(1, 3)), Fraction(1)),
        (12, sw.session(10), 12),
        (12.5, sw.session(10), 12.5),
        (Fraction(1, 3), sw.session(10), Fraction(1, 3)),
    ]
    for time, window, expected in cases:
        found = bound(time, window)
        assert (type(found), found) == (type(expected), expected)


def test_a_scale_travels() -> None:
    scale = TimeScale.of_grid(Fraction(1, 3), Fraction(1, 6), 0)
    assert pickle.loads(pickle.dumps(scale)) == scale


def test_many_times_at_once_become_the_ticks_of_each() -> None:
    cases: list[tuple[TimeScale, list[Any]]] = [
        (TimeScale.of_grid(0.1, 0.1, 0), [0.1, 0.30000000000000004, -0.7, 1e13, 3.0]),
        (TimeScale.of_grid(60, 60, 0), [1e22, 1.5, -1.5, 1, 2**70]),
        (TimeScale.of_distance(1800, 0, bounds=True), [1700000000.1234567, 5e-324, 3.0]),
        (TimeScale.of_distance(HOUR, bounds=True), [datetime(2024, 1, 1, tzinfo=NEW_YORK), datetime(9999, 12, 31, tzinfo=UTC)]),
    ]
    for scale, times in cases:
        assert scale.ticks(list(times)) == [scale.ticks([time])[0] for time in times] == list(map(scale.tick, times))


# -- what is refused ---------------------------------------------------------------------------------------------


class Lost(tzinfo):
    def utcoffset(self, _: datetime | None) -> timedelta:
        raise OSError("no such zone")


class NoTime(datetime):
    """As NaT of pandas."""

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = datetime.__hash__


@pytest.mark.parametrize(
    ("good", "bad", "length", "text"),
    [
        (datetime(2024, 1, 1), NoTime(2024, 1, 1), HOUR, "NoTime, which is not a time"),
        (datetime(2024, 1, 1), datetime.max, HOUR, "has a bound that no datetime can be"),
        (datetime(2024, 1, 1), datetime.min, 7 * HOUR, "has a bound that no datetime can be"),
        (datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=Lost()), HOUR, "no such zone"),
        (datetime(2024, 1, 1), 3, HOUR, "let it give a datetime"),
        (1, datetime(2024, 1, 1), 10, "give them as timedelta"),
        (1, float("nan"), 10, "no finite number"),
        (1, float("inf"), 10, "no finite number"),
        (1, Decimal("sNaN"), 10, "no finite number"),
        (1, Decimal("1e999999999"), 10, "such an exponent"),
        (1, np.timedelta64(1, "s"), 10, "timedelta64"),
        (1, np.float32("nan"), 10, "no finite number"),
        (1, True, 10, "gave a bool"),
        (1, 1 + 1j, 10, "gave a complex"),
        (1, "1", 10, "gave a str"),
        (1e-300, 1.0, 1e-300, "so far from 0 that floats"),
        (1.0, 1e100, 0.5, "so far from 0 that floats"),
    ],
)
def test_what_is_no_time_fails_its_own_event(good: Any, bad: Any, length: Any, text: str) -> None:
    for window in (sw.tumbling(length), sw.sliding(length, length / 2), sw.session(length)):
        if bad is datetime.min and isinstance(window, type(sw.session(1))):
            continue
        with pytest.raises(sw.HandlerError, match=text) as caught:
            windows([good, bad, good], window)
        assert caught.value.seq == 1


def test_the_first_and_the_last_datetimes_are_times() -> None:
    assert windows([datetime.min], sw.session(HOUR))[0] == [(datetime.min, datetime.min + HOUR, 1)]
    assert windows([datetime.min], sw.tumbling(HOUR))[0] == [(datetime.min, datetime.min + HOUR, 1)]
    last = datetime.max - HOUR
    assert windows([last], sw.session(HOUR))[0] == [(last, datetime.max, 1)]
    early = datetime.min.replace(tzinfo=ZoneInfo("America/New_York"))
    assert windows([early], sw.session(HOUR))[0][0][2] == 1
    times = [datetime.min, datetime.max]
    counts = sw.Graph().source(times).key_by(lambda e: 0, ttl=timedelta.max, time=lambda e: e).count()
    assert list(sw.iterate(counts, runner="inline")) == [(0, 1), (0, 2)]


@pytest.mark.parametrize("time", [1e100, -1e100, 2**63, -(2**63), 10**400, 1.5e308])
def test_large_times_have_exact_windows(time: Any) -> None:
    assert windows([time], sw.tumbling(10))[0] == [(int(time) // 10 * 10, int(time) // 10 * 10 + 10, 1)]
    assert windows([time], sw.session(10))[0] == [(int(time), int(time) + 10, 1)]


def test_the_positions_before_an_invalid_time_are_ticks() -> None:
    times: list[Any] = [1.5, 2, float("nan"), 3]
    found = TimeCheck(TimeScale.of_grid(10, 10, 0))(times)
    assert found is not None
    assert found[0] == 2
    assert times[:2] == [1, 2]


@pytest.mark.parametrize("length", [float("nan"), Decimal("sNaN"), Decimal("Infinity"), np.timedelta64(1, "s"), True, "1"])
def test_what_is_no_length(length: Any) -> None:
    with pytest.raises(sw.GraphError, match="is no length of time"):
        sw.tumbling(length)


def test_too_many_windows_for_each_event_are_refused() -> None:
    for size, slide in [(1e300, 1e-300), (timedelta(days=1), timedelta(microseconds=1)), (100_001, 1)]:
        with pytest.raises(sw.GraphError, match="more than 100,000 windows"):
            sw.sliding(size, slide)


# -- keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [Decimal("sNaN"), Decimal("NaN"), float("nan"), NoTime(2024, 1, 1), np.timedelta64(1, "s")])
def test_what_is_no_key_fails_its_own_event(key: Any) -> None:
    graph = sw.Graph()
    graph.source([1, key, 2]).key_by(lambda e: e).count().sink(lambda _: None)
    with pytest.raises(sw.HandlerError, match="key_by gave a") as caught:
        sw.run(graph, runner="inline")
    assert caught.value.seq == 1


def test_equal_datetimes_of_one_zone_are_in_one_partition() -> None:
    from sluiceway.nodes.state.keys import stable_hash

    first, second = (datetime(2024, 11, 3, 1, 30, tzinfo=NEW_YORK, fold=fold) for fold in (0, 1))
    assert first == second
    assert stable_hash(first) == stable_hash(second)


# -- many of one key ---------------------------------------------------------------------------------------------


def test_many_open_sessions_of_one_key_are_found_fast() -> None:
    count = 20_000
    times = [at * 7919 % count * 10 for at in range(count)]  # in no order, and all open at once
    found, late = windows(times, sw.session(10), allowed_lateness=10 * count)
    assert (len(found), late) == (count, 0)
    assert [start for start, _, _ in found] == list(range(0, 10 * count, 10))


def test_many_open_windows_close_one_by_one() -> None:
    count = 5_000
    found, late = windows(list(range(count)), sw.tumbling(1), allowed_lateness=2_000)
    assert ([start for start, _, _ in found], late) == (list(range(count)), 0)
