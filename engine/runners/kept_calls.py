"""The kept answers of a run in the calling thread, as columns of events.

Decides that they are packed as workers pack theirs, when they are given: a handler behind may change them. What cannot be
packed is a failure of its event, as it is in processes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from ...nodes.events import Failure
from ...nodes.execution.kept_steps import Given
from ...nodes.ordering.barrier import FailureRecord
from ...nodes.ordering.intervals import Intervals
from ...nodes.ordering.kept_answers import KeptAnswer
from ...nodes.ordering.segments import ExitData
from ...nodes.ordering.source_positions import SourcePosition
from ...nodes.program.column import Column, join
from ...nodes.program.failures import failure
from ...nodes.program.program import Step
from ...nodes.program.steps import keep
from ..checkpoints.keeper import Keeper
from ..checkpoints.kept_store import KeptGroup, KeptStore
from ..codec.codec import Encoder, Payload, decode
from ..codec.errors import CodecError
from ..reporting.failures import event_of


class KeptCalls:
    """The answers of the durable nodes of one run; `answered` are the numbers of an earlier one, as runs by node.

    `positions` returns those of the sources behind all that is numbered.
    """

    def __init__(
        self,
        store: KeptStore,
        answered: Mapping[str, Sequence[tuple[int, int]]],
        positions: Callable[[], tuple[SourcePosition, ...]],
    ) -> None:
        self._positions = positions
        self.recalled = 0  #: numbers that were not called for again, each for each node
        self._store = store
        self._known: dict[str, Intervals] = {}
        for node, runs in answered.items():
            known = self._known[node] = Intervals()
            for lo, hi in runs:
                known.add(lo, hi)
        self._encoder = Encoder()
        self._error: BaseException | None = None
        self._told = threading.Event()  #: that all is durable, or that nothing will be
        self._keeper = Keeper(store, self._record_error)
        self._waits = False

    def start(self) -> None:
        """Start the thread that keeps them."""
        self._keeper.start()

    def parts(self, node: str, lo: int, hi: int) -> list[tuple[int, int, bool]]:
        """Return the parts of `lo .. hi - 1`, each with whether an earlier run has answered it."""
        known = self._known[node]
        parts = [(*part, True) for part in known.shared(lo, hi)] + [(*part, False) for part in known.gaps(lo, hi)]
        return sorted(parts)

    def recall(self, node: str, lo: int, hi: int) -> Given:
        """Return what an earlier run has answered for all of `lo .. hi - 1`."""
        self.recalled += hi - lo
        columns, failures = [], []
        while lo < hi:
            for answer in self._store.read(node, lo, hi):
                columns.append(_column(answer))
                failures += [_failure(record) for record in answer.failures]
                lo = answer.hi
        return join(columns), failures

    def keep(self, step: Step, given: Given) -> Given:
        """Keep the answer of a step, and return it: an output that cannot be kept is a failure of its event."""
        column, failures = given
        payload: Payload | None = None
        while payload is None:
            try:
                payload = self._encoder.encode(column.events)
            except CodecError as error:
                at = error.position or 0
                failed = failure(step, column.number_of(at), error, 1, None)
                failures = [*failures, failed]
                column = keep(column, column.events, [position != at for position in range(len(column.events))])
                if failed.on_error == "fail":
                    column = column.slice(column.start, failed.seq)
        if column.size:
            data = ExitData(_own(payload), payload.nbytes, column.counts, column.indices)
            records = tuple(_record(step, failed) for failed in failures if failed.seq < column.stop)
            answer = KeptAnswer(column.start, column.stop, column.start, column.size, [data], records)
            group = KeptGroup([(step.node, answer)], None, self._positions())
            if self._waits or not self._keeper.keep_now(group):
                self._keeper.keep(group, _nothing)
                self._waits = True
        return column, failures

    def wait(self) -> None:
        """Wait until all that was given is durable; raises `CheckpointError` if that failed."""
        if self._waits:
            self._told.clear()
            self._keeper.keep(KeptGroup(), self._told.set)
            if self._error is None:
                self._told.wait()
            self._waits = False
        if self._error is not None:
            raise self._error

    def trim(self, n: int) -> None:
        """Delete the answers below a checkpoint."""
        self._keeper.trim(n)

    def close(self) -> None:
        """Keep all that was given, and end the thread."""
        self._keeper.close()

    def _record_error(self, error: BaseException) -> None:
        self._error = error
        self._told.set()


def _nothing() -> None:
    return


def _own(payload: Payload) -> Payload:
    """Return a payload that is not the memory of the events themselves."""
    return Payload(payload.codec, tuple(bytes(frame) for frame in payload.frames))


def _column(answer: KeptAnswer) -> Column:
    (data,) = answer.exits
    expected = answer.size if data.counts is None else sum(data.counts)
    column = Column(answer.start, answer.size, decode(data.payload, expected), data.counts, data.indices)
    return column.slice(answer.lo, answer.hi)


def _record(step: Step, failed: Failure) -> FailureRecord:
    event: Payload | None = None
    if failed.on_error != "skip":
        try:
            event = _own(Encoder().encode([failed.event]))
        except CodecError:
            event = None
    told = (failed.seq, failed.index, failed.node, step.node_id, failed.on_error, failed.error, failed.traceback)
    return FailureRecord(*told, failed.attempts, failed.kind, (event, b""))


def _failure(record: FailureRecord) -> Failure:
    event = event_of(record.payload[0]) if record.payload else None
    told = (record.seq, record.index, record.node, record.on_error, record.error, record.traceback, record.attempts)
    return Failure(*told, event, None, record.kind)  # type: ignore[arg-type]
