"""Delivers released numbers to the sinks, on the caller's thread, in the order of the numbers.

Decides which sink gets which event when: number by number, and for one number in the order in which sinks were added;
consecutive events of one sink are one batch. A sink that fails ends the run before any ordered sink sees a higher number.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from msgspec import Struct

from ...nodes.errors import HandlerError, LockLost
from ...nodes.events import DeadLetter, Failure
from ...nodes.execution.executor import Executor
from ...nodes.handlers import build_all, close_handler
from ...nodes.locks import Lock
from ...nodes.ordering.barrier import FailureRecord
from ...nodes.ordering.segments import Segment, Slice
from ...nodes.program.column import Column, join
from ...nodes.sinks import Batch, failed_position
from ..codec.block_reader import BlockReader
from ..codec.codec import IN_BLOCKS, decode, decode_part
from ..codec.copying import safe_copies
from ..codec.errors import CodecError
from ..core.effects import Deliver, DeliverLoose
from ..interpreter.forks import OwnerProcess
from ..plan.plan import Plan
from ..reporting.failures import event_of, failure_error
from ..reporting.live import LetterLog
from .sinks import SinkEnd, SinkSet, sink_error

if TYPE_CHECKING:
    from ..checkpoints.checkpoints import Checkpoints


class _Unreadable(Struct, frozen=True):
    """A result that cannot be decoded in this process."""

    seq: int
    index: int
    stream: int
    error: CodecError


class Refuted(Exception):
    """What workers give is not what the calling thread gave for the same numbers; the text says where."""


class Comparison(Protocol):
    """The numbers below `stop` were handled and delivered before: what workers give for them is only compared."""

    stop: int

    def check(self, lo: int, hi: int, columns: Sequence[Column], letters: Sequence[DeadLetter]) -> None:
        """Compare the numbers `lo .. hi - 1`; raises `Refuted`."""

    def complete(self) -> None:
        """Record that all numbers below `stop` are the same."""

    def refute(self, why: str) -> NoReturn:
        """Raise `Refuted`."""


class Delivery:
    """The sinks of one run, and the steps that run in the caller: joins of the tail, handlers of dead letters."""

    def __init__(
        self, plan: Plan, *, inline: bool = False, lock: Lock | None = None, checkpoints: Checkpoints | None = None
    ) -> None:
        self.events_out = 0
        self.unmatched = 0
        ordered = plan.whole.sinks if inline else plan.tail.sinks
        self._ends = [SinkEnd.of(sink) for sink in ordered]
        self._letter_ends = [SinkEnd.of(sink) for sink in plan.letter_sinks]
        self._loose = [(sink.loose_stream, SinkEnd.of(sink)) for sink in ([] if inline else plan.loose_sinks)]
        self._tail = Executor(plan.tail.program, plan.tail.handlers, safe_copies)
        self._closers: list[Callable[[], Any]] = []
        self._letters = self._letter_steps(plan)
        #: Whether all that is released goes to the consumer as it is.
        self._straight = len(self._ends) == 1 and self._ends[0].outlet and not plan.tail.program.steps and not self._letter_ends
        self._decoded: dict[int, tuple[Segment, Column]] = {}
        self._opened: tuple[Segment, BlockReader] | None = None
        self._unreadable: list[_Unreadable] = []
        self._plan = plan
        self._owner = OwnerProcess()
        ends = [*self._ends, *(end for _, end in self._loose), *self._letter_ends]
        self.sinks = SinkSet(ends, len(plan.sources), lock, checkpoints, self._close)
        #: Whether the thread that delivers only unpacks for a consumer: no sink, step, lock or commit is due in it.
        self.only_consumer = lock is None and not plan.tail.program.steps and all(end.outlet for end in ends)
        self.delivered = self.sinks.first  #: the number up to which every ordered sink has everything
        self.letter_log: LetterLog | None = None  #: where somebody watches the run
        self.comparison: Comparison | None = None  #: while numbers are only compared

    def _letter_steps(self, plan: Plan) -> Executor | None:
        if plan.letters is None:
            return None
        program = plan.letters.program
        nodes = [step.node for step in program.steps]
        return Executor(program, build_all(plan.letters.handlers, self._closers, nodes=nodes), safe_copies)

    def _close(self) -> None:
        self._decoded.clear()
        self._opened = None  # left where a run ends inside a segment
        for close in self._closers:
            close_handler(close)
        self._closers.clear()

    # -- what arrives from processes ----------------------------------------------------------------------------

    def deliver(self, effect: Deliver, done: Callable[[int], None]) -> Iterator[list[Any]]:
        """Deliver a release segment by segment, calling `done` with the number reached; yields the consumer's events in lists."""
        self.sinks.log(effect.log)
        release = effect.release
        for lo, hi in _parts(effect, 0 if self.comparison is None else self.comparison.stop):
            if self._straight and self.comparison is None and (reader := self._block_reader(effect.streams[0], lo)) is not None:
                yield from self._by_blocks(reader, lo, hi)
                del effect.streams[0][: bisect_right(effect.streams[0], hi, key=_stop_of)]
                done(hi)
                continue
            columns = [self._column(at, slices, lo, hi) for at, slices in enumerate(effect.streams)]
            broken = min((found for found in self._unreadable if lo <= found.seq < hi), default=None, key=_number_of)
            if broken is not None:
                hi = broken.seq
                columns = [column.slice(lo, hi) for column in columns]
            for slices in effect.streams:  # decoded segments are freed before the consumer runs
                del slices[: bisect_right(slices, hi, key=_stop_of)]
            letters = [_letter(record) for record in release.letters if lo <= record.seq < hi]
            if self.comparison is not None:
                self._compare(self.comparison, lo, hi, columns, letters, broken)
                done(hi)
                continue
            ends = self._through_tail(columns)
            if hi > lo:
                yield from self.columns(lo, hi, ends, letters)
                done(hi)
            if broken is not None:
                raise self._unreadable_error(broken)

    def _compare(
        self,
        comparison: Comparison,
        lo: int,
        hi: int,
        columns: list[Column],
        letters: list[DeadLetter],
        broken: _Unreadable | None,
    ) -> None:
        """Compare what was handled before; raises `Refuted` where it differs."""
        unmatched = self.unmatched
        comparison.check(lo, hi, self._through_tail(columns), letters)
        self.unmatched = unmatched  # these were counted before
        if broken is not None:
            comparison.refute(str(self._unreadable_error(broken)))
        self.delivered = hi
        if hi >= comparison.stop:
            self.comparison = None
            comparison.complete()

    def _block_reader(self, slices: list[Slice], lo: int) -> BlockReader | None:
        """Return a reader of the segment whose slice begins at `lo`, or `None` if it can only be decoded as a whole."""
        part = next((part for part in slices if part.lo == lo), None)
        if part is None:
            return None  # a part of it was compared, so it is decoded
        segment, opened = part.segment, self._opened
        self._opened = None
        if segment.payload.codec not in IN_BLOCKS:
            return None
        try:
            if opened is None or opened[0] is not segment:
                opened = segment, BlockReader(segment.start, segment.stop, segment.payload, segment.counts, segment.indices)
        except CodecError:  # raised again when the whole is decoded
            return None
        if part.hi < segment.hi:
            self._opened = opened
        return opened[1]

    def _by_blocks(self, reader: BlockReader, lo: int, hi: int) -> Iterator[list[Any]]:
        """Yield the numbers `lo .. hi - 1` to the consumer, each block decoded when its turn has come."""
        for a, b in pairwise(reader.bounds(lo, hi)):
            try:
                events = reader.column(a, b).events
            except CodecError as error:
                raise self._unreadable_error(_Unreadable(a, 0, self._plan.wiring.tail[0], error)) from None
            self.events_out += len(events)
            yield events
            self.delivered = b

    def loose(self, effect: DeliverLoose) -> Iterator[list[Any]]:
        """Deliver numbers of one stream to its unordered sinks; yields the consumer's events in lists."""
        self.sinks.log(effect.log)
        ends = [end for stream, end in self._loose if stream == effect.stream]
        column = join([self._decode(effect.stream, part.segment).slice(part.lo, part.hi) for part in effect.slices])
        if self._unreadable:
            raise self._unreadable_error(min(self._unreadable, key=_number_of))
        for at, end in enumerate(ends):
            given = column if at == len(ends) - 1 else column.with_events(safe_copies(column.events))
            if end.outlet:
                self.events_out += len(given.events)
                yield given.events
            elif given.events:
                self._write(end, given)

    def _column(self, stream: int, slices: list[Slice], lo: int, hi: int) -> Column:
        parts = []
        for part in slices:
            a, b = max(lo, part.lo), min(hi, part.hi)
            if a >= b:
                continue
            known = self._decoded.get(stream)
            if known is None or known[0] is not part.segment:
                whole = self._decode(self._plan.wiring.tail[stream], part.segment)
                known = self._decoded[stream] = part.segment, whole
            parts.append(known[1].slice(a, b))
            if b == part.segment.hi:
                del self._decoded[stream]
        return join(parts)

    def _decode(self, stream: int, segment: Segment) -> Column:
        """Decode a segment; an event that cannot be built here leaves `None` in its place and is noted."""
        size = segment.stop - segment.start
        expected = size if segment.counts is None else sum(segment.counts)
        column = Column(segment.start, size, [], segment.counts, segment.indices)
        try:
            return column.with_events(decode(segment.payload, expected))
        except CodecError:
            events, errors = decode_part(segment.payload, 0, expected, expected)
        column = column.with_events(events)
        self._unreadable += [_Unreadable(*column.number_of(at), stream, error) for at, error in errors.items()]
        return column

    def _unreadable_error(self, broken: _Unreadable) -> HandlerError:
        node = _producer(self._plan, broken.stream)
        error = HandlerError(
            f"the result of node {node!r} for number {broken.seq} (index {broken.index}) cannot be used in the calling"
            f" process: {broken.error}; everything below {broken.seq} is released, return what can be built here",
            seq=broken.seq,
            index=broken.index,
            node=node,
        )
        error.__cause__ = broken.error.__cause__ or broken.error
        return error

    def _through_tail(self, columns: list[Column]) -> list[Column]:
        if not columns:
            return []
        answer = self._tail.run(columns)
        self.unmatched += sum(tally.unmatched for tally in answer.tallies)
        return answer.exits

    # -- what every runner does ---------------------------------------------------------------------------------

    def columns(self, lo: int, hi: int, columns: Sequence[Column], letters: list[DeadLetter]) -> Iterator[list[Any]]:
        """Deliver the numbers `lo .. hi - 1`: one column per ordered sink, and the dead letters in order.

        Yields the consumer's events in lists. Raises `SinkError`, and `HandlerError` for a handler of dead letters.
        """
        rows: list[tuple[SinkEnd, Column]] = []
        seen: set[int] = set()
        for end, column in zip(self._ends, columns, strict=True):
            if id(column) in seen:
                column = column.with_events(safe_copies(column.events))
            seen.add(id(column))
            if column.events:
                rows.append((end, column))
        failure: BaseException | None = None
        if letters and self.letter_log is not None:
            self.letter_log.record(letters)
        if letters and self._letters is not None:
            more, failure = self._letter_columns(lo, hi, letters)
            rows += more
        if len(rows) == 1:
            end, column = rows[0]
            if end.outlet:
                self.events_out += len(column.events)
                yield column.events
            else:
                self._write(end, column)
        elif rows:
            yield from self._interleaved(rows)
        if failure is not None:
            raise failure
        self.delivered = hi

    def _letter_columns(
        self, lo: int, hi: int, letters: list[DeadLetter]
    ) -> tuple[list[tuple[SinkEnd, Column]], BaseException | None]:
        assert self._letters is not None
        counts = [0] * (hi - lo)
        for letter in letters:
            counts[letter.seq - lo] += 1
        answer = self._letters.run([Column(lo, hi - lo, list(letters), counts)])
        ends = [(end, column) for end, column in zip(self._letter_ends, answer.exits, strict=True) if column.events]
        fatal = [failure for failure in answer.failures if failure.on_error == "fail"]
        return ends, _letter_error(fatal[0]) if fatal else None

    def _interleaved(self, rows: list[tuple[SinkEnd, Column]]) -> Iterator[list[Any]]:
        """Write to several sinks number by number; consecutive events of one sink are one batch."""
        runs = []
        for at, (end, column) in enumerate(rows):
            position = 0
            counts = column.counts if column.counts is not None else [1] * column.size
            for seq, count in enumerate(counts, column.start):
                if count:
                    runs.append((seq, end.node.id, at, position, position + count))
                position += count
        runs.sort()
        for at, group in groupby(runs, key=lambda run: run[2]):
            end, column = rows[at]
            batch = list(group)
            part = column.slice(batch[0][0], batch[-1][0] + 1)
            if end.outlet:
                self.events_out += len(part.events)
                yield part.events
            else:
                self._write(end, part)

    def _write(self, end: SinkEnd, column: Column) -> None:
        if end.recovered >= column.start:  # the sink has them from the run before
            column = column.slice(min(end.recovered + 1, column.stop), column.stop)
            if not column.events:
                return
        batch: Batch[Any] = Batch(column.events, column.numbers)
        self._owner.refuse_if_forked(self._plan.name)  # a handler or sink in this thread may have made the fork
        try:
            end.sink.write(batch)
        except LockLost:
            raise
        except Exception as error:
            position = failed_position(end.sink, error, len(batch))
            seq, index = batch.numbers[position or 0]
            last = batch.numbers[-1][0]
            event = batch[position or 0]
            where = f"number {seq}" if position is not None or last == seq else f"numbers {seq} to {last}"
            raise sink_error(end.node, seq, index, event, error, f"failed on {where}") from error
        if end.node.inputs[0].kind.value != "dead_letters":
            self.events_out += len(batch)


def _parts(effect: Deliver, compared: int) -> Sequence[tuple[int, int]]:
    """Return the parts of a release by the segments of its first stream, so that one at a time is decoded.

    No part has numbers both below `compared` and above.
    """
    release = effect.release
    parts = [(part.lo, part.hi) for part in effect.streams[0]] if effect.streams else [(release.lo, release.hi)]
    if not release.lo < compared < release.hi:
        return parts
    return [(a, b) for lo, hi in parts for a, b in ((lo, min(hi, compared)), (max(lo, compared), hi)) if a < b]


def _stop_of(part: Slice) -> int:
    return part.hi


def _number_of(broken: _Unreadable) -> tuple[int, int]:
    return broken.seq, broken.index


def _producer(plan: Plan, stream: int) -> str:
    """Return the name of the node that a stream comes from."""
    for pool in plan.wiring.pools:
        if stream in pool.exits:
            slot = pool.program.exits[pool.exits.index(stream)]
            return next((step.node for step in pool.program.steps if step.output == slot), pool.name)
    return plan.sources[0].node.name


def _letter(record: FailureRecord) -> DeadLetter:
    event = event_of(record.payload[0]) if record.payload else None
    return DeadLetter(
        record.seq, record.index, record.node, event, record.error, record.traceback, record.attempts
    )


def _letter_error(failed: Failure) -> BaseException:
    return failure_error(failed, failed.event, failed.cause)


