"""The core of a run: sequencer, dispatchers, budget and barrier joined into one plain object.

Values in, effects out, time passed in; no socket, process or clock. Everything that is decided in a run is decided
here or in the parts from `nodes` that it joins, so that a simulation drives the very engine that users run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...nodes.ordering.barrier import Barrier, FailureRecord
from ...nodes.ordering.blame import LastSeen, Phase
from ...nodes.ordering.budget import Window
from ...nodes.ordering.cuts import Cut, Cuts
from ...nodes.ordering.dispatcher import Dispatcher, merge_ready
from ...nodes.ordering.intervals import Intervals
from ...nodes.ordering.order_log import OrderLog
from ...nodes.ordering.retention import Retention, share_of
from ...nodes.ordering.segments import ExitData, Segment
from ...nodes.ordering.sequencer import Chunk, Sequencer
from ...nodes.ordering.source_positions import Place
from ...nodes.ordering.worker_name import WorkerName
from ...nodes.program.program import Tally
from .effects import (
    Acknowledge,
    AskState,
    Commit,
    Deliver,
    DeliverLoose,
    Effect,
    Finish,
    Restore,
    SendTask,
    Spawn,
    StopWorker,
    Warn,
)
from .pool import Counts, Pool
from .source_credit import PULL_NUMBERS, Reading
from .stream_stores import Retained
from .topology import SOURCE_STREAM, Packing, Wiring, closes

#: A graph without handlers reads so far ahead of its sinks.
PLAIN_LOOKAHEAD = 16384


class Core:
    """Drives one run. Feed it what happened, then call `cycle` and carry out the effects it gives."""

    def __init__(
        self,
        wiring: Wiring,
        packing: Packing,
        *,
        window: Window,
        limit: int | None = None,
        max_deaths: int | None = 3,
        commits: bool = False,
        log: OrderLog | None = None,
    ) -> None:
        self.wiring = wiring
        self.window = window
        self.counts = Counts()
        self.barrier = Barrier()
        self._resumes = log is not None
        stateful = tuple(at for at, pool in enumerate(wiring.pools) if pool.stateful and self._resumes)
        self.cuts = Cuts(stateful, enabled=commits or self._resumes)
        kept_bytes = share_of(window.limit_bytes, sum(pool.stateful for pool in wiring.pools))
        self.sequencer = Sequencer(len(wiring.remote), wiring.order, limit, log)
        self.reading = Reading(self.sequencer, wiring.remote, window.limit_bytes)
        self.pools = [
            Pool(
                pool,
                Dispatcher(
                    pool.program,
                    ordered=pool.ordered,
                    max_deaths=max_deaths,
                    # Two answers of every worker may be under way when the budget is used up: half of it.
                    batch_bytes=window.limit_bytes // (4 * pool.workers),
                ),
                [Intervals() for _ in pool.ports],
                Retention(kept_bytes) if pool.stateful else None,
                tallies=[Tally() for _ in pool.program.steps],
            )
            for pool in wiring.pools
        ]
        self._stateful = [(at, pool) for at, pool in enumerate(self.pools) if pool.retention is not None]
        self.first = self.consumed = 0  #: `first`: where this run begins; the numbers below were an earlier one's
        self.ended_by: str | None = None
        #: The number that carries no event and stands for the end of the input, once it is given.
        self.end: int | None = None
        self.finished = False
        self.held_peak = 0
        self.barrier_waited_s = 0.0
        self._packing = packing
        self.retained = Retained(wiring, window)
        self._readers: list[list[tuple[Pool, int]]] = [
            [(pool, port) for pool in self.pools for port, read in enumerate(pool.wiring.ports) if read == stream]
            for stream in range(len(self.retained.stores))
        ]
        #: Those that read what the sources give, and how many tasks ahead their events are asked for.
        self._first = [pool for pool in self.pools if SOURCE_STREAM in pool.wiring.ports]
        self._lookahead = int(any(wiring.remote))
        self._source_error: Any = None
        self._loose_out = 0
        self._pool_of: dict[str, int] = {}
        self._effects: list[Effect] = []
        self._last_cycle: float | None = None
        self._release_bytes: dict[int, int] = {}

    # -- what happened ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Ask for every worker of every pool."""
        for at, pool in enumerate(self.wiring.pools):
            for index in range(pool.workers):
                self._spawn(at, index, 0.0)

    def begin_at(self, number: int) -> None:
        """Begin the order at `number`: everything below it was handled and delivered elsewhere."""
        assert self.sequencer.next == 0, "a run can only begin before anything is numbered"
        self.sequencer.skip(number)
        self.barrier.released = self.consumed = number
        for pool in self.pools:
            pool.dispatcher.accepted.add(0, number)
            pool.in_order_upto = number
            if pool.retention is not None:
                pool.retention.upto = number
            for covered in pool.covered:
                covered.add(0, number)

    def resume(self, number: int, places: Sequence[Place], turn: int, states: Mapping[int, bytes]) -> None:
        """Go on where an earlier run has committed a cut."""
        self.begin_at(number)
        self.first = number
        self.sequencer.resume(number, places, turn)
        self.cuts.begin_at(number)
        for at, pool in enumerate(self.pools):
            if pool.retention is not None:
                pool.retention.begin(number, states.get(at))
                pool.dispatcher.retained = number

    def joined(self, worker: str) -> None:
        """Take in that a worker is ready and asks for work."""
        pool = self._pool_of.get(worker)
        if pool is None:
            return
        self.pools[pool].joined(worker)
        retention = self.pools[pool].retention
        if retention is not None and retention.packed is not None:
            self._effects.append(Restore(worker, retention.packed))

    def stated(self, worker: str, n: int, packed: bytes) -> None:
        """Take in the state of a worker behind the numbers below `n`; what it was made from is let go of."""
        at = self._pool_of.get(worker)
        if at is None:
            return
        pool = self.pools[at]
        answered = pool.dispatcher.frontier
        if pool.retention is None or pool.retention.asked != n or answered < n:
            return  # it has gone since, or the run ends below
        self.retained.take(pool.wiring.ports, pool.retention.upto, n)
        pool.retention.took(n, packed, self.retained.cost(pool.wiring.ports, n, answered))
        self.cuts.state(at, n, packed)
        pool.dispatcher.retained = n

    def chunk(self, source: int, chunk: Chunk) -> None:
        """Take in events that a source was asked for; they are numbered when the budget has room."""
        self.reading.answered(source)
        self.sequencer.offer(source, chunk)

    def source_ended(self, source: int, error: Any = None) -> None:
        """Take in that a source has nothing more to give, or failed with `error`."""
        self.reading.ended(source)
        self.sequencer.end(source, early=error is not None or self.reading.stopped)
        if error is not None and self._source_error is None:
            self._source_error = error
            self._effects += self.reading.stop()

    def answered(
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
        """Take in an answer for `size` numbers from `start` on; what was answered before is dropped."""
        at = self._pool_of.get(worker)
        if at is None:
            return
        pool = self.pools[at]
        cut = bool(failures) and any(failure.on_error == "fail" for failure in failures)
        new = pool.dispatcher.accept(worker, task, start, start + size, cut)
        nbytes = sum([data.nbytes for data in exits])
        pool.dispatcher.pacer.learn(size, seconds, nbytes)
        pool.prove()
        if not new:
            return
        whole = len(new) == 1 and new[0] == (start, start + size)
        if failures:
            self._take_failures(failures, None if whole else new)
        self._take_tallies(pool, tallies)
        for lo, hi in new:
            self._leave(pool, lo, hi, now)
        for stream, data in zip(pool.wiring.exits, exits, strict=True):
            self._arrive(stream, start, size, new, data, now)

    def dispatcher_of(self, worker: str) -> Dispatcher | None:
        """Give whom a worker has its numbers from, to be told what it says of them; `None` for one that is gone."""
        at = self._pool_of.get(worker)
        return None if at is None else self.pools[at].dispatcher

    def died(self, worker: str, seen: LastSeen | None, cause: str, *, ours: bool = False, killed: bool = False) -> None:
        """Take in that a worker is gone; it is replaced, and what it owed is handed out again.

        `seen` is `None` when the engine ended the worker itself, so that no event is to blame. With `ours` the engine
        ended it too, but one of several events made it do so, and `seen` tells where to look for it. `killed` says that
        a signal ended it that others send.
        """
        at = self._pool_of.pop(worker, None)
        if at is None:
            return
        pool = self.pools[at]
        index = WorkerName.parse(worker).index
        pool.lose_state(self.cuts.missing(at))
        known = pool.dispatcher.left(worker, seen, cause)
        if known is not None:
            self.counts.replayed += sum(len(task.open) for task in known.tasks.values())
            if seen is not None and seen.phase is Phase.CODEC:
                # From now on only the events that a task is about are unpacked from them.
                for task in known.tasks.values():
                    for lo, hi in task.open:
                        self.retained.suspect(pool.wiring.ports, lo, hi)
        self._answer_condemned(pool)
        if seen is not None and not ours:
            self.counts.worker_deaths += 1
            pool.count_death(index, at_start=known is None or seen.phase is Phase.START, killed=killed)
        if pool.is_hopeless(index):
            self._effects.append(Finish("error", start_up=(pool.wiring.name, worker, cause)))
            self.finished = True
            return
        pause = pool.pause_s(index)
        self._spawn(at, index, pause)

    def _answer_condemned(self, pool: Pool) -> None:
        """Answer for numbers that no worker survives unpacking or packing: failures of the pool's first handler."""
        now = self._last_cycle or 0.0
        steps = pool.wiring.program.steps
        step = next((step for step in steps if step.kind.traits.calls_user_code), steps[0])
        while pool.dispatcher.condemned:
            number, verdict = pool.dispatcher.condemned.pop()
            if not pool.dispatcher.accepted.add(number, number + 1):
                continue
            failed = FailureRecord(
                number, 0, step.node, step.node_id, step.on_error, verdict.error, "", verdict.attempts, "died", (None, b"")
            )
            self._take_failures([failed], None)
            self._leave(pool, number, number + 1, now)
            payload, nbytes = self._packing.pack([])
            for stream in pool.wiring.exits:
                self._arrive(stream, number, 1, [(number, number + 1)], ExitData(payload, nbytes, [0]), now)

    def overran(self, worker: str, seen: LastSeen, limit_s: float) -> None:
        """Take in that a call ran past its time limit; its worker is about to be killed for it."""
        at = self._pool_of.get(worker)
        if at is not None:
            blame = self.pools[at].dispatcher.blame
            blame.timed_out(blame.call_of(seen), limit_s)

    def consume(self, upto: int) -> None:
        """Take in that the sinks are done with every number below `upto`."""
        if upto <= self.consumed:
            return
        self.retained.take(self.wiring.tail, self.consumed, upto)
        if self._release_bytes:
            for seq in range(self.consumed, upto):
                self.window.free(self._release_bytes.pop(seq, 0))
        self.consumed = upto

    def committed(self, n: int) -> None:
        """Take in that the sinks have committed the cut below `n`: the sources hear of it."""
        cut = self.cuts.commit(n)
        for source, place in enumerate(cut.places if cut is not None else ()):
            if place.position is not None:
                self._effects.append(Acknowledge(source, place.position))

    def consume_loose(self, stream: int, lo: int, hi: int) -> None:
        """Take in that the unordered sinks of a stream are done with `lo .. hi - 1`."""
        self._loose_out -= hi - lo
        self.retained.take((stream,), lo, hi)

    def stop_reading(self, why: str) -> None:
        """End the reading; what was read is still released."""
        if self.ended_by is None:
            self.ended_by = why
        self._effects += self.reading.stop()

    def spawned(self) -> list[Effect]:
        """Give the effects that `start` and deaths have left, without numbering or handing out anything."""
        effects, self._effects = self._effects, []
        return effects

    def forget(self) -> None:
        """Let go of all events, when the run is over: a report needs none of them."""
        self.sequencer.drop()
        self.retained.drop()
        self._effects.clear()

    # -- what follows from it -----------------------------------------------------------------------------------

    def cycle(self, now: float) -> list[Effect]:
        """Number, hand out, release, ask for more; give what is to be done, in this order.

        Nothing is left: until the core is told something, there is nothing more to be done.
        """
        self._clock(now)
        if not self.finished:
            self._number(now)
            # Nothing below answers a number, so the frontier stands.
            frontier = self.frontier
            self._cut(frontier)
            self._hand_out(frontier, now)
            if self._ask_states():
                self._hand_out(frontier, now)  # what was held until its pool was asked
            self._let_go()
            self._release(self.cuts.hold(frontier))
            self._commit(frontier)
            self._pull()
            self._finish(frontier)
        effects, self._effects = self._effects, []
        return effects

    @property
    def frontier(self) -> int:
        """The lowest number that some branch has not answered."""
        lowest = self.sequencer.next
        for pool in self.pools:
            lowest = min(lowest, pool.dispatcher.accepted.frontier())
        return lowest

    def holder_of(self, number: int) -> str | None:
        """Give the worker that has a number in its hands, in the first pool that has not answered it."""
        for pool in self.pools:
            if number not in pool.dispatcher.accepted:
                return pool.dispatcher.holder_of(number)
        return None

    @property
    def in_flight(self) -> int:
        """How many numbers are admitted and not yet taken by the sinks."""
        return self.sequencer.next - self.consumed

    @property
    def waits_for_sinks(self) -> bool:
        """Whether there may be more to do as soon as the sinks are done with more; else their word can wait."""
        return not self.pools or self.sequencer.waiting or not self.window.is_wide(self.in_flight)

    def _clock(self, now: float) -> None:
        if self._last_cycle is not None:
            passed = now - self._last_cycle
            held = self.held()
            if held:
                self.held_peak = max(self.held_peak, held)
                self.barrier_waited_s += passed
                min(self.pools, key=lambda pool: pool.dispatcher.frontier).waits_s += passed
        self._last_cycle = now

    def held(self) -> int:
        """Give how many answered numbers wait behind one that is not."""
        if not self.pools:
            return 0
        return max([len(pool.dispatcher.accepted) for pool in self.pools]) - self.frontier

    def _number(self, now: float) -> None:
        while room := self.window.room(self.in_flight):
            chunk = self.sequencer.take(min(room, PULL_NUMBERS), fit=self.in_flight > 0)
            if chunk is None:
                break
            payload, nbytes = chunk.payload, chunk.nbytes
            if chunk.items is not None:
                payload, nbytes = self._packing.pack(chunk.items)
            elif chunk.cut:
                payload, nbytes = self._packing.head(payload, chunk.size)
            lo, hi = self.sequencer.next - chunk.size, self.sequencer.next
            self._arrive(SOURCE_STREAM, lo, chunk.size, [(lo, hi)], ExitData(payload, nbytes), now)
        if self.sequencer.limited and not self.reading.stopped:
            self.sequencer.drop()
            self.stop_reading("limit")
        if self._end_is_due and self.window.room(self.in_flight):
            self.end = number = self.sequencer.next
            self.sequencer.skip(number + 1)
            payload, nbytes = self._packing.pack([])
            self._arrive(SOURCE_STREAM, number, 1, [(number, number + 1)], ExitData(payload, nbytes, [0]), now)

    @property
    def _end_is_due(self) -> bool:
        """Whether the end of the input is still to be numbered: there is one, and something is given at it."""
        if not self.wiring.needs_end or self.end is not None or not self.sequencer.finished:
            return False
        return self._source_error is None and self.barrier.end_at is None and closes(self.ended_by, resumes=self._resumes)

    @property
    def events_in(self) -> int:
        """How many events this run has numbered."""
        return self.sequencer.next - self.first - (self.end is not None)

    def _arrive(
        self, stream: int, start: int, size: int, new: list[tuple[int, int]], data: ExitData, now: float
    ) -> None:
        """Retain what a stream now has and make it ready for its readers; `new` are the parts that count."""
        segment = Segment(start, start + size, data.payload, data.nbytes, data.counts, data.indices, now)
        self.retained.put(stream, segment, new)
        for pool, port in self._readers[stream]:
            for lo, hi in new:
                for a, b in merge_ready(pool.covered, port, lo, hi):
                    pool.gauge.enter(b - a, now)
                    if not pool.wiring.in_order:
                        pool.dispatcher.ready(a, b)
            if pool.wiring.in_order:
                upto = pool.arrived
                pool.dispatcher.ready(pool.in_order_upto, upto)
                pool.in_order_upto = upto
        if stream in self.wiring.loose:
            for lo, hi in new:
                self._loose_out += hi - lo
                (slices,) = self.retained.slices((stream,), lo, hi)
                self._effects.append(DeliverLoose(stream, lo, hi, slices, self.sequencer.unlogged()))

    def _leave(self, pool: Pool, lo: int, hi: int, now: float) -> None:
        for part in self.retained.stores[pool.wiring.ports[0]].slices(lo, hi):
            pool.gauge.leave(part.hi - part.lo, now - part.segment.at, now)
        if pool.retention is not None:  # a new worker would begin with it again
            pool.retention.kept(self.retained.cost(pool.wiring.ports, lo, hi))
        else:
            self.retained.take(pool.wiring.ports, lo, hi)

    def _ask_states(self) -> bool:
        """Ask for the states that set enough of the budget free, and for all where what is kept alone uses it up.

        Gives whether any was asked for.
        """
        asked = False
        full = self.window.bytes >= self.window.limit_bytes and not self.in_flight and not self._loose_out
        for at, pool in self._stateful:
            ask = pool.state_to_ask(self.cuts.missing(at), full=full)
            if ask is not None:
                self._effects.append(AskState(*ask))
                asked = True
        return asked

    def _take_failures(self, failures: Sequence[FailureRecord], only: list[tuple[int, int]] | None) -> None:
        if only is not None:
            failures = [f for f in failures if any(lo <= f.seq < hi for lo, hi in only)]
        for failure in failures:
            if failure.on_error == "skip":
                self.counts.skipped += 1
                if self.counts.skipped <= 3:
                    self._effects.append(Warn(failure))
            else:
                self.window.charge(failure.nbytes)
                self._release_bytes[failure.seq] = self._release_bytes.get(failure.seq, 0) + failure.nbytes
        self.barrier.failed(failures)
        if self.barrier.end_at is not None:
            for pool in self.pools:
                pool.dispatcher.stop_at = self.barrier.end_at
            self._effects += self.reading.stop()

    def _take_tallies(self, pool: Pool, tallies: Sequence[Sequence[float]]) -> None:
        for tally, values in zip(pool.tallies, tallies, strict=True):
            tally.add(values)

    def _hand_out(self, head: int, now: float) -> None:
        waiting = self.barrier.released > self.consumed or self._loose_out > 0
        pace = self.window.pace(waiting)
        for pool in self.pools:
            for task in pool.dispatcher.hand_out(pace, head, now):
                inputs = self.retained.slices(pool.wiring.ports, task.start, task.stop)
                if self.retained.has_suspect(inputs):
                    task.orders = replace(task.orders, careful=True)
                if self.end is not None and task.stop > self.end:
                    task.orders = replace(task.orders, end=self.end)
                self._effects.append(SendTask(task.worker, task, inputs, self._cut_hint(pool)))

    def _let_go(self) -> None:
        for pool in self.pools:
            for worker in pool.free_to_go():
                self._effects.append(StopWorker(worker))

    def _cut_hint(self, pool: Pool) -> int:
        """How finely a pool should cut its answers: as finely as the next pools want their tasks."""
        readers = (reader for stream in pool.wiring.exits for reader, _ in self._readers[stream])
        return min((reader.dispatcher.batch for reader in readers), default=0)

    def _release(self, frontier: int) -> None:
        release = self.barrier.release(frontier)
        if release is None:
            return
        self.counts.dead_letters += len(release.letters)
        streams = self.retained.slices(self.wiring.tail, release.lo, release.hi)
        self._effects.append(Deliver(release, streams, self.sequencer.unlogged()))
        for pool in self.pools:
            pool.dispatcher.blame.forget(release.hi)

    def _commit(self, frontier: int) -> None:
        """Hand over a cut that is whole, and what has waited for it."""
        cut = self.cuts.whole(self.barrier.released)
        if cut is not None:
            self._effects.append(Commit(cut))
            self._release(frontier)

    def _cut(self, frontier: int) -> None:
        """Announce a cut that is due."""
        if not self.cuts.enabled or self.barrier.end_at is not None or self._source_error is not None:
            return
        final = self._is_through(frontier)
        # The number of the end is committed as the end, or another run would give it once more.
        if (final or self.end is None) and self.cuts.may_announce(self.sequencer.next, final):
            n, ended_by = self.sequencer.next, self.ended_by if self.end is None else "source"
            self.cuts.announce(Cut(n, self.sequencer.places, self.sequencer.turn, final, ended_by))
            for at, pool in self._stateful:
                if self.cuts.missing(at) is not None and pool.retention is not None and pool.stands_at(n):
                    self.cuts.state(at, n, pool.retention.packed)

    def _is_through(self, frontier: int) -> bool:
        """Whether every number is answered and none will follow."""
        return frontier == self.sequencer.next and self.sequencer.finished and not self._end_is_due

    def _pull(self) -> None:
        free = self.reading.free()
        room = self.window.room(self.in_flight) if free else 0
        wanted = self._wanted() if room else 0
        while wanted > 0 and (pulls := self.reading.ask(free, room, wanted)):
            self._effects += pulls
            free = self.reading.free()  # a source in another process is asked in advance

    def _wanted(self) -> int:
        if not self.pools:
            return PLAIN_LOOKAHEAD - self.in_flight
        return max([pool.dispatcher.wanted(self._lookahead) for pool in self._first])

    def _spawn(self, pool: int, index: int, pause_s: float) -> None:
        self.pools[pool].incarnations += 1
        name = str(WorkerName(pool, index, self.pools[pool].incarnations))
        self._pool_of[name] = pool
        self._effects.append(Spawn(name, pool, index, pause_s))

    def _finish(self, frontier: int) -> None:
        upto = frontier if self.barrier.end_at is None else min(frontier, self.barrier.end_at)
        if self.barrier.released < upto:
            return  # a cut waits for its states, and what is above it for the cut
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
