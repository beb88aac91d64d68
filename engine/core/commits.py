"""Consistent cuts: the states that belong to them, the snapshots between them, and what sources hear of a commit.

Decides which worker is asked for its state, and when the inputs that a state was made from are no longer kept. When a
cut is due and when it is complete is decided in `nodes.ordering.cuts`; where a cut is stored is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...nodes.ordering.cuts import Cut, Cuts
from .effects import Acknowledge, AskState
from .pool import Pool
from .stream_stores import StreamStores


class Commits:
    """Gathers the states of the pools for the open cut and for snapshots."""

    def __init__(self, cuts: Cuts, pools: Sequence[Pool], streams: StreamStores) -> None:
        self._cuts = cuts
        self._streams = streams
        self._stateful = [(at, pool) for at, pool in enumerate(pools) if pool.retention is not None]

    def resume(self, number: int, states: Mapping[int, bytes]) -> None:
        """Begin behind the cut at `number` that an earlier run has committed, with its states by the index of the pool."""
        self._cuts.begin_at(number)
        for at, pool in self._stateful:
            if pool.retention is not None:
                pool.retention.resume(number, states.get(at))
                pool.dispatcher.replay_from = number

    def announce(self, cut: Cut) -> None:
        """Open a cut; a pool whose last snapshot is the state that belongs to it needs to be asked for nothing."""
        self._cuts.announce(cut)
        for at, pool in self._stateful:
            if self._cuts.missing(at) is not None and pool.retention is not None and pool.has_state_at(cut.n):
                self._cuts.record_state(at, cut.n, pool.retention.packed)

    def ask_states(self, *, full: bool) -> list[AskState]:
        """Ask for the states that are due; `full` says that the inputs kept for them alone use the budget up."""
        asked = []
        for at, pool in self._stateful:
            ask = pool.next_state_request(self._cuts.missing(at), full=full)
            if ask is not None:
                asked.append(AskState(*ask))
        return asked

    def record_state(self, at: int, pool: Pool, n: int, packed: bytes) -> None:
        """Record the state of the pool with index `at` behind the numbers below `n`; free the inputs that made it."""
        answered = pool.dispatcher.frontier
        if pool.retention is None or pool.retention.asked != n or answered < n:
            return  # the worker has exited since, or the run ends below that number
        self._streams.consume(pool.wiring.ports, pool.retention.upto, n)
        pool.retention.record_snapshot(n, packed, self._streams.cost(pool.wiring.ports, n, answered))
        self._cuts.record_state(at, n, packed)
        pool.dispatcher.replay_from = n

    def record_commit(self, n: int) -> list[Acknowledge]:
        """Record that the sinks have committed the cut below `n`; return the acknowledgements for the sources."""
        cut = self._cuts.record_commit(n)
        return [
            Acknowledge(source, place.position)
            for source, place in enumerate(cut.positions if cut is not None else ())
            if place.position is not None
        ]
