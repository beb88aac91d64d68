"""The source of periodic events: when a tick is due, and how waiting for it is interrupted."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..checks import check_seconds, check_whole
from ..errors import GraphError, kind_of

#: The longest wait for a tick at a time, in seconds; longer than the pauses between two reads that gave nothing.
_WAIT_S = 0.25


@dataclass(frozen=True, slots=True)
class Every:
    """A source of the ticks 0, 1, 2, ..., one each `seconds`, `limit` of them (`None`: endless)."""

    #: A tick is its count: read again from a position, the same ticks come, if later.
    replay: ClassVar[str] = "exact"

    #: What names its node where the graph gives it no name.
    name: ClassVar[str] = "every"

    seconds: float
    limit: int | None = None

    def reader(self, position: object | None, /) -> TickReader:
        """Open the source; from a position on, the next tick is due at once."""
        if position is not None and not isinstance(position, int):
            raise GraphError(f"cannot go on from {kind_of(position)}: the position of ticks is their count")
        return TickReader(self.seconds, self.limit, position or 0)

    def size_hint(self) -> int | None:
        """Return the number of ticks to expect."""
        return self.limit


class TickReader:
    """Reads the ticks that are due; tick `k` is due `(k - first) * seconds` after the first read. `close` wakes it."""

    def __init__(
        self, seconds: float, limit: int | None, first: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._stop = math.inf if limit is None else limit
        self._first = self._next = first
        self._clock = clock
        self._start: float | None = None
        self._closed = threading.Event()

    def read(self, limit: int, max_bytes: int, /) -> Sequence[int] | None:
        """Wait until a tick is due and return all that are, at most `limit`; `None` after the last or `close`.

        While none is due for longer than `_WAIT_S`, return nothing from time to time: a caller with one thread has other
        duties.
        """
        if self._start is None:
            self._start = self._clock()
        while not self._closed.is_set() and self._next < self._stop:
            passed_s = self._clock() - self._start
            missing_s = (self._next - self._first) * self._seconds - passed_s
            if missing_s > 0:
                self._closed.wait(min(missing_s, _WAIT_S))
                if missing_s > _WAIT_S and not self._closed.is_set():
                    return ()
                continue
            due = max(self._next + 1, self._first + int(passed_s / self._seconds) + 1)
            begin, self._next = self._next, int(min(due, self._next + max(limit, 1), self._stop))
            return range(begin, self._next)
        return None

    def position(self) -> int:
        """Return the next tick."""
        return self._next

    def close(self) -> None:
        """End the ticks; a waiting `read` in another thread returns at once."""
        self._closed.set()


def every(seconds: float, limit: int | None = None) -> Every:
    """Make a source of periodic events: the tick count 0, 1, 2, ..., the first at once, then one each `seconds`.

    Ticks do not drift: a tick that is late does not delay the following ones, and all that are due come together.
    `limit` ends the source after that many ticks. Raises `GraphError` for a period that is not a positive number and
    a limit that is not a count.
    """
    where = "cannot make every()"
    period_s = check_seconds(where, "seconds", seconds, "pass for example every(0.5)", positive=True)
    if limit is not None:
        limit = check_whole(where, "limit", limit, "pass None for endless ticks", least=0)
    return Every(period_s, limit)
