"""Delivery: hands released numbers to the sinks, on the caller's thread, in the order of the numbers.

Decides which sink gets what when: number by number, and for one number in the order in which sinks were added; what
one sink gets in a row is one batch. A sink that fails ends the run before any ordered sink sees a higher number.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

from ..graphs.spec import Node
from ..nodes.barrier import FailureRecord
from ..nodes.column import Column, join
from ..nodes.cuts import Cut
from ..nodes.errors import CheckpointError, HandlerError, LockLost, SinkError
from ..nodes.events import DeadLetter, Failure
from ..nodes.executor import Executor
from ..nodes.handlers import build_all
from ..nodes.locks import Lock
from ..nodes.segments import Segment, Slice
from ..nodes.sinks import Batch, as_sink, failed_position
from ..nodes.steps import describe
from . import inbox
from .checkpointing import Checkpoints
from .codec import decode, decode_part
from .codec_errors import CodecError
from .copying import safe_copies
from .effects import Deliver, DeliverLoose
from .held import Held
from .plan import Outlet, Plan, SinkPlan


@dataclass(slots=True)
class _End:
    """One sink node with its sink; `outlet` marks the consumer's own."""

    node: Node
    sink: Any
    outlet: bool
    held: int = -2  #: the last number that the sink has from an earlier run; -2 for none
    token: Any = None  #: what its last commit gave

    @staticmethod
    def of(plan: SinkPlan) -> _End:
        outlet = isinstance(plan.node.subject, Outlet)
        return _End(plan.node, None if outlet else as_sink(plan.node.subject), outlet)


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """A result that cannot be unpacked in this process."""

    seq: int
    index: int
    stream: int
    error: CodecError


class Delivery:
    """The sinks of one run and the steps that run beside them: joins of the tail, handlers of dead letters."""

    def __init__(
        self, plan: Plan, *, inline: bool = False, lock: Lock | None = None, checkpoints: Checkpoints | None = None
    ) -> None:
        self.events_out = 0
        self.unmatched = 0
        self.delivered = 0  #: the number up to which every ordered sink has everything
        ordered = plan.whole_sinks if inline else plan.tail_sinks
        self._ends = [_End.of(sink) for sink in ordered]
        self._letter_ends = [_End.of(sink) for sink in plan.letter_sinks]
        self._loose = [(sink.loose_stream, _End.of(sink)) for sink in ([] if inline else plan.loose_sinks)]
        self._tail = Executor(plan.tail, [None] * len(plan.tail.steps), safe_copies)
        self._closers: list[Callable[[], Any]] = []
        self._letters = self._letter_steps(plan)
        self._decoded: dict[int, tuple[Segment, Column]] = {}
        self._unreadable: list[_Unreadable] = []
        self._plan = plan
        self._opened: list[_End] = []
        self.lock = Held(lock)
        self._checkpoints = checkpoints
        if checkpoints is not None and checkpoints.saved is not None:
            self.delivered = checkpoints.saved.n

    def _letter_steps(self, plan: Plan) -> Executor | None:
        if plan.letters is None:
            return None
        return Executor(plan.letters, build_all(plan.letter_handlers, self._closers), safe_copies)

    # -- the life of the sinks ----------------------------------------------------------------------------------

    def open(self) -> None:
        """Open every sink that wants it; one that cannot be opened fails the run before anything starts."""
        token = self.lock.take()
        for end in self._all():
            fence = getattr(end.sink, "fence", None)
            if token is not None and callable(fence):
                fence(token)
            opener = self._opener(end)
            if callable(opener):
                try:
                    opener()
                except (CheckpointError, LockLost):
                    raise
                except Exception as error:
                    raise _sink_error(end.node, None, None, None, error, "cannot be opened") from error
            self._opened.append(end)
        if self._checkpoints is not None and self._checkpoints.saved is None:
            self._checkpoints.begin(len(self._plan.sources), self.commit(-1))

    def _opener(self, end: _End) -> Callable[[], object] | None:
        """Give what opens a sink: anew, or where the run before had committed it."""
        saved = self._checkpoints.saved if self._checkpoints is not None else None
        recover = getattr(end.sink, "recover", None)
        if saved is None or not callable(recover):
            opener: Callable[[], object] | None = getattr(end.sink, "open", None)
            return opener

        def go_on() -> None:
            end.token = saved.tokens.get(end.node.name)
            end.held = recover(end.token)

        return go_on

    def close(self, failed: bool) -> BaseException | None:
        """Close (or, where the run failed, abort) every opened sink; give the first error of one, after all are done."""
        first: BaseException | None = None if failed else self.lock.loss()
        self._decoded.clear()  # a run that ends inside a segment has not taken all of it
        while self._opened:
            end = self._opened.pop(0)
            if end.sink is None:
                continue
            # A sink that cannot be closed makes a failed run of it: the ones behind it are aborted.
            broken = failed or first is not None  # also where the lock is lost
            closer = getattr(end.sink, "abort", None) if broken else None
            try:
                (closer if callable(closer) else end.sink.close)()
            except Exception as error:
                if first is None:
                    first = _sink_error(end.node, None, None, None, error, "cannot be closed")
                    first.__cause__ = error
        self.lock.give_back()
        if self._checkpoints is not None:
            self._checkpoints.store.close()
        for close in self._closers:
            close()
        self._closers.clear()
        return first

    def commit_cut(self, cut: Cut) -> None:
        """Commit the sinks at a cut, and keep it where the run has checkpoints."""
        tokens = self.commit(cut.n - 1)
        if self._checkpoints is not None:
            self._checkpoints.keep(cut, tokens)

    def commit(self, n: int) -> dict[str, Any]:
        """Make every sink that can commit what it has, up to number `n`, and give their tokens by name.

        Raises `SinkError` at the first that fails; the rest is then not committed.
        """
        self.lock.check()
        tokens = {}
        for end in self._opened:
            commit = getattr(end.sink, "commit", None)
            # A sink that had committed just before the run died may be ahead of the first cuts of the next one.
            if callable(commit) and n > end.held:
                try:
                    end.token = commit(n)
                except LockLost:
                    raise
                except Exception as error:
                    raise _sink_error(end.node, None, None, None, error, f"cannot commit up to number {n}") from error
            if callable(commit):
                tokens[end.node.name] = end.token
        return tokens

    def _all(self) -> list[_End]:
        return [*self._ends, *(end for _, end in self._loose), *self._letter_ends]

    # -- what arrives from processes ----------------------------------------------------------------------------

    def deliver(self, effect: Deliver, done: Callable[[int], None]) -> Iterator[list[Any]]:
        """Deliver a released run piece by piece and say up to which number it is done; yields the consumer's events in lists."""
        release = effect.release
        for lo, hi in _pieces(effect):
            columns = [self._column(at, slices, lo, hi) for at, slices in enumerate(effect.streams)]
            broken = min((found for found in self._unreadable if lo <= found.seq < hi), default=None, key=_place_of)
            if broken is not None:
                hi = broken.seq
                columns = [column.cut(lo, hi) for column in columns]
            for slices in effect.streams:  # what is unpacked is let go of before the consumer takes its time
                del slices[: bisect_right(slices, hi, key=_stop_of)]
            letters = [letter for letter in release.letters if lo <= letter.seq < hi]
            ends = self._through_tail(columns)
            if hi > lo:
                yield from self.columns(lo, hi, ends, [_letter(record) for record in letters])
                done(hi)
            if broken is not None:
                raise self._unreadable_error(broken)

    def loose(self, effect: DeliverLoose) -> Iterator[list[Any]]:
        """Deliver numbers of one stream to its unordered sinks; yields the consumer's events in lists."""
        ends = [end for stream, end in self._loose if stream == effect.stream]
        column = join([self._unpack(effect.stream, part.segment).cut(part.lo, part.hi) for part in effect.slices])
        if self._unreadable:
            raise self._unreadable_error(min(self._unreadable, key=_place_of))
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
                whole = self._unpack(self._plan.wiring.tail[stream], part.segment)
                known = self._decoded[stream] = part.segment, whole
            parts.append(known[1].cut(a, b))
            if b == part.segment.stop:
                del self._decoded[stream]
        return join(parts)

    def _unpack(self, stream: int, segment: Segment) -> Column:
        """Unpack a segment; events that cannot be built here leave `None` in their places and are noted."""
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
        rows: list[tuple[_End, Column]] = []
        seen: set[int] = set()
        for end, column in zip(self._ends, columns, strict=True):
            if id(column) in seen:
                column = column.with_events(safe_copies(column.events))
            seen.add(id(column))
            if column.events:
                rows.append((end, column))
        failure: BaseException | None = None
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
    ) -> tuple[list[tuple[_End, Column]], BaseException | None]:
        assert self._letters is not None
        counts = [0] * (hi - lo)
        for letter in letters:
            counts[letter.seq - lo] += 1
        answer = self._letters.run([Column(lo, hi - lo, list(letters), counts)])
        ends = [(end, column) for end, column in zip(self._letter_ends, answer.exits, strict=True) if column.events]
        fatal = [failure for failure in answer.failures if failure.on_error == "fail"]
        return ends, _letter_error(fatal[0]) if fatal else None

    def _interleaved(self, rows: list[tuple[_End, Column]]) -> Iterator[list[Any]]:
        """Write several sinks number by number; what one gets in a row is one batch."""
        places = []
        for at, (end, column) in enumerate(rows):
            position = 0
            counts = column.counts if column.counts is not None else [1] * column.size
            for seq, count in enumerate(counts, column.start):
                if count:
                    places.append((seq, end.node.id, at, position, position + count))
                position += count
        places.sort()
        for at, run in groupby(places, key=lambda place: place[2]):
            end, column = rows[at]
            taken = list(run)
            part = column.cut(taken[0][0], taken[-1][0] + 1)
            if end.outlet:
                self.events_out += len(part.events)
                yield part.events
            else:
                self._write(end, part)

    def _write(self, end: _End, column: Column) -> None:
        if end.held >= column.start:  # it has them from the run before
            column = column.cut(min(end.held + 1, column.stop), column.stop)
            if not column.events:
                return
        batch = Batch(column.events, column.numbers)
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
            raise _sink_error(end.node, seq, index, event, error, f"failed on {where}") from error
        if end.node.inputs[0].kind.value != "dead_letters":
            self.events_out += len(batch)


class Ending(Protocol):
    """A run whose end decides over its sinks: `cut_short` without an error also means that they hold no whole."""

    error: BaseException | None

    @property
    def cut_short(self) -> bool:
        """Whether the run ended before its end without an error."""


@contextmanager
def opened(delivery: Delivery, run: Ending) -> Iterator[None]:
    """Open the sinks for a run; close them when it succeeds, abort them when it fails or is cut short."""
    failed = True
    try:
        delivery.open()
        yield
        failed = run.cut_short
    except BaseException as error:
        run.error = None if isinstance(error, GeneratorExit) else error
        raise
    finally:
        broken = delivery.close(failed)
        if broken is not None and not failed:
            run.error = broken
            raise broken


def _pieces(effect: Deliver) -> Sequence[tuple[int, int]]:
    """Cut a release where the segments of its first stream end, so that no more than one is unpacked at a time."""
    release = effect.release
    if not effect.streams:
        return [(release.lo, release.hi)]
    return [(part.lo, part.hi) for part in effect.streams[0]]


def _stop_of(part: Slice) -> int:
    return part.hi


def _place_of(broken: _Unreadable) -> tuple[int, int]:
    return broken.seq, broken.index


def _producer(plan: Plan, stream: int) -> str:
    """Name the node that gives a stream."""
    for pool in plan.wiring.pools:
        if stream in pool.exits:
            slot = pool.program.exits[pool.exits.index(stream)]
            return next((step.node for step in pool.program.steps if step.output == slot), pool.name)
    return plan.sources[0].node.name


def _letter(record: FailureRecord) -> DeadLetter:
    event = inbox.event_of(record.payload[0]) if record.payload else None
    return DeadLetter(
        record.seq, record.index, record.node, event, record.error, record.traceback, record.attempts
    )


def _letter_error(failed: Failure) -> BaseException:
    return inbox.failure_error(failed, failed.event, failed.cause)


def _sink_error(
    node: Node, seq: int | None, index: int | None, event: Any, error: BaseException, what: str
) -> SinkError:
    below = "" if seq is None else f"; everything below {seq} was delivered, nothing above it"
    return SinkError(
        f"sink {node.name!r} {what}: {describe(error)}{below}", seq=seq, index=index, node=node.name, event=event
    )
