"""Whether a run is healthy and ready, from one look after the other.

Decides what a stall is: numbers are in flight and the head of the line has not moved for `stall_s` seconds. Time is passed
in; who asks and who answers is not known here.
"""

from __future__ import annotations

from msgspec import Struct

from ..reporting.live import LiveRun


class Health(Struct, frozen=True):
    """What a check is told: `healthy` while it moves, `ready` while it also takes events; `why` not, in words.

    `since_s` are the seconds for which the head of the line has not moved, 0 while nothing is in flight.
    """

    healthy: bool
    ready: bool
    why: str
    since_s: float


class HealthWatch:
    """Watches the head of the line."""

    def __init__(self, stall_s: float, now: float) -> None:
        self._stall_s = stall_s
        self._mark: object = None
        self._since = now

    def record(self, live: LiveRun, now: float) -> Health:
        """Record a look at the run at `now` (monotonic seconds), and return how it stands."""
        flow = live.flow
        if live.answers:  # else nothing was seen: the mark is as old as before
            mark = (flow.head, flow.answered)
            if mark != self._mark or not flow.in_flight:
                self._mark, self._since = mark, now
        since_s = now - self._since if live.answers or self._mark is not None else 0.0
        why = self._why(live, since_s)
        return Health(not why, live.open and not why, why or ("" if live.open else _NOT_OPEN), since_s)

    def _why(self, live: LiveRun, since_s: float) -> str:
        """Return why the run is not healthy, "" if it is."""
        report = live.report
        if report.ended_by:
            return f"the run has ended by {report.ended_by}"
        if since_s < self._stall_s:
            return ""
        if not live.answers:
            return f"the engine has not answered for {since_s:.0f} s"
        where = "a sink or the consumer" if live.flow.answered else live.flow.holder or "the calling process"
        return f"number {live.flow.head} has not moved for {since_s:.0f} s; it waits for {where}"


_NOT_OPEN = "the sources are not open yet, or the workers not ready"
