"""Rates over the last seconds, and throughput and latency over the whole run in a bounded number of points.

Decides over which window a rate is taken, and how old points are joined. Time is passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from msgspec import Struct, field

from ...nodes.ordering.queue_stats import quantile_of
from ..reporting.live import LiveRun
from ..reporting.report import NodeReport

#: Rates are those of about the last seconds.
WINDOW_S = 3.0
#: A point a second; from this many on, two neighbours become one.
POINT_S = 1.0
MAX_POINTS = 600
#: The rate for the time left follows the current one by this share a second.
_SHARE = 0.1


class Rates(Struct, frozen=True):
    """What happened in the last seconds: events a second, shares of 1, seconds. Nodes and pools by their names."""

    read: float = 0.0
    released: float = 0.0
    nodes: Mapping[str, float] = field(default_factory=dict)
    busy: Mapping[str, float] = field(default_factory=dict)
    p50_s: Mapping[str, float] = field(default_factory=dict)
    p99_s: Mapping[str, float] = field(default_factory=dict)
    eta_s: float | None = None


class Point(Struct, frozen=True):
    """One point of the charts: seconds since the beginning of the run, events a second, seconds, numbers, bytes."""

    at_s: float
    read: float
    released: float
    p50_s: float
    p99_s: float
    in_flight: float
    nbytes: float


class _Counts(Struct, frozen=True):
    at: float
    read: int
    released: int
    events: Mapping[str, int]
    busy_s: Mapping[str, float]
    stays: Mapping[str, Mapping[int, int]]


class History:
    """What was seen of one run."""

    def __init__(self) -> None:
        self._window: deque[_Counts] = deque()
        self._points: list[Point] = []
        self._step_s = POINT_S
        self._smooth: float | None = None

    @property
    def points(self) -> tuple[Point, ...]:
        """The points so far, the oldest first."""
        return tuple(self._points)

    def record(self, live: LiveRun, now: float) -> Rates:
        """Record a look at `now` (monotonic seconds), and return the rates of the last seconds."""
        counts = _counts_of(live, now)
        self._window.append(counts)
        while len(self._window) > 2 and now - self._window[1].at >= WINDOW_S:
            self._window.popleft()
        before = self._window[0]
        passed = now - before.at
        if passed <= 0:
            return Rates()
        stays = {pool: _since(before.stays.get(pool, {}), now_at) for pool, now_at in counts.stays.items()}
        released = max(0.0, (counts.released - before.released) / passed)
        rates = Rates(
            read=max(0.0, (counts.read - before.read) / passed),
            released=released,
            nodes={name: max(0.0, (n - before.events.get(name, 0)) / passed) for name, n in counts.events.items()},
            busy={
                name: min(1.0, max(0.0, (s - before.busy_s.get(name, 0.0)) / passed)) for name, s in counts.busy_s.items()
            },
            p50_s={pool: quantile_of(stay, 0.5) for pool, stay in stays.items()},
            p99_s={pool: quantile_of(stay, 0.99) for pool, stay in stays.items()},
            eta_s=self._eta(live, released, now - self._window[-2].at),
        )
        self._add_point(live, rates)
        return rates

    def _eta(self, live: LiveRun, released: float, passed: float) -> float | None:
        share = min(1.0, _SHARE * passed)
        self._smooth = released if self._smooth is None else self._smooth + share * (released - self._smooth)
        report = live.report
        if report.expected is None or report.ended_by or not self._smooth:
            return None
        return max(0.0, (report.expected - report.released) / self._smooth)

    def _add_point(self, live: LiveRun, rates: Rates) -> None:
        at_s = live.report.wall_s
        if self._points and at_s - self._points[-1].at_s < self._step_s and not live.over:
            return
        # Pools run at the same time: the slowest one says how long a number took at least.
        p50, p99 = max(rates.p50_s.values(), default=0.0), max(rates.p99_s.values(), default=0.0)
        self._points.append(Point(at_s, rates.read, rates.released, p50, p99, live.flow.in_flight, live.flow.nbytes))
        if len(self._points) >= MAX_POINTS:
            pairs = zip(self._points[::2], self._points[1::2], strict=False)
            self._points = [_joined(one, other) for one, other in pairs]
            self._step_s *= 2


def _counts_of(live: LiveRun, now: float) -> _Counts:
    report = live.report
    return _Counts(
        now,
        report.events_in,
        report.released,
        {name: node.events_in for name, node in report.nodes.items()},
        {name: busy_seconds(node, report.wall_s) for name, node in report.nodes.items()},
        live.flow.stays,
    )


def busy_seconds(node: NodeReport, wall_s: float) -> float:
    """Return the seconds that a node's workers spent in its handler, as a mean over their calls at once."""
    return node.busy * wall_s


def _since(before: Mapping[int, int], now: Mapping[int, int]) -> dict[int, int]:
    return {bucket: count - before.get(bucket, 0) for bucket, count in now.items() if count > before.get(bucket, 0)}


def _joined(one: Point, other: Point) -> Point:
    def mean(a: float, b: float) -> float:
        return (a + b) / 2

    return Point(
        other.at_s,
        mean(one.read, other.read),
        mean(one.released, other.released),
        mean(one.p50_s, other.p50_s),
        max(one.p99_s, other.p99_s),
        max(one.in_flight, other.in_flight),
        max(one.nbytes, other.nbytes),
    )
