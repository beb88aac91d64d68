"""Detects stalls: the head of the line has not moved for too long.

Decides when to warn; repeated warnings back off exponentially. Time is passed in, and the warning is written elsewhere.
"""

from __future__ import annotations


class StallWatch:
    """Watches one mark (a number that should rise) and detects that it has not changed for `after_s` seconds."""

    def __init__(self, after_s: float, now: float) -> None:
        self._after_s = after_s
        self._mark: object = None
        self._since = now
        self._next = now + after_s

    def check(self, mark: object, busy: bool, now: float) -> float | None:
        """Record the mark and whether there is work to do; return for how many seconds it has not changed, if a warning is due.

        The pause between warnings about one stall doubles every time.
        """
        if mark != self._mark or not busy:
            self._mark = mark
            self._since = now
            self._next = now + self._after_s
            return None
        if now < self._next:
            return None
        stalled_s = now - self._since
        self._next = now + stalled_s
        return stalled_s
