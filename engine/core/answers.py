"""What an answer means for a run: numbers are answered, failures go to the barrier, outputs to those who read them.

Decides that only what nobody has answered before counts, wherever an answer comes from: a worker, an earlier run that
has kept it, or the engine itself, for a number that no worker survives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...nodes.ordering.barrier import Barrier, FailureRecord
from ...nodes.ordering.kept_answers import KeptAnswer
from ...nodes.ordering.segments import ExitData
from .effects import MAX_SKIP_WARNINGS, Effect, Warn
from .flow import Flow
from .keeping import Keeping
from .pool import Counts, Pool
from .source_credit import SourceCredit
from .stream_stores import StreamStores
from .topology import Packing


class Answers:
    """Takes in answers; each method returns the effects."""

    def __init__(
        self,
        pools: Sequence[Pool],
        flow: Flow,
        streams: StreamStores,
        *,
        barrier: Barrier,
        counts: Counts,
        keeping: Keeping,
        source_credit: SourceCredit,
        packing: Packing,
        end: Callable[[], int | None],
    ) -> None:
        self._pools = pools
        self._flow = flow
        self._streams = streams
        self._barrier = barrier
        self._counts = counts
        self._keeping = keeping
        self._source_credit = source_credit
        self._packing = packing
        self._end = end  #: returns the number of the end of the input, once there is one
        #: The numbers of which an event failed where answers are not kept: what comes of them behind is not kept either.
        self._failed: set[int] = set()

    def record(
        self,
        pool: Pool,
        worker: str,
        task: int,
        start: int,
        size: int,
        exits: Sequence[ExitData],
        failures: Sequence[FailureRecord],
        tallies: Sequence[Sequence[float]],
        seconds: float,
        now: float,
    ) -> list[Effect]:
        """Record a worker's answer for `size` numbers from `start` on; what was answered before is dropped."""
        cut = bool(failures) and any(failure.on_error == "fail" for failure in failures)
        new = pool.dispatcher.accept(worker, task, start, start + size, cut)
        pool.dispatcher.sizer.learn(size, seconds, sum([data.nbytes for data in exits]))
        pool.record_answer()
        if not new:
            return []
        whole = len(new) == 1 and new[0] == (start, start + size)
        if failures and not whole:
            failures = [f for f in failures if any(lo <= f.seq < hi for lo, hi in new)]
        effects = self._record_failures(failures) if failures else []
        self._note_failed(pool, failures)
        pool.add_tallies(tallies)
        self._pass_on(pool, start, size, new, exits, now)
        self._keep(pool, start, size, new, exits, failures)
        return effects

    def record_condemned(self, pool: Pool, failure: FailureRecord, now: float) -> list[Effect]:
        """Record the failure of a number that no worker of a pool survives, as if a worker had answered."""
        effects = self._record_failures([failure])
        self._note_failed(pool, [failure])
        number, (payload, nbytes) = failure.seq, self._packing.pack([])
        exits = [ExitData(payload, nbytes, [0]) for _ in pool.wiring.exits]
        new = [(number, number + 1)]
        self._pass_on(pool, number, 1, new, exits, now)
        self._keep(pool, number, 1, new, exits, [failure])
        return effects

    def record_recalled(self, pool: Pool, answers: Sequence[KeptAnswer], upto: int, now: float) -> list[Effect]:
        """Record the answers that an earlier run has kept: what was asked for, up to a number."""
        assert pool.kept is not None, "answers are kept of pools with a durable handler only"
        lowest, upto = pool.kept.record_recalled(upto)
        effects: list[Effect] = []
        for answer in answers:
            assert answer.lo == lowest, "a kept answer is missing"
            lowest, new = answer.hi, pool.dispatcher.accepted.add(answer.lo, answer.hi)
            assert new == [(answer.lo, answer.hi)], "a number was answered that was not handed out"
            effects += self._record_failures(answer.failures)
            self._pass_on(pool, answer.start, answer.size, new, answer.exits, now)
            self._counts.recalled += answer.hi - answer.lo
        assert lowest == upto, "a kept answer is missing"
        return effects

    # -- parts ------------------------------------------------------------------------------------------------------

    def _pass_on(
        self, pool: Pool, start: int, size: int, new: list[tuple[int, int]], exits: Sequence[ExitData], now: float
    ) -> None:
        for lo, hi in new:
            self._flow.record_answer(pool, lo, hi, now)
        for stream, data in zip(pool.wiring.exits, exits, strict=True):
            self._keeping.hold(self._flow.record_arrival(stream, start, size, new, data, now))

    def _keep(
        self,
        pool: Pool,
        start: int,
        size: int,
        new: list[tuple[int, int]],
        exits: Sequence[ExitData],
        failures: Sequence[FailureRecord],
    ) -> None:
        """Keep an answer that is to outlive the run, except for what another run may make something else of.

        That is a number that fails the run, in whatever pool; one of which an event failed in a pool whose answers are not
        kept, so that it may not fail again; and the end of the input, where there may be more by then.
        """
        if pool.kept is None:
            return
        at = next(at for at, known in enumerate(self._pools) if known is pool)
        end = self._end()
        for lo, hi in new:
            others = (*self._barrier.fatal, *self._failed, *(() if end is None else (end,)))
            apart = sorted({n for n in others if lo <= n < hi})
            for a, b in zip([lo, *(n + 1 for n in apart)], [*apart, hi], strict=True):
                if a < b:
                    mine = tuple(failure for failure in failures if a <= failure.seq < b)
                    self._keeping.record_answer(at, KeptAnswer(a, b, start, size, exits, mine))

    def _note_failed(self, pool: Pool, failures: Sequence[FailureRecord]) -> None:
        if failures and pool.kept is None and self._keeping.enabled:
            self._failed.update(failure.seq for failure in failures)

    def forget(self, below: int) -> None:
        """Forget who died on the numbers below `below`, and which of them failed: they are released."""
        for pool in self._pools:
            pool.dispatcher.forget(below)
        if self._failed:
            self._failed = {n for n in self._failed if n >= below}

    def _record_failures(self, failures: Sequence[FailureRecord]) -> list[Effect]:
        effects: list[Effect] = []
        for failure in failures:
            if failure.on_error == "skip":
                self._counts.skipped += 1
                if self._counts.skipped <= MAX_SKIP_WARNINGS:
                    effects.append(Warn(failure))
            else:
                self._streams.charge_failure(failure.seq, failure.nbytes)
        self._barrier.record_failures(failures)
        if self._barrier.end_at is not None:
            for pool in self._pools:
                pool.dispatcher.stop_at = self._barrier.end_at
            effects += self._source_credit.stop()
        return effects
