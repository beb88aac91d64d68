"""Consistent cuts: one number up to which every source was read and every sink was served.

Decides when a cut is announced (at the next free number, one at a time) and when it is complete: everything below it is
released and the states that belong to it are there. Nothing above it is released before it is handed over. Who stores
a cut is not known here.
"""

from __future__ import annotations

from msgspec import Struct, field

from .source_positions import SourcePosition


class Cut(Struct, frozen=True):
    """The numbers below `n`, the positions of the sources behind them, and the state of each stateful pool by its index."""

    n: int
    positions: tuple[SourcePosition, ...]
    turn: int = 0
    final: bool = False  #: whether the run ends with it
    ended_by: str | None = None  #: what ended the reading, `None` for the sources themselves
    states: dict[int, bytes | None] = field(default_factory=dict)


class Cuts:
    """At most one cut at a time."""

    def __init__(self, pools: tuple[int, ...] = (), *, enabled: bool) -> None:
        self.enabled = enabled
        self._pools = pools  #: those whose states belong to a cut
        self.ended = not enabled  #: whether the final cut is committed, or there is none
        self._due = False
        self._committed = 0
        self._open: Cut | None = None
        self._handed_over = False

    def request(self) -> None:
        """Ask for a cut as soon as the one before is committed."""
        self._due = self.enabled

    def may_announce(self, number: int, final: bool) -> bool:
        """Whether a cut is to be announced at `number`, the next free one; `final` where no more will come."""
        if self._open is not None or self.ended:
            return False
        return final or (self._due and number > self._committed)

    def announce(self, cut: Cut) -> None:
        """Open a cut."""
        self._due = self._handed_over = False
        self._open = cut

    def begin_at(self, n: int) -> None:
        """Begin behind the committed cut of an earlier run."""
        self._committed = n

    def record_state(self, pool: int, n: int, packed: bytes | None) -> None:
        """Record the state of a pool behind the numbers below `n`."""
        if self._open is not None and self._open.n == n:
            self._open.states[pool] = packed

    def missing(self, pool: int) -> int | None:
        """Return the number of the open cut if it lacks the state of a pool."""
        cut = self._open
        return cut.n if cut is not None and pool in self._pools and pool not in cut.states else None

    def release_limit(self, frontier: int) -> int:
        """Return how far may be released: not past a cut that is not handed over."""
        return frontier if self._open is None or self._handed_over else min(frontier, self._open.n)

    def take_complete(self, released: int) -> Cut | None:
        """Return the cut, once, when it is complete; it is then to be committed."""
        cut = self._open
        if cut is None or self._handed_over or released < cut.n or len(cut.states) < len(self._pools):
            return None
        self._handed_over = True
        return cut

    def record_commit(self, n: int) -> Cut | None:
        """Record that the cut below `n` is committed, and return it; `None` if it is not the open one."""
        cut = self._open
        if cut is None or cut.n != n:
            return None
        self._open, self._committed, self.ended = None, n, cut.final
        return cut
