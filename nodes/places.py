"""Where a source stands at a number, so that it can be told what is committed.

Decides how positions, which a reader gives behind its reads, become the place behind any single event: the last
position that is wholly numbered, and how many events more. Positions are opaque here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a source: `skip` events behind `position` (`None`: its beginning)."""

    position: object = None
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """What comes with a chunk of whole reads: the position behind it."""

    position: object


class Track:
    """Follows one source: what was offered, and how much of it has numbers."""

    def __init__(self, place: Place | None = None) -> None:
        place = place or Place()
        self._position = place.position
        self._used = self._lead = place.skip
        self._behind: deque[tuple[int, Mark]] = deque()

    def offered(self, size: int, mark: Mark) -> None:
        """Take in a chunk of `size` events; the first one after a resume lacks what was left out of it."""
        self._behind.append((size + self._lead, mark))
        self._lead = 0

    def numbered(self, count: int) -> None:
        """Take in that so many more events have numbers."""
        self._used += count
        while self._behind and self._used >= self._behind[0][0]:
            size, mark = self._behind.popleft()
            self._used -= size
            self._position = mark.position

    def place(self) -> Place:
        """Give the place behind the last event that has a number."""
        return Place(self._position, self._used)
