"""Windows and times to live over times of any type have the results of exact arithmetic, and every run ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import sluiceway as sw
from drawing import drawn
from hypothesis import strategies as st

EPOCH = datetime(1970, 1, 1)
NEW_YORK = ZoneInfo("America/New_York")
MICROSECOND = timedelta(microseconds=1)


# -- exact values ------------------------------------------------------------------------------------------------


def exact(value: Any) -> Fraction:
    """Return a time or length as a fraction: the instant in microseconds, or the number that is shown."""
    if isinstance(value, timedelta):
        return Fraction(value // MICROSECOND)
    if isinstance(value, datetime):
        offset = value.utcoffset() or timedelta(0)
        return Fraction((value.replace(tzinfo=None) - EPOCH) // MICROSECOND - offset // MICROSECOND)
    if isinstance(value, float) and not value.is_integer():
        return Fraction(repr(float(value)))
    return Fraction(int(value)) if value == int(value) else Fraction(value)


def plain_grid(times: list[Fraction], size: Fraction, slide: Fraction, lateness: Fraction) -> tuple[list[Any], int]:
    """Return the windows as (start, end, positions of events), and how many events are late."""
    found: dict[Fraction, list[int]] = {}
    closed: list[tuple[Fraction, list[int]]] = []
    mark: Fraction | None = None
    late = 0
    for at, time in enumerate(times):
        first = math.floor((time - size) / slide) + 1
        starts = [j * slide for j in range(first, math.floor(time / slide) + 1)]
        starts = [start for start in starts if mark is None or start + size + lateness > mark]
        late += not starts
        for start in starts:
            found.setdefault(start, []).append(at)
        mark = time if mark is None else max(mark, time)
        for start in sorted(start for start in found if start + size + lateness <= mark):
            closed.append((start, found.pop(start)))
    closed += sorted(found.items())
    return [(start, start + size, events) for start, events in closed], late


def plain_sessions(times: list[Fraction], gap: Fraction, lateness: Fraction) -> tuple[list[Any], int]:
    """Return the sessions of one key as (start, end, positions of events), and how many events are late."""
    open_: list[tuple[Fraction, Fraction, list[int]]] = []
    closed: list[Any] = []
    mark: Fraction | None = None
    late = 0
    for at, time in enumerate(times):
        near = [s for s in open_ if s[0] - gap < time < s[1] + gap]
        if not near and mark is not None and time + gap + lateness <= mark:
            late += 1
            continue
        open_ = [s for s in open_ if s not in near]
        events = sorted([at, *(event for s in near for event in s[2])])
        open_.append((min([time, *(s[0] for s in near)]), max([time, *(s[1] for s in near)]), events))
        mark = time if mark is None else max(mark, time)
        ended = sorted((s for s in open_ if s[1] + gap + lateness <= mark), key=lambda s: s[1])
        open_ = [s for s in open_ if s not in ended]
        closed += ended
    closed += sorted(open_, key=lambda s: s[1])
    return [(start, last + gap, events) for start, last, events in closed], late


def plain_counts(times: list[Fraction], ttl: Fraction) -> list[int]:
    """Return the counts of one key that is forgotten."""
    counts: list[int] = []
    last = mark = times[0] if times else Fraction(0)
    for time in times:
        forgotten = bool(counts) and mark - last > ttl
        counts.append(1 if forgotten or not counts else counts[-1] + 1)
        last = time if forgotten else max(last, time)
        mark = max(mark, time)
    return counts


# -- drawn times -------------------------------------------------------------------------------------------------


def scaled(make: Callable[[int], Any]) -> Callable[[list[int]], list[Any]]:
    return lambda units: [make(unit) for unit in units]


class Whole(int):
    """A number of the user's own."""

    def __add__(self, other: Any) -> Any:
        raise AssertionError("nobody adds to it")

    __radd__ = __sub__ = __rsub__ = __floordiv__ = __add__


SUMMER = datetime(2024, 3, 10, 5, tzinfo=UTC)
WINTER = datetime(2024, 11, 3, 4, tzinfo=UTC)
#: How a drawn whole number becomes a time of a type, and a length.
TYPES: dict[str, tuple[Callable[[int], Any], Callable[[int], Any]]] = {
    "int": (int, int),
    "huge": (lambda n: 2**63 + n, int),
    "beyond floats": (lambda n: 10**400 + n, int),
    "float": (float, int),
    "big float": (lambda n: 1e18 + n * 1000, int),
    "tenths": (lambda n: n / 10, lambda n: n / 10),
    "products": (lambda n: n * 0.1, lambda n: n / 10),
    "clock": (lambda n: 1_700_000_000 + n / 1000, lambda n: n / 1000),
    "tiny": (lambda n: n * 1e-300, lambda n: n * 1e-300),
    "Decimal": (lambda n: Decimal(n) / 10, lambda n: Decimal(n) / 10),
    "Fraction": (lambda n: Fraction(n, 3), lambda n: Fraction(n, 3)),
    "thirds": (lambda n: Fraction(n, 3), int),
    "int8": (lambda n: np.int8(n % 256 - 128), np.int8),
    "uint64": (lambda n: np.uint64(2**64 - 1000 + n), np.uint64),
    "int64": (lambda n: np.int64(-(2**63) + 500 + n), np.int64),
    "float64": (lambda n: np.float64(n / 10), np.float64),
    "own": (Whole, Whole),
    "naive": (lambda n: datetime(2024, 1, 1) + n * timedelta(minutes=5), lambda n: n * timedelta(minutes=5)),
    "utc": (lambda n: SUMMER + n * timedelta(minutes=5), lambda n: n * timedelta(minutes=5)),
    "spring": (lambda n: (SUMMER + n * timedelta(minutes=5)).astimezone(NEW_YORK), lambda n: n * timedelta(minutes=5)),
    "autumn": (lambda n: (WINTER + n * timedelta(minutes=5)).astimezone(NEW_YORK), lambda n: n * timedelta(minutes=5)),
    "zones": (
        lambda n: (WINTER + n * timedelta(minutes=5)).astimezone((NEW_YORK, UTC, ZoneInfo("Asia/Kathmandu"))[n % 3]),
        lambda n: n * timedelta(minutes=5),
    ),
}  # fmt: skip


@st.composite
def units(draw: st.DrawFn) -> list[int]:
    """Draw whole numbers that mostly go up, a little out of order."""
    steps = draw(st.lists(st.sampled_from([-9, -3, -1, 0, 0, 1, 1, 2, 3, 5, 12, 40]), max_size=40))
    now, found = 100, []
    for step in steps:
        now = min(max(now + step, 0), 400)
        found.append(now)
    return found


def run(times: list[Any], make: Callable[[Any], Any]) -> tuple[list[Any], sw.RunReport]:
    graph = sw.Graph("times")
    seen: list[Any] = []
    make(graph.source(list(enumerate(times)))).sink(seen.append)
    return seen, sw.run(graph, runner="inline")


def windows(times: list[Any], window: Any, lateness: Any) -> tuple[list[Any], int]:
    seen, report = run(
        times,
        lambda s: s.key_by(lambda e: 0).window(window, time=lambda e: e[1], allowed_lateness=lateness).collect(),
    )
    return [(w.start, w.end, sorted(at for at, _ in w.value)) for w in seen], report.late


def check(found: tuple[list[Any], int], plain: tuple[list[Any], int]) -> None:
    assert (len(found[0]), found[1]) == (len(plain[0]), plain[1])
    for (*bounds, events), (*exact_bounds, expected) in zip(*(each[0] for each in (found, plain)), strict=True):
        assert events == expected
        for bound, value in zip(bounds, exact_bounds, strict=True):
            assert bound == float(value) if isinstance(bound, float) else exact(bound) == value


# -- the tests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
@drawn(
    15, 300, units=units(), sizes=st.sampled_from([(1, 1, 0), (2, 1, 0), (10, 3, 7), (7, 7, 2), (12, 4, 0), (30, 11, 30)])
)
def test_times_of_any_type_are_exact(kind: str, units: list[int], sizes: tuple[int, int, int]) -> None:
    time, length = TYPES[kind]
    times = [time(unit) for unit in units]
    size, slide, lateness = map(length, sizes)
    given = list(map(exact, times))
    check(windows(times, sw.sliding(size, slide), lateness), plain_grid(given, exact(size), exact(slide), exact(lateness)))
    grid = windows(times, sw.tumbling(size), lateness)
    check(grid, plain_grid(given, exact(size), exact(size), exact(lateness)))
    for start, end, events in grid[0]:
        assert all(start <= times[at] < end for at in events) or kind == "own"
    check(windows(times, sw.session(size), lateness), plain_sessions(given, exact(size), exact(lateness)))
    seen, _ = run(times, lambda s: s.key_by(lambda e: 0, ttl=size, time=lambda e: e[1]).count())
    assert [count for _, count in seen] == plain_counts(given, exact(size))


NUMBERS = (
    st.integers() | st.floats() | st.decimals() | st.fractions() | st.sampled_from(
        [1e100, -1e100, 2**63, 1e308, 5e-324, Decimal("sNaN"), Decimal("1e999999"), Decimal("1e-999999"), 10**400, True]
    )
)  # fmt: skip
LENGTHS = (
    st.integers(1, 10**6) | st.floats(1e-300, 1e300) | st.sampled_from([1e-300, 5e-324, 0.1, Decimal("0.3"), Fraction(1, 3)])
)
DATETIMES = st.datetimes() | st.datetimes(timezones=st.timezones()) | st.sampled_from([datetime.min, datetime.max, EPOCH])
SPANS = st.timedeltas(MICROSECOND, timedelta(days=10**6))


@pytest.mark.parametrize("window", [sw.tumbling, sw.session, lambda size: sw.sliding(size, size / 3), None])
@drawn(
    25,
    500,
    given=st.tuples(st.lists(NUMBERS, max_size=8), LENGTHS) | st.tuples(st.lists(DATETIMES, max_size=8), SPANS),
)
def test_every_run_ends(window: Any, given: tuple[list[Any], Any]) -> None:
    """With windows that hold their events, or with the failure of the first event that is to blame."""
    times, length = given
    if isinstance(length, timedelta) and length < 3 * MICROSECOND:
        length = 3 * MICROSECOND
    if length == 5e-324:
        length = 1e-320

    def make(stream: Any) -> Any:
        if window is None:
            return stream.key_by(lambda e: 0, ttl=length, time=lambda e: e[1]).count()
        return stream.key_by(lambda e: 0).window(window(length), time=lambda e: e[1], allowed_lateness=length).collect()

    try:
        seen, report = run(times, make)
    except sw.HandlerError as error:
        failed = error
        times = times[: failed.seq]
        seen, report = run(times, make)
        if "time" not in str(failed) or failed.seq is None:
            raise
    if window is None:
        assert len(seen) == len(times)
        return
    for held in seen:
        for at, time in held.value:
            assert time is times[at] or time == times[at]
            assert is_inside(held, time)
    assert len({at for held in seen for at, _ in held.value}) + report.late == len(times)


def is_inside(window: sw.Window, time: Any) -> bool:
    """Whether the bounds that the user sees hold a time.

    A float is the decimal number it is shown as; a bound that is a float is the float nearest to the exact one.
    """
    if not isinstance(window.start, float):
        return exact(window.start) <= exact(time) < exact(window.end)
    return window.start <= float(exact(time)) <= window.end
