"""One pool in a run: its dispatcher, its workers' deaths, its state; and what a run counts.

Decides how long a dead worker's replacement is delayed, when deaths end the run, and when a state is asked for. Processes
are not known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct, field

from ...nodes.dispatch.dispatcher import Dispatcher
from ...nodes.dispatch.worker_name import WorkerName
from ...nodes.ordering.budget import Budget
from ...nodes.ordering.intervals import Intervals
from ...nodes.ordering.kept_answers import KeptNumbers
from ...nodes.ordering.queue_stats import QueueStats
from ...nodes.ordering.retention import Retention, share_of
from ...nodes.program.program import Tally
from .topology import PoolWiring, Wiring

#: Deaths at the start, for one index of a pool, that end the run: in a row, with no replacement ready and nothing answered
#: by the pool in between; before any worker of the pool was ever ready, and after.
MAX_START_DEATHS = 5
MAX_LATE_START_DEATHS = 8
#: The same for workers that were killed by a signal. Another process may have done it, which says nothing about whether
#: workers can start; but it may also be the kernel's out-of-memory killer, which does it again and again.
MAX_START_KILLS = 10
MAX_LATE_START_KILLS = 40
RESTART_STEP_S = 0.05
#: Together with the start itself, a dead worker is replaced within a second, however many died before it.
MAX_RESTART_S = 0.8


class Counts(Struct):
    """What the report counts beside the tallies of the steps."""

    skipped: int = 0
    dead_letters: int = 0
    worker_deaths: int = 0
    replayed: int = 0  #: numbers that are handed out again because their worker died
    recalled: int = 0  #: numbers that an earlier run has answered, once for each pool


class Pool(Struct):
    """A pool in a run: its dispatcher, the inputs that it keeps, and the deaths of its workers."""

    wiring: PoolWiring
    dispatcher: Dispatcher
    covered: list[Intervals]
    retention: Retention | None = None  #: in a pool that keeps a state
    kept: KeptNumbers | None = None  #: in a pool whose answers outlive the run
    queue_stats: QueueStats = field(default_factory=QueueStats)
    tallies: list[Tally] = field(default_factory=list)
    lives: int = 0
    fruitless: Counter[int] = field(default_factory=Counter)  #: deaths since the last answer, by the index of the worker
    #: Deaths at the start since a worker was ready, by its index and whether it was killed.
    start_deaths: Counter[tuple[int, bool]] = field(default_factory=Counter)
    proven: bool = False  #: whether any worker was ever ready
    waits_s: float = 0.0
    in_order_upto: int = 0

    @property
    def arrived_below(self) -> int:
        """The number below which all inputs have arrived."""
        return min([covered.frontier() for covered in self.covered])

    def begin_at(self, number: int) -> None:
        """Begin at `number`: everything below it was handled by an earlier run."""
        self.dispatcher.accepted.add(0, number)
        self.in_order_upto = number
        if self.retention is not None:
            self.retention.upto = number
        for covered in self.covered:
            covered.add(0, number)

    def make_ready(self, lo: int, hi: int) -> None:
        """Record that the inputs of `lo .. hi - 1` are there; what an earlier run has answered is not handed out."""
        for a, b in [(lo, hi)] if self.kept is None else self.kept.record_ready(lo, hi):
            self.dispatcher.add_ready(a, b)

    def wanted(self, lookahead: int) -> int:
        """Return how many more numbers should be made ready, to keep the workers busy or to be recalled."""
        wanted = self.dispatcher.wanted(lookahead)
        return max(wanted, self.kept.wanted) if self.kept is not None else wanted

    def add_tallies(self, tallies: Sequence[Sequence[float]]) -> None:
        """Add the counts of one answer, step by step."""
        for tally, values in zip(self.tallies, tallies, strict=True):
            tally.add(values)

    def record_answer(self) -> None:
        """Record that the pool has answered: whatever died before, its workers can work."""
        self.fruitless.clear()
        self.start_deaths.clear()

    def record_ready(self, worker: str) -> None:
        """Record that a worker is ready: its index is no longer hopeless, whether or not there is work for it."""
        index = WorkerName.parse(worker).index
        for killed in (False, True):
            del self.start_deaths[index, killed]
        self.proven = True
        self.dispatcher.add_worker(worker)

    def record_death(self, index: int, *, at_start: bool, killed: bool) -> None:
        """Record that the worker with this index has died."""
        self.fruitless[index] += 1
        self.start_deaths[index, killed] += at_start

    def is_hopeless(self, index: int) -> bool:
        """Whether too many workers with this index died at their start to try another one."""
        most = MAX_LATE_START_DEATHS if self.proven else MAX_START_DEATHS
        most_kills = MAX_LATE_START_KILLS if self.proven else MAX_START_KILLS
        return self.start_deaths[index, False] >= most or self.start_deaths[index, True] >= most_kills

    def pause_s(self, index: int) -> float:
        """Return the pause before the next worker with this index is started, in seconds."""
        fruitless = self.fruitless[index]
        return 0.0 if fruitless <= 1 else min(MAX_RESTART_S, RESTART_STEP_S * 2 ** min(fruitless - 2, 10))

    def record_state_loss(self, cut: int | None) -> None:
        """Record that a worker has exited: the next one begins with the last snapshot.

        `cut` is the number of an open cut that lacks its state, if there is one.
        """
        if self.retention is not None:
            self.retention.record_loss(self.dispatcher.handed_out_below(self.arrived_below))
            self.dispatcher.replay_from = self.retention.upto
            self.dispatcher.hold_at = cut

    def has_state_at(self, n: int) -> bool:
        """Whether the last snapshot is the state for a cut at `n`; if not, tasks stop at `n` until the state was asked for."""
        if self.retention is None or self.retention.upto == n:
            return True
        if self.retention.asked != n:  # else it is asked for already
            self.dispatcher.hold_at = n
        return False

    def next_state_request(self, cut: int | None, *, full: bool) -> tuple[str, int] | None:
        """Return the worker to be asked for its state, and the number below which it was handed everything, if it is time.

        `cut` is the number of an open cut that lacks it; `full` says that nothing more is read before inputs are freed.
        """
        worker = next(iter(self.dispatcher.workers.values()), None)
        if self.retention is None or worker is None or self.retention.asked is not None:
            return None
        handed = self.dispatcher.handed_out_below(self.arrived_below)
        needed = (worker.leaving or full) and handed > self.retention.upto
        if handed == cut:
            self.dispatcher.hold_at = None
        elif not needed and not self.retention.is_snapshot_due(handed):
            return None
        self.retention.record_request(handed)
        return worker.name, handed

    def workers_to_stop(self) -> list[str]:
        """Return the workers that are to be replaced and may stop now.

        A worker with a state is asked for it first: otherwise its successor would repeat everything since the last
        snapshot, which may be all that it has time for before it is replaced in turn.
        """
        if self.retention is not None and self.retention.upto < self.dispatcher.handed_out_below(self.arrived_below):
            return []
        return self.dispatcher.idle_leavers()


def make_pools(
    wiring: Wiring, budget: Budget, max_deaths: int | None, max_events: int | None, *, keeps: bool
) -> list[Pool]:
    """Return the pools of a run, none of which has a worker yet; `keeps` says that answers can outlive it.

    A worker is given at most `max_events` numbers in its life, if that is set.
    """
    kept_bytes = share_of(budget.limit_bytes, sum(pool.stateful for pool in wiring.pools))
    all_workers = sum(pool.workers for pool in wiring.pools)
    return [
        Pool(
            pool,
            Dispatcher(
                pool.program,
                ordered=pool.ordered,
                max_deaths=max_deaths,
                # Two answers of every worker may be under way when the budget is used up: half of it.
                batch_bytes=budget.limit_bytes // (4 * pool.workers),
                all_workers=all_workers,
                durable=keeps and pool.durable is not None,
                max_events=max_events,
            ),
            [Intervals() for _ in pool.ports],
            Retention(kept_bytes) if pool.stateful else None,
            KeptNumbers() if keeps and pool.durable is not None else None,
            tallies=[Tally() for _ in pool.program.steps],
        )
        for pool in wiring.pools
    ]
