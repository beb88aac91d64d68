"""The core of a run: sequencer, dispatchers, budget and barrier joined into one plain object.

Values in, effects out, time passed in; no socket, process or clock. All decisions of a run are made here or in the parts
that it joins, so a simulation drives the very engine that users run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from ...nodes.dispatch.blame import LastSeen
from ...nodes.dispatch.dispatcher import Dispatcher
from ...nodes.ordering.barrier import Barrier, FailureRecord
from ...nodes.ordering.budget import Budget
from ...nodes.ordering.cuts import Cut, Cuts
from ...nodes.ordering.kept_answers import KeptAnswer
from ...nodes.ordering.order_log import OrderLog
from ...nodes.ordering.segments import ExitData
from ...nodes.ordering.sequencer import Chunk, Sequencer
from ...nodes.ordering.source_positions import SourcePosition
from .answers import Answers
from .commits import Commits
from .effects import Commit, Deliver, Effect, Finish, SendTask, StopWorker
from .flow import Flow
from .keeping import Keeping
from .pool import Counts, make_pools
from .recovery import Recovery, condemned
from .source_credit import MAX_PULL_NUMBERS, SourceCredit
from .stream_stores import StreamStores
from .topology import SOURCE_STREAM, Packing, Wiring, closes


class Core:
    """Drives one run: record what happened, then call `cycle` and carry out the effects it returns.

    With a `log` a run begun again goes on from its last checkpoint, with `repeats` from its first number.
    """

    def __init__(
        self,
        wiring: Wiring,
        packing: Packing,
        *,
        budget: Budget,
        limit: int | None = None,
        max_deaths: int | None = 3,
        max_events: int | None = None,
        commits: bool = False,
        log: OrderLog | None = None,
        repeats: bool = False,
    ) -> None:
        self.wiring = wiring
        self.budget = budget
        self.counts = Counts()
        self.barrier = Barrier()
        self._resumes = log is not None and not repeats
        stateful = tuple(at for at, pool in enumerate(wiring.pools) if pool.stateful and self._resumes)
        self.cuts = Cuts(stateful, enabled=commits or self._resumes)
        self.sequencer = Sequencer(len(wiring.remote), wiring.order, limit, log)
        self.pools = make_pools(wiring, budget, max_deaths, max_events, keeps=log is not None)
        self.keeping = Keeping(self.pools, self.sequencer, enabled=log is not None)
        self.source_credit = SourceCredit(self.sequencer, wiring.remote, self.pools, budget)
        self.first = self.consumed = 0  #: `first`: where this run begins, behind an earlier one
        self.ended_by: str | None = None
        self.end: int | None = None  #: the number without an event that stands for the end of the input, once there is one
        self.finished = False
        self.waiting_peak = 0
        self.barrier_waited_s = 0.0
        self._packing = packing
        self.streams = StreamStores(wiring, budget)
        self.flow = Flow(wiring, self.pools, self.streams, self.keeping.delivery_log)
        self.answers = Answers(
            self.pools,
            self.flow,
            self.streams,
            barrier=self.barrier,
            counts=self.counts,
            keeping=self.keeping,
            source_credit=self.source_credit,
            packing=packing,
            end=lambda: self.end,
        )
        self.recovery = Recovery(self.pools, self.cuts, self.streams, self.counts)
        self.commits = Commits(self.cuts, self.pools, self.streams)
        self._source_error: Any = None
        self._effects: list[Effect] = []
        self._last_cycle: float | None = None

    # -- what happened ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Ask for every worker of every pool."""
        self._effects += self.recovery.start()

    def begin_at(self, number: int) -> None:
        """Begin the order at `number`: everything below it was handled and delivered before."""
        assert self.sequencer.next == 0, "a run can only begin before anything is numbered"
        self.sequencer.skip_to(number)
        self.barrier.released = self.consumed = number
        for pool in self.pools:
            pool.begin_at(number)

    def resume(self, number: int, positions: Sequence[SourcePosition], turn: int, states: Mapping[int, bytes]) -> None:
        """Go on behind the committed cut of an earlier run; what answers it has kept is recorded at `keeping`."""
        self.begin_at(number)
        self.first = number
        self.sequencer.resume(number, positions, turn)
        self.commits.resume(number, states)

    def record_ready(self, worker: str) -> None:
        """Record that a worker is ready and asks for work."""
        self._effects += self.recovery.record_ready(worker)

    def record_state(self, worker: str, n: int, packed: bytes) -> None:
        """Record the state of a worker behind the numbers below `n`; the inputs that it was made from are freed."""
        at = self.recovery.index_of(worker)
        if at is not None:
            self.commits.record_state(at, self.pools[at], n, packed)

    def record_chunk(self, source: int, chunk: Chunk) -> None:
        """Record events that a source was asked for; they are numbered when the budget has room."""
        self.source_credit.record_answer(source)
        self.sequencer.offer(source, chunk)

    def record_source_end(self, source: int, error: Any = None) -> None:
        """Record that a source has ended, or failed with `error`."""
        self.source_credit.record_end(source)
        self.sequencer.record_end(source, early=error is not None or self.source_credit.stopped)
        if error is not None and self._source_error is None:
            self._source_error = error
            self._effects += self.source_credit.stop()

    def record_answer(
        self,
        worker: str,
        task: int,
        start: int,
        size: int,
        exits: Sequence[ExitData],
        failures: Sequence[FailureRecord],
        tallies: Sequence[Sequence[float]],
        seconds: float,
        now: float,
    ) -> None:
        """Record an answer for `size` numbers from `start` on; what was answered before is dropped."""
        pool = self.recovery.pool_of(worker)
        if pool is None:
            return
        self._effects += self.answers.record(pool, worker, task, start, size, exits, failures, tallies, seconds, now)

    def record_recalled(self, at: int, answers: Sequence[KeptAnswer], upto: int, now: float) -> None:
        """Record the answers that an earlier run has kept for the pool with index `at`: what was asked for, up to a number."""
        self._effects += self.answers.record_recalled(self.pools[at], answers, upto, now)

    def record_durable(self, group: int) -> None:
        """Record that the answers of a group are durable."""
        self.keeping.record_durable(group)

    def dispatcher_of(self, worker: str) -> Dispatcher | None:
        """Return the dispatcher of a worker, or `None` if the worker has exited."""
        pool = self.recovery.pool_of(worker)
        return None if pool is None else pool.dispatcher

    def record_death(self, worker: str, seen: LastSeen | None, cause: str, *, ours: bool = False, killed: bool = False) -> None:
        """Record that a worker has exited; it is replaced, and what it had not answered is handed out again.

        `seen` is `None` if the engine ended the worker itself, so that no event is to blame. With `ours` the engine
        ended it too, but because of one of several events, and `seen` says which. With `killed` others may have ended it.
        """
        pool = self.recovery.pool_of(worker)
        if pool is None:
            return
        effect = self.recovery.record_death(worker, seen, cause, ours=ours, killed=killed)
        for failure, is_new in condemned(pool):
            self._effects += self.answers.record_condemned(pool, failure, self._last_cycle or 0.0) if is_new else ()
            effect = effect if is_new else Finish("error", lost_state=failure)
        self._effects.append(effect)
        self.finished = self.finished or isinstance(effect, Finish)

    def record_overrun(self, worker: str, seen: LastSeen, limit_s: float) -> None:
        """Record that a call ran past its time limit; its worker is about to be killed for it."""
        self.recovery.record_overrun(worker, seen, limit_s)

    def record_consumed(self, upto: int) -> None:
        """Record that the sinks are done with every number below `upto`."""
        if upto <= self.consumed:
            return
        self.streams.consume(self.wiring.tail, self.consumed, upto)
        self.streams.free_failures(self.consumed, upto)
        self.consumed = upto

    def record_commit(self, n: int) -> None:
        """Record that the sinks have committed the cut below `n`: the sources are told."""
        self._effects += self.commits.record_commit(n)

    def record_loose_consumed(self, stream: int, lo: int, hi: int) -> None:
        """Record that the unordered sinks of a stream are done with `lo .. hi - 1`."""
        self.flow.record_loose_consumed(stream, lo, hi)

    def stop_reading(self, why: str) -> None:
        """End the reading; what was read is still released."""
        if self.ended_by is None:
            self.ended_by = why
        self._effects += self.source_credit.stop()

    def take_effects(self) -> list[Effect]:
        """Return the effects of `start` and of deaths, without numbering or handing out anything."""
        effects, self._effects = self._effects, []
        return effects

    def clear(self) -> None:
        """Drop all events when the run is over: a report needs none of them."""
        self.sequencer.clear()
        self.streams.clear()
        self._effects.clear()

    # -- what follows from it -----------------------------------------------------------------------------------

    def cycle(self, now: float) -> list[Effect]:
        """Number, hand out, release, ask for more; return the effects in this order.

        Until something else is recorded, there is nothing more to do.
        """
        self._clock(now)
        if not self.finished:
            self._number(now)
            self._effects += self.keeping.pop_group()
            self._effects += self.keeping.take_loose()
            # Nothing below answers a number, so the frontier does not change.
            frontier = self.frontier
            self._cut(frontier)
            self._hand_out(frontier, now)
            if self._ask_states():
                self._hand_out(frontier, now)  # the numbers behind a state that had to be asked for first
            self._stop_leavers()
            durable = self.keeping.release_limit(frontier)
            self._release(self.cuts.release_limit(durable))
            self._commit(durable)
            self._effects += self.source_credit.pull(self.in_flight)
            self._finish(frontier)
        effects, self._effects = self._effects, []
        return effects

    @property
    def frontier(self) -> int:
        """The lowest number that some branch has not answered."""
        return min([self.sequencer.next, *[pool.dispatcher.accepted.frontier() for pool in self.pools]])

    def holder_of(self, number: int) -> str | None:
        """Return the worker that works on a number, in the first pool that has not answered it."""
        for pool in self.pools:
            if number not in pool.dispatcher.accepted:
                return pool.dispatcher.holder_of(number)
        return None

    @property
    def in_flight(self) -> int:
        """How many numbers are admitted and not yet consumed by the sinks."""
        return self.sequencer.next - self.consumed

    @property
    def waits_for_sinks(self) -> bool:
        """Whether there may be more to do as soon as the sinks have consumed more; otherwise that can wait."""
        return not self.pools or self.sequencer.waiting or not self.budget.is_wide(self.in_flight)

    def _clock(self, now: float) -> None:
        if self._last_cycle is not None:
            passed = now - self._last_cycle
            waiting = self.waiting_results()
            if waiting:
                self.waiting_peak = max(self.waiting_peak, waiting)
                self.barrier_waited_s += passed
                min(self.pools, key=lambda pool: pool.dispatcher.frontier).waits_s += passed
        self._last_cycle = now

    def waiting_results(self) -> int:
        """Return how many answered numbers wait behind one that is not."""
        if not self.pools:
            return 0
        return max([len(pool.dispatcher.accepted) for pool in self.pools]) - self.frontier

    def _number(self, now: float) -> None:
        while room := self.budget.room(self.in_flight):
            chunk = self.sequencer.number_next(min(room, MAX_PULL_NUMBERS), fit=self.in_flight > 0)
            if chunk is None:
                break
            payload, nbytes = chunk.payload, chunk.nbytes
            if chunk.items is not None:
                payload, nbytes = self._packing.pack(chunk.items)
            elif chunk.truncated:
                payload, nbytes = self._packing.head(payload, chunk.size)
            self._arrive(self.sequencer.next - chunk.size, chunk.size, ExitData(payload, nbytes), now)
        if self.sequencer.limited and not self.source_credit.stopped:
            self.sequencer.clear()
            self.stop_reading("limit")
        if self._end_is_due and self.budget.room(self.in_flight):
            self.end = number = self.sequencer.next
            self.sequencer.skip_to(number + 1)
            payload, nbytes = self._packing.pack([])
            self._arrive(number, 1, ExitData(payload, nbytes, [0]), now)

    def _arrive(self, start: int, size: int, data: ExitData, now: float) -> None:
        """Record what the numbered input now has."""
        new = [(start, start + size)]
        self.keeping.hold(self.flow.record_arrival(SOURCE_STREAM, start, size, new, data, now))

    @property
    def _end_is_due(self) -> bool:
        """Whether the end of the input is still to be numbered: there is one, and some handler emits results at it."""
        if not self.wiring.needs_end or self.end is not None or not self.sequencer.finished:
            return False
        return self._source_error is None and self.barrier.end_at is None and closes(self.ended_by, resumes=self._resumes)

    @property
    def events_in(self) -> int:
        """How many events this run has numbered."""
        return self.sequencer.next - self.first - (self.end is not None)

    def _ask_states(self) -> bool:
        """Ask for the states that are due; return whether there were any."""
        full = self.budget.bytes >= self.budget.limit_bytes and not self.in_flight and not self.flow.loose_out
        asked = self.commits.ask_states(full=full)
        self._effects += asked
        return bool(asked)

    def _hand_out(self, head: int, now: float) -> None:
        waiting = self.barrier.released > self.consumed or self.flow.loose_out > 0 or self.keeping.waits
        pace = self.budget.pace(waiting)
        self._effects += self.keeping.recall(pace, head)
        for pool in self.pools:
            for task in pool.dispatcher.hand_out(pace, head, now):
                inputs = self.streams.slices(pool.wiring.ports, task.start, task.stop)
                if self.streams.has_suspect(inputs):
                    task.orders = replace(task.orders, careful=True)
                if self.end is not None and task.stop > self.end:
                    task.orders = replace(task.orders, end=self.end)
                self._effects.append(SendTask(task.worker, task, inputs, self.flow.answer_batch(pool)))

    def _stop_leavers(self) -> None:
        for pool in self.pools:
            for worker in pool.workers_to_stop():
                self._effects.append(StopWorker(worker))

    def _release(self, frontier: int) -> None:
        release = self.barrier.release(frontier)
        if release is None:
            return
        self.counts.dead_letters += len(release.letters)
        streams = self.streams.slices(self.wiring.tail, release.lo, release.hi)
        self._effects.append(Deliver(release, streams, self.keeping.delivery_log()))
        self.answers.forget(release.hi)

    def _commit(self, frontier: int) -> None:
        """Hand over a cut that is complete, and release what has waited for it."""
        cut = self.cuts.take_complete(self.barrier.released)
        if cut is not None:
            self._effects.append(Commit(cut))
            self._release(frontier)

    def _cut(self, frontier: int) -> None:
        """Announce a cut that is due."""
        if not self.cuts.enabled or self.barrier.end_at is not None or self._source_error is not None:
            return
        final = self._is_through(frontier)
        # The number of the end is committed as the end, or another run would number it once more.
        if (final or self.end is None) and self.cuts.may_announce(self.sequencer.next, final):
            n, ended_by = self.sequencer.next, self.ended_by if self.end is None else "source"
            self.commits.announce(Cut(n, self.sequencer.positions, self.sequencer.turn, final, ended_by))

    def _is_through(self, frontier: int) -> bool:
        """Whether every number is answered and none will follow."""
        return frontier == self.sequencer.next and self.sequencer.finished and not self._end_is_due

    def _finish(self, frontier: int) -> None:
        upto = frontier if self.barrier.end_at is None else min(frontier, self.barrier.end_at)
        if self.barrier.released < upto or self.keeping.waits:
            return  # a cut waits for its states, what is above it for the cut, and what follows from an answer for that
        failure = self.barrier.verdict(frontier)
        if failure is not None:
            self.finished = True
            self._effects.append(Finish("error", failure=failure))
        elif self._is_through(frontier) and (self.cuts.ended or self._source_error is not None):
            self.finished = True
            if self._source_error is not None:
                self._effects.append(Finish("error", source_error=self._source_error))
            else:
                self._effects.append(Finish(self.ended_by or "source"))
