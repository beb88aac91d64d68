"""The living workers of a run, and what follows from the death of one.

Decides who replaces a dead worker and when, with which state the next one begins, and which failures the core itself
answers with, because no worker survives the numbers they are for. Which event is to blame is decided in
`nodes.dispatch.blame`; processes are not known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...nodes.dispatch.blame import LastSeen, Phase
from ...nodes.dispatch.worker_name import WorkerName
from ...nodes.ordering.barrier import FailureRecord
from ...nodes.ordering.cuts import Cuts
from .effects import Finish, Restore, Spawn
from .pool import Counts, Pool
from .stream_stores import StreamStores


class Recovery:
    """Knows which workers live. Record what happened to them; it returns what is to be done."""

    def __init__(self, pools: Sequence[Pool], cuts: Cuts, streams: StreamStores, counts: Counts) -> None:
        self._pools = pools
        self._cuts = cuts
        self._streams = streams
        self._counts = counts
        self._pool_of: dict[str, int] = {}

    def pool_of(self, worker: str) -> Pool | None:
        """Return the pool of a worker, or `None` if the worker has exited."""
        at = self._pool_of.get(worker)
        return None if at is None else self._pools[at]

    def index_of(self, worker: str) -> int | None:
        """Return the index of the pool of a worker, or `None` if the worker has exited."""
        return self._pool_of.get(worker)

    def start(self) -> list[Spawn]:
        """Return the start of every worker of every pool."""
        return [
            self._spawn(at, index, 0.0) for at, pool in enumerate(self._pools) for index in range(pool.wiring.workers)
        ]

    def _spawn(self, at: int, index: int, pause_s: float) -> Spawn:
        self._pools[at].lives += 1
        name = str(WorkerName(at, index, self._pools[at].lives))
        self._pool_of[name] = at
        return Spawn(name, at, index, pause_s)

    def record_ready(self, worker: str) -> list[Restore]:
        """Record that a worker asks for work; return the state that it begins with, if an earlier one has left one."""
        pool = self.pool_of(worker)
        if pool is None:
            return []
        pool.record_ready(worker)
        if pool.retention is None or pool.retention.packed is None:
            return []
        return [Restore(worker, pool.retention.packed)]

    def record_death(
        self, worker: str, seen: LastSeen | None, cause: str, *, ours: bool, killed: bool
    ) -> Spawn | Finish:
        """Record that a living worker has exited, and return its replacement, or the end of a run that needs none.

        The arguments are those of `Core.record_death`.
        """
        at = self._pool_of.pop(worker)
        pool = self._pools[at]
        index = WorkerName.parse(worker).index
        pool.record_state_loss(self._cuts.missing(at))
        known = pool.dispatcher.record_exit(worker, seen, cause)
        if known is not None:
            self._counts.replayed += sum(len(task.open) for task in known.tasks.values())
            if seen is not None and seen.phase is Phase.CODEC:
                # From now on only the events that a task is about are unpacked from them.
                for task in known.tasks.values():
                    for lo, hi in task.open:
                        self._streams.mark_suspect(pool.wiring.ports, lo, hi)
        if seen is not None and not ours:
            self._counts.worker_deaths += 1
            pool.record_death(index, at_start=known is None or seen.phase is Phase.START, killed=killed)
        if pool.is_hopeless(index):
            return Finish("error", start_up=(pool.wiring.name, worker, cause))
        return self._spawn(at, index, pool.pause_s(index))

    def record_overrun(self, worker: str, seen: LastSeen, limit_s: float) -> None:
        """Record that a call ran past its time limit; its worker is about to be killed for it."""
        pool = self.pool_of(worker)
        if pool is not None:
            blame = pool.dispatcher.blame
            blame.record_timeout(blame.call_of(seen), limit_s)


def condemned(pool: Pool) -> Iterator[tuple[FailureRecord, bool]]:
    """Yield the failure of each number that no worker of a pool survives, and whether the number had no answer yet.

    It is attributed to the suspected call if that is known, else to the first handler.
    The number counts as answered from then on. One that was answered before was repeated for the sake of the state.
    """
    steps = pool.wiring.program.steps
    first = next((step for step in steps if step.kind.traits.calls_user_code), steps[0])
    while pool.dispatcher.blame.condemned:
        (node, number, index), verdict = pool.dispatcher.blame.condemned.pop()
        step = next((step for step in steps if step.node == node), first)
        failure = FailureRecord(
            number,
            index,
            step.node,
            step.node_id,
            step.options.on_error,
            verdict.error,
            "",
            verdict.attempts,
            verdict.kind,
            (None, b""),
        )
        if pool.dispatcher.accepted.add(number, number + 1):
            yield failure, True
        elif pool.retention is not None and number >= pool.retention.upto:
            yield failure, False
