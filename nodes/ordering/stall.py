"""The stall watchdog: when the head of the line has not moved for too long, it is time to say so.

Decides when to warn, and that a stall that goes on is told again ever more seldom. Time is passed in.
"""

from __future__ import annotations


class StallWatch:
    """Watches one mark (a number that ought to rise) and says when it has stood still for `after_s` seconds."""

    def __init__(self, after_s: float, now: float) -> None:
        self._after_s = after_s
        self._mark: object = None
        self._since = now
        self._next = now + after_s

    def check(self, mark: object, busy: bool, now: float) -> float | None:
        """Take in the mark and whether there is anything to do; give for how long it has stood still, if to be told.

        The pause until a stall is told again doubles every time.
        """
        if mark != self._mark or not busy:
            self._mark = mark
            self._since = now
            self._next = now + self._after_s
            return None
        if now < self._next:
            return None
        stood = now - self._since
        self._next = now + stood
        return stood
