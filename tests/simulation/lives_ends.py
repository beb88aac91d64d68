"""What lasts from one life to the next: the store, what sinks hold, what anyone has seen; and how each may break off.

Decides when a thing is durable. A crash between two such moments is drawn by the scenario (`World.point`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, NoReturn

from lives_keeping import KeptRows
from lives_scenario import Scenario
from lives_sources import Source
from sim_laws import LawBroken
from sluiceway.engine.checkpoints.store import Resume, Saved
from sluiceway.nodes.ordering.order_log import Read, Run

#: What a sink gets for one number: the stream, the number, its events.
Row = tuple[int, int, list[int]]


class Crash(BaseException):
    """Everything ends here; nothing may catch it."""


class World:
    """What there is besides the lives."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.rng = Random(scenario.seed ^ 0x11FE)
        self.store = MemoryStore(self)
        self.sources = [Source(self, at) for at in range(len(scenario.sources))]
        self.sinks: list[Outbox | Ledger] = [{"outbox": Outbox, "ledger": Ledger}[kind](self) for kind in scenario.sinks]
        self.seen: dict[tuple[int | str, int], Any] = {}
        #: The events of the numbers from 0 on that anyone has seen, `None` for the end of the input.
        self.fixed: list[int | None] = []
        self.lives: list[str] = []
        self.points: set[str] = set()
        self.restored = 0
        self.recalled = 0
        self.repeated = 0
        self._crash_at: str | None = None
        self._passes = 0

    def broken(self, what: str) -> NoReturn:
        """Return up on all lives."""
        raise LawBroken(f"seed {self.scenario.seed}, after {self.lives}: {what}; {self.scenario.describe()}")

    def crash_at(self, point: str | None, passes: int) -> None:
        """Let the next life end at a point, after so many passes of it."""
        self._crash_at, self._passes = point, passes

    def point(self, name: str) -> None:
        """Pass a point at which everything may end."""
        if name == self._crash_at:
            self._passes -= 1
            if self._passes < 0:
                self.points.add(name)
                raise Crash

    def fix(self, tokens: Sequence[int | None], upto: int) -> None:
        """Note that someone sees the numbers below `upto`: they keep their events for ever."""
        self.fixed += tokens[len(self.fixed) : upto]

    def see(self, what: int | str, number: int, given: Any) -> None:
        """Note what someone has seen of a number: it must be the same for ever."""
        known = self.seen.setdefault((what, number), given)
        if known != given:
            self.broken(f"number {number} of {what} is {given}, and was seen as {known}")


class MemoryStore:
    """A store in the memory of the world, as one in a file would be."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.saved: Saved | None = None
        self.runs: list[Run] = []
        self.reads: list[Read] = []
        self.numbers_announced: list[int] = []
        self.kept = KeptRows(world)

    def open(self, identity: Mapping[str, Any], resume: Resume) -> Saved | None:
        """Return the checkpoint."""
        return self.saved

    def write(self, saved: Saved) -> None:
        """Keep a checkpoint, and trim the log."""
        self._world.point("before the store")
        self.saved = saved
        self.numbers_announced = [n for n in self.numbers_announced if n >= saved.n]
        self.trim(saved)
        self._world.point("after the store")

    def trim(self, saved: Saved) -> None:
        """Let go of what is wholly behind a checkpoint."""
        self.kept.trim(saved.n)
        self.runs = [run for run in self.runs if run.number + run.count > saved.n]
        self.reads = [read for read in self.reads if read.start + read.count > saved.starts[read.source]]

    def log(self, runs: Sequence[Run], reads: Sequence[Read]) -> None:
        """Add to the order log."""
        self._world.point("before the log")
        self.runs += runs
        self.reads += reads
        self._world.point("after the log")

    def logged(self) -> tuple[list[Run], list[Read]]:
        """Return the order log."""
        return list(self.runs), list(self.reads)

    place = "simulated"

    def announce(self, n: int) -> None:
        """Keep a number."""
        self._world.point("before the announcement")
        self.numbers_announced.append(n)
        self._world.point("after the announcement")

    def announced(self) -> int:
        """Return the highest number."""
        return max(self.numbers_announced, default=-1)

    def close(self) -> None:
        """Do nothing."""

    def logged_to(self) -> int:
        """Return the number below which the log or the checkpoint tells whose events got the numbers."""
        upto = self.saved.n if self.saved is not None else 0
        return max([upto, *(run.number + run.count for run in self.runs)])

    def read_to(self, source: int) -> int:
        """Return the event of a source below which the log or the checkpoint tells what its reads gave."""
        upto = self.saved.starts[source] if self.saved is not None else 0
        return max([upto, *(read.start + read.count for read in self.reads if read.source == source)])


class Outbox:
    """A sink that is committed with its number in one step, and knows it afterwards: it may be ahead of the store."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.rows: list[Row] = []
        self.upto = -1
        self._written: list[Row] = []

    def open(self) -> None:
        """Begin anew: what was not committed is gone."""
        self._written = []

    def write(self, rows: Sequence[Row]) -> None:
        """Take rows, to be committed."""
        self._written += rows
        self._world.point("after a write")

    def commit(self, n: int) -> None:
        """Make what was written durable, together with the number."""
        self._world.point("before a commit")
        self.rows += self._written
        self.upto = n
        self._written = []
        self._world.point("after a commit")

    def recover(self, token: object) -> int:
        """Go on behind the last commit."""
        self._written = []
        return self.upto

    def close(self) -> None:
        """End; what is written was committed."""
        if self._written:
            self._world.broken(f"a sink is closed with {len(self._written)} rows that were never committed")

    def abort(self) -> None:
        """End before the end."""


class Ledger:
    """A sink like a file: it goes back to where it was when the checkpoint was kept."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.rows: list[Row] = []

    def open(self) -> None:
        """Begin anew."""
        self.rows = []

    def write(self, rows: Sequence[Row]) -> None:
        """Take rows."""
        self.rows += rows
        self._world.point("after a write")

    def commit(self, n: int) -> tuple[int, int]:
        """Return where it stands."""
        self._world.point("before a commit")
        self._world.point("after a commit")
        return len(self.rows), n

    def recover(self, token: tuple[int, int]) -> int:
        """Cut off what came after the last commit."""
        del self.rows[token[0] :]
        return token[1]

    def close(self) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Do nothing."""


class Witness:
    """A sink that cannot commit: what it has got, it has for ever."""

    def __init__(self, world: World) -> None:
        self._see: Callable[[int | str, int, Any], None] = world.see

    def write(self, rows: Sequence[Row]) -> None:
        """Note every row."""
        for stream, number, events in rows:
            self._see(stream, number, events)

    def close(self) -> None:
        """Do nothing."""
