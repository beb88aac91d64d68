"""The sequencer: stamps one global order on the events of one or more sources.

Decides which event gets the next number: as they arrive, in turn, or by a key by which each source is sorted; first of
all what an earlier run has logged. An event has no number, and so is not admitted, before `number_next`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct, field

from .order_log import Entries, OrderLog
from .source_positions import PositionTracker, ReadMark, SourcePosition

Order = Literal["arrival", "round_robin", "key"]


class Chunk(Struct):
    """Events of one source that follow each other: packed (`payload`) or as objects (`items`, with `keys` for a merge)."""

    size: int
    payload: Any = None
    nbytes: int = 0
    items: list[Any] | None = None
    keys: list[Any] | None = None
    truncated: bool = False  #: whether only the first `size` events of the payload got numbers
    marks: Sequence[ReadMark] = ()  #: the positions of the source behind its reads, if they are recorded


class _OfferedChunks(Struct):
    chunks: deque[Chunk] = field(default_factory=deque)
    items: deque[Any] = field(default_factory=deque)
    keys: deque[Any] = field(default_factory=deque)
    ended: bool = False
    early: bool = False  #: whether it may have had more events
    tracker: PositionTracker = field(default_factory=PositionTracker)

    @property
    def buffered(self) -> int:
        return len(self.items) + (sum([chunk.size for chunk in self.chunks]) if self.chunks else 0)


class Sequencer:
    """Numbers the events of `sources` feeds from 0 on, at most `limit` of them."""

    def __init__(
        self, sources: int, order: Order = "arrival", limit: int | None = None, log: OrderLog | None = None
    ) -> None:
        self.next = 0
        self._feeds = [_OfferedChunks(tracker=PositionTracker(source)) for source in range(sources)]
        self._order = order
        self._limit = limit
        self._turn = 0
        self._arrived: deque[int] = deque()
        self._log = log
        self._arrives = order == "arrival" and sources > 1

    @property
    def merges(self) -> bool:
        """Whether events must be offered one by one as objects instead of packed."""
        return len(self._feeds) > 1 and (self._order != "arrival" or self._repeats)

    @property
    def _repeats(self) -> bool:
        """Whether the next numbers go to events as an earlier run has logged them."""
        return self._log is not None and self._log.next_run is not None

    def take_log(self) -> Entries | None:
        """Return what must be durable before a number assigned since the last call is released."""
        return self._log.take_new() if self._log is not None else None

    def lacks(self, source: int) -> bool:
        """Whether a source that has ended had fewer events than an earlier run has numbered."""
        return self._log is not None and self._log.count_to_repeat(source) > self._feeds[source].buffered

    @property
    def remaining(self) -> int | None:
        """How many numbers the limit still allows; `None` without a limit."""
        return None if self._limit is None else max(0, self._limit - self.next)

    @property
    def limited(self) -> bool:
        """Whether the limit is reached."""
        return self._limit is not None and self.next >= self._limit

    def skip_to(self, number: int) -> None:
        """Go on from `number`: the numbers below were assigned elsewhere, and count toward the limit."""
        self.next = number

    def resume(self, number: int, positions: Sequence[SourcePosition], turn: int) -> None:
        """Go on from `number`, with each source at its position and `turn` being next if they take turns."""
        self.next, self._turn = number, turn
        for source, (feed, place) in enumerate(zip(self._feeds, positions, strict=True)):
            feed.tracker = PositionTracker(source, place)

    @property
    def turn(self) -> int:
        """The index of the source whose turn is next, if the sources take turns."""
        return self._turn

    @property
    def positions(self) -> tuple[SourcePosition, ...]:
        """The position of each source behind its last numbered event."""
        return tuple(feed.tracker.position() for feed in self._feeds)

    def buffered(self, source: int) -> int:
        """Return how many events of a source wait for their number."""
        return self._feeds[source].buffered

    @property
    def waiting(self) -> bool:
        """Whether events wait for their number."""
        return any(feed.buffered for feed in self._feeds)

    def has_ended(self, source: int) -> bool:
        """Whether no more events of a source will come."""
        return self._feeds[source].ended

    @property
    def finished(self) -> bool:
        """Whether no further number will ever be assigned."""
        if self.limited:
            return True
        return all(feed.ended and not feed.buffered for feed in self._feeds)

    def offer(self, source: int, chunk: Chunk) -> None:
        """Add events of a source, in its own order."""
        if not chunk.size:
            return
        feed = self._feeds[source]
        feed.tracker.record_reads(chunk.marks, self._log)
        if self.merges:
            assert chunk.items is not None
            feed.items.extend(chunk.items)
            feed.keys.extend(chunk.keys if chunk.keys is not None else [None] * chunk.size)
        else:
            feed.chunks.append(chunk)
            self._arrived.append(source)

    def record_end(self, source: int, *, early: bool = False) -> None:
        """Record that a source has ended, `early` if it may have had more events: it was stopped, or has failed.

        With a log another run goes on from here, so a merge then ends where it needs the events that are missing.
        """
        self._feeds[source].ended = True
        self._feeds[source].early = early and self._log is not None

    def clear(self) -> None:
        """Drop the events that have no number yet: a limit has ended the reading."""
        for feed in self._feeds:
            feed.chunks.clear()
            feed.items.clear()
            feed.keys.clear()
        self._arrived.clear()

    def number_next(self, most: int, *, fit: bool = False) -> Chunk | None:
        """Number the next events in the order, from `next` on, and return them, or `None` if none is ready.

        Of objects, up to `most` are numbered. Packed chunks are numbered whole (a number is admitted with its chunk);
        with `fit` a chunk that is larger than `most` has to wait.
        """
        if self.limited or most <= 0:
            return None
        if self._repeats and self._arrives:
            chunk = self._repetition(self._capped(most))
        elif self.merges:
            chunk = self._merge(self._capped(most))
        else:
            chunk = self._arrival(most if fit else None)
        if chunk is not None:
            self.next += chunk.size
        return chunk

    def _capped(self, most: int) -> int:
        return most if self.remaining is None else min(most, self.remaining)

    def _arrival(self, most: int | None) -> Chunk | None:
        if not self._arrived:
            return None
        feed = self._feeds[self._arrived[0]]
        size = self._capped(feed.chunks[0].size)
        if most is not None and size > most:
            return None
        source = self._arrived.popleft()
        chunk = feed.chunks.popleft()
        if size < chunk.size:
            chunk.size, chunk.truncated = size, True
            if chunk.items is not None:
                chunk.items = chunk.items[:size]
        feed.tracker.record_numbered(size)
        if self._arrives and self._log is not None:
            self._log.record_numbered(self.next, source, size)
        return chunk

    def _repetition(self, most: int) -> Chunk | None:
        """Return the next events as an earlier run has numbered them."""
        assert self._log is not None
        run = self._log.next_run
        assert run is not None
        feed = self._feeds[run.source]
        count = min(most, run.count, len(feed.items))
        if not count:
            if feed.ended:  # it was stopped or has failed: what other sources return, now and later, gets no number
                self.clear()
            return None
        items = [feed.items.popleft() for _ in range(count)]
        feed.tracker.record_numbered(count)
        self._log.record_repeated(count)
        if not self._repeats:
            self._arrive_again()
        return Chunk(count, items=items)

    def _arrive_again(self) -> None:
        """Number the remaining events as they arrive: everything in the log is repeated."""
        for source, feed in enumerate(self._feeds):
            feed.keys.clear()
            if feed.items:
                feed.chunks.append(Chunk(len(feed.items), items=list(feed.items)))
                feed.items.clear()
                self._arrived.append(source)

    def _merge(self, most: int) -> Chunk | None:
        pick = self._in_turn if self._order == "round_robin" else self._lowest
        items: list[Any] = []
        while len(items) < most:
            at = pick()
            if at is None:
                break
            feed = self._feeds[at]
            items.append(feed.items.popleft())
            feed.tracker.key = feed.keys.popleft()
            feed.tracker.record_numbered(1)
        return Chunk(len(items), items=items) if items else None

    def _waits_for(self, feed: _OfferedChunks) -> bool:
        """Whether a merge has to wait for more events of an empty feed; the merge ends if they never come."""
        if feed.early:  # the next run reads the events of the others again
            self.clear()
        return feed.early or not feed.ended

    def _in_turn(self) -> int | None:
        for _ in self._feeds:
            feed = self._feeds[self._turn]
            if feed.items:
                at, self._turn = self._turn, (self._turn + 1) % len(self._feeds)
                return at
            if self._waits_for(feed):
                return None
            self._turn = (self._turn + 1) % len(self._feeds)
        return None

    def _lowest(self) -> int | None:
        best: int | None = None
        for at, feed in enumerate(self._feeds):
            if not feed.items:
                if self._waits_for(feed):
                    return None
                continue
            if feed.keys[0] is None:
                return at  # events before a source's first key have none to repeat: they come before all keys
            if best is None or feed.keys[0] < self._feeds[best].keys[0]:
                best = at
        return best
