"""`workers=None`: handle events in the calling thread at once, and bring in processes when that pays.

Decides when it pays, by what one event costs here, and there with its way; and how the order goes on in processes
without a seam: the caller's thread delivers what it has handled, then what the processes release from the next
number on. Only plain functions are handled here; anything that needs isolation never comes this way.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Any

from ...nodes.errors import describe
from ...nodes.execution.batch_split import BatchSplitter
from ...nodes.execution.executor import Executor
from ...nodes.handlers import needs_build
from ...nodes.program.column import Column
from ..codec.codec import Payload, decode, encode
from ..codec.copying import safe_copies
from ..codec.errors import CodecError
from ..delivery.sinks import opened
from ..options import RunOptions
from ..plan.compiler import default_workers
from ..plan.plan import Plan
from ..reporting import failures as inbox
from ..reporting.progress import Clock
from ..reporting.report import RunReport
from ..sources.feed import POLL_S, Feed, make_feed
from ..sources.slice_feed import SliceFeed, Taken
from .caller import Here
from .processes import ProcessRun

#: A turn takes about this long, in seconds; the largest holds so many events.
_TURN_S = 0.002
_MOST = 8192
#: A call that lasts longer than this brings in processes by itself: what is behind it must not wait.
_LONG_S = 0.02
#: The cost of an event is looked at after so many seconds of handling, and ever more seldom while processes do not pay.
_LOOK_S = 0.01
_LOOK_MOST_S = 0.64
#: Starting processes takes about so long; work that is over sooner does not need them.
_START_S = 0.2
#: Processes must be faster by this factor to be brought in.
_GAIN = 1.2
#: What the hub does for one event in a large batch, beside packing it, in seconds.
_HUB_S = 2e-7
#: So many events are looked at, at most, and so many bytes.
_SAMPLE = 128
_SAMPLE_BYTES = 1 << 20


def may_start_here(plan: Plan, options: RunOptions) -> bool:
    """Whether a run may begin in the calling thread: nothing in it asks for processes of its own.

    A read that blocks the calling thread cannot be ended by `stop` or `time_limit_s`, so those are for processes.
    """
    if options.workers is not None or len(plan.sources) != 1 or plan.loose_sinks or plan.whole.needs_loop:
        return False
    if options.stop is not None or options.time_limit_s is not None or plan.commits:
        return False
    if options.lock is not None or options.checkpoint is not None:
        return False
    if any(step.options.timeout_s is not None for step in plan.whole.steps):
        return False
    if any(subject is not None and needs_build(subject) for subject in plan.whole_handlers):
        return False
    return all(not pool.ordered and not pool.explicit for pool in plan.pools)


@dataclass(slots=True)
class _Costs:
    """Seconds for one number: to handle it here, to send it out and take its result in, and what that costs a worker."""

    handle: float = 0.0
    ship: float = 0.0
    serve: float = 0.0

    def gain(self, cores: int) -> float:
        """How much faster processes would be: the caller's part bounds them, and so does the work over all cores."""
        each = max(self.ship, (self.ship + self.serve + self.handle) / cores)
        return self.handle / each if each > 0 else 0.0


class AutoRun:
    """One run that begins in the calling thread and may go on in processes; iterate `batches` to drive it."""

    def __init__(self, plan: Plan, options: RunOptions) -> None:
        node = plan.sources[0].node
        self._plan = plan
        self._options = options
        self._here = Here(plan)
        self._feed: Feed | SliceFeed = make_feed(node.subject, key=None, name=node.name)
        marking = getattr(self._feed, "marking", None)
        #: Cuts a turn short in which an event takes long; what the places of a source count in is read once.
        self._splitter = None if marking is not None and marking.places else BatchSplitter()
        self._lent = isinstance(self._feed, SliceFeed) and type(node.subject) is not range
        self._cores = default_workers()
        self._crew: ProcessRun | None = None
        self._clock = Clock(options.progress)
        self._began = monotonic()
        self._ended_s: float | None = None
        self._stopped: str | None = None
        self.error: BaseException | None = None
        #: Guards the feed, `_next`, `_handed` and `_crew`: the two threads meet in them.
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._over = threading.Event()
        self._wanted = threading.Event()
        self._busy_since: float | None = None
        self._next = 0
        self._handed = False
        self._most = 1
        self._kept: list[Any] = []
        self._event_bytes = 0.0
        self._costs = _Costs()
        self._handled_s = 0.0
        self._look_s = _LOOK_S
        self._looked_s = 0.0
        self._looked_at = 0
        self._why = "over before processes would have paid"

    @property
    def cut_short(self) -> bool:
        """Whether the run ended before its end without an error, so that what was written is not the whole."""
        return self._stopped == "interrupt" or (self._handed and self._crew is not None and self._crew.cut_short)

    def interrupt(self) -> None:
        """End the reading and release what is in flight, within the deadline."""
        # No lock: this runs in a signal handler, possibly of the thread that holds it.
        self._stopped = self._stopped or "interrupt"
        self._bell.set()
        if self._handed and self._crew is not None:
            self._crew.interrupt()

    def report(self) -> RunReport:
        """Give the report as of now."""
        report = self._here.report(
            read=self._next,
            wall_s=(self._ended_s or monotonic()) - self._began,
            ended_by="error" if self.error is not None else self._stopped or "source",
            runner="processes",
        )
        report.placement = self._why
        if self._handed and self._crew is not None:
            return self._crew.report().after(report)
        return report

    def batches(self) -> Generator[list[Any], None, None]:
        """Run to the end; yields the consumer's events in lists. Raises what ended the run."""
        scout = threading.Thread(target=self._scout, name="sluiceway-scout", daemon=True)
        try:
            with opened(self._here.delivery.sinks, self):
                self._feed.start(self._bell.set)
                scout.start()
                try:
                    yield from self._turns()
                    if self._handed and self._crew is not None:
                        if self._stopped == "interrupt":
                            self._crew.interrupt()
                        yield from self._crew.work()
                finally:
                    self._leave(scout)
        except GeneratorExit:
            self._stopped = "closed"
            raise
        finally:
            self._ended_s = monotonic()
            self._clock.show(self.report)

    def _leave(self, scout: threading.Thread) -> None:
        with self._lock:
            self._over.set()
        self._wanted.set()
        self._feed.stop()
        scout.join()
        if self._crew is not None:
            self._crew.dismiss()

    def _turns(self) -> Iterator[list[Any]]:
        """Handle events here until the source ends or processes have taken over."""
        executor = Executor(self._plan.whole, self._plan.whole_handlers, safe_copies, splitter=self._splitter)
        while (taken := self._take()) is not None:
            events = list(taken.events)
            if events:
                lo = self._next - len(events)
                looking = self._handled_s >= self._looked_s + self._look_s
                sample = safe_copies(events[: self._sample]) if looking else []
                started = perf_counter()
                size = len(events)
                answer = executor.run([Column(lo, size, safe_copies(events) if self._lent else events)])
                seconds = perf_counter() - started
                self._busy_since = None
                self._handled_s += seconds
                self._adapt(seconds, answer.size)
                if sample and answer.size == size:
                    self._look(sample, [column.events for column in answer.exits], size)
                yield from self._here.settle(answer)
                self._clock.tick(self.report)
                if answer.size < size:
                    with self._lock:
                        self._put_back(executor.removed)
                    continue  # the end, if that was one, comes again with what was put back
            if taken.error is not None:
                name = self._plan.sources[0].node.name
                position = repr(self._feed.position)
                raise inbox.source_error(name, describe(taken.error), position, self._feed.count, taken.error)
            if taken.ended:
                return

    def _take(self) -> Taken | None:
        """Give the next events; `None` when processes have taken over, or the reading was ended."""
        limit = self._options.limit
        while True:
            with self._lock:
                if self._kept:
                    events, self._kept = self._kept, []
                    return Taken(events, None, False)
                if self._handed:
                    return None
                left = self._most if limit is None else min(self._most, limit - self._next)
                if left == 0:
                    self._stopped = self._stopped or "limit"
                    return None
                self._bell.clear()
                taken = self._feed.stop() if self._stopped else self._feed.take(left, self._event_bytes)
                if taken is not None:
                    if taken.events:
                        # By its shallow size; it only bounds how far the source is read ahead.
                        self._event_bytes = float(sys.getsizeof(taken.events[-1]))
                    self._next += len(taken.events)
                    self._busy_since = monotonic()
                    return taken
            self._bell.wait(POLL_S if self._feed.bulk else None)

    def _put_back(self, events: list[Any]) -> None:
        """Read the last events again: nobody has begun them, for one before them took long; under the lock."""
        self._most = 1
        if self._handed:
            self._kept = events  # processes have begun with what is behind them
            return
        self._next -= len(events)
        self._feed.put_back(events)

    def _adapt(self, seconds: float, count: int) -> None:
        if seconds < _TURN_S / 2 and count == self._most:
            self._most = min(_MOST, self._most * 2)
        elif seconds > 2 * _TURN_S:
            self._most = max(1, self._most // 2)

    # -- whether processes pay ----------------------------------------------------------------------------------

    @property
    def _sample(self) -> int:
        """How many events are looked at."""
        return max(1, min(_SAMPLE, int(_SAMPLE_BYTES / self._event_bytes))) if self._event_bytes else _SAMPLE

    def _look(self, events: list[Any], outputs: list[list[Any]], count: int) -> None:
        """Weigh handling here against sending out, by the last turns and a sample of their events."""
        self._costs.handle = (self._handled_s - self._looked_s) / max(1, self._next - self._looked_at)
        self._looked_s, self._looked_at = self._handled_s, self._next
        self._look_s = min(2 * self._look_s, _LOOK_MOST_S)
        share = len(events) / count
        out = [given[: max(1, int(len(given) * share))] for given in outputs]
        try:
            pack_in, unpack_in = _cost(events)
            costs = [_cost(given) for given in out if given]
        except CodecError:
            self._why = "no processes: its events cannot be sent to one"
            return
        each = 1 / len(events)
        self._costs.ship = (pack_in + sum(unpack for _, unpack in costs)) * each + _HUB_S
        self._costs.serve = (unpack_in + sum(pack for pack, _ in costs)) * each
        gain = self._costs.gain(self._cores)
        here, there = self._costs.handle, self._costs.ship
        if gain < _GAIN:
            self._why = (
                f"no processes: an event takes {here * 1e6:.2f} µs here, its way to a worker and"
                f" back {there * 1e6:.2f} µs"
            )
            return
        left = self._left()
        if left is not None and left * here < _START_S:
            return
        self._why = (
            f"{self._cores} worker processes from number {{}} on: an event takes {here * 1e6:.1f} µs, they are"
            f" {gain:.1f} times as fast"
        )
        self._wanted.set()

    def _left(self) -> int | None:
        """Give how many events are still to come, where the source can tell."""
        hint = self._feed.size_hint
        return None if hint is None else max(0, hint - self._next)

    # -- the thread that brings in processes --------------------------------------------------------------------

    def _scout(self) -> None:
        """Wait until processes pay, or one call lasts long; start them and hand over once they are up."""
        while not self._wanted.wait(_LONG_S):
            if self._takes_long() and self._left() != 0 and self._cores > 1:
                self._why = (
                    f"{self._cores} worker processes from number {{}} on: one event took longer than"
                    f" {_LONG_S * 1e3:.0f} ms"
                )
                break
        if self._over.is_set() or self._cores < 2:
            return
        crew = ProcessRun(self._plan, self._options, held=True)
        with self._lock:
            if self._over.is_set():
                return
            self._crew = crew
            crew.start()
        while not crew.wait_until_up(_LONG_S):
            self._takes_long()
        with self._lock:
            if not self._over.is_set():
                self._cut()  # what is not begun is theirs
                self._handed = True
                self._why = self._why.format(f"{self._next:,}")
                crew.begin(self._next, self._feed)
        self._bell.set()

    def _takes_long(self) -> bool:
        """Whether the turn that is under way does; it is cut short then."""
        since = self._busy_since
        if since is None or monotonic() - since <= _LONG_S:
            return False
        with self._lock:
            self._cut()
        return True

    def _cut(self) -> None:
        """Cut short the turn that is under way, if one is.

        Under the lock from the cut on, for the caller may be done meanwhile, and must not read on before.
        """
        if self._splitter is not None:
            self._splitter.split()
            self._put_back(self._splitter.take_rest())


def _cost(events: list[Any]) -> tuple[float, float]:
    """Give the seconds that packing and unpacking these events takes, with the copy that another process reads."""
    started = perf_counter()
    payload = encode(events)
    sent = Payload(payload.codec, tuple([memoryview(bytes(frame)) for frame in payload.frames]))
    packed = perf_counter()
    decode(sent)
    return packed - started, perf_counter() - packed
