"""The thread that called the run, in made-up time: it writes the log, delivers, commits, keeps checkpoints, all one by one.

Decides when it comes to what, and how a run of numbers is cut; what is durable before what is the real `SinkSet`'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from lives_ends import Witness
from sluiceway.engine.checkpoints.checkpoints import Checkpoints
from sluiceway.engine.core.effects import Commit, Deliver, DeliverLoose
from sluiceway.engine.delivery.sinks import SinkEnd, SinkSet
from sluiceway.graphs.builder.spec import Node
from sluiceway.nodes.program.kinds import NodeKind

if TYPE_CHECKING:
    from lives import Life


class Caller:
    """The calling thread of one life, with its sinks."""

    def __init__(self, life: Life, checkpoints: Checkpoints | None) -> None:
        self._life = life
        self._witness = Witness(life.world)
        self._ends = [
            SinkEnd(Node(100 + at, NodeKind.SINK, f"sink {at}", ()), sink, outlet=False)
            for at, sink in enumerate([*life.world.sinks, self._witness])
        ]
        self.sinks = SinkSet(self._ends, len(life.scenario.sources), None, checkpoints, lambda: None)
        self._queue: deque[Deliver | DeliverLoose | Commit] = deque()
        self._busy = False
        self._command_at = 0.0
        #: What still happens when the core is done.
        self.afterwards = (
            self._take_next,
            self._go_on,
            life.core.record_consumed,
            life.core.record_loose_consumed,
            life.core.record_commit,
        )

    def put(self, effect: Deliver | DeliverLoose | Commit) -> None:
        """Take an effect of the core's, to come to it when what came before is done."""
        self._queue.append(effect)
        self._wake()

    def _wake(self) -> None:
        if self._queue and not self._busy:
            self._busy = True
            self._later(self._take_next)

    def _later(self, what: Callable[..., None], *args: Any) -> None:
        life = self._life
        life.at(life.now + life.scenario.ack_s * life.rng.random(), what, *args)

    def _command(self, what: Callable[..., None], *args: Any) -> None:
        """Tell the core something, which it hears a moment later."""
        life = self._life
        self._command_at = max(self._command_at, life.now) + life.scenario.lag_s * life.rng.random()
        life.at(self._command_at, what, *args)

    def _take_next(self) -> None:
        effect = self._queue.popleft()
        if not isinstance(effect, Commit):
            self.sinks.log(effect.log)
            self._go_on(self._pieces(effect))
            return
        laws, cut = self._life.laws, effect.cut
        laws.may_commit(cut)
        self.sinks.commit_cut(cut)
        laws.committed = cut.n
        self._command(self._life.core.record_commit, cut.n)
        self._busy = False
        self._wake()

    def _go_on(self, pieces: Iterator[bool]) -> None:
        if next(pieces, False):
            self._later(self._go_on, pieces)
        else:
            self._busy = False
            self._wake()

    def _pieces(self, effect: Deliver | DeliverLoose) -> Iterator[bool]:
        """Deliver a run of numbers piece by piece."""
        life = self._life
        lo, last = (effect.release.lo, effect.release.hi) if isinstance(effect, Deliver) else (effect.lo, effect.hi)
        while lo < last:
            hi = life.rng.randint(lo + 1, last)
            life.laws.may_deliver(effect, lo, hi)
            life.world.fix(life.reference.tokens, hi)
            if isinstance(effect, Deliver):
                self._write(effect, lo, hi)
                self._command(life.core.record_consumed, hi)
            else:
                self._write_loosely(effect.stream, lo, hi)
                self._command(life.core.record_loose_consumed, effect.stream, lo, hi)
            yield True
            lo = hi

    def _write(self, effect: Deliver, lo: int, hi: int) -> None:
        life = self._life
        for n in range(lo, hi):
            life.world.see("dead letters", n, [letter.order_key for letter in effect.release.letters if letter.seq == n])
        rows = [
            (stream, n, given)
            for n in range(lo, hi)
            for stream in life.scenario.wiring.tail
            if (given := life.reference.stream(stream, n))
        ]
        for end in self._ends:
            # What a sink has from the run before, it is not given again.
            missing = [row for row in rows if row[1] > end.recovered]
            if missing:
                end.sink.write(missing)
        life.laws.delivered = hi

    def _write_loosely(self, stream: int, lo: int, hi: int) -> None:
        life = self._life
        # What is made of a number that fails the run is not what is made of it otherwise.
        failing = life.end.number
        upto = hi if failing is None or failing[1] < life.first else min(hi, failing[1])
        self._witness.write([(stream, n, life.reference.stream(stream, n)) for n in range(lo, upto)])
