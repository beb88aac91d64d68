"""Feeds: a thread reads the events of one source a little ahead; the consumer gets what is there, without waiting.

Decides how far a source is read ahead. A reader thread runs user code; the consumer never waits for it, and is woken by
the next event after a read in vain. While a quick iterator is read in bulk, by C code that cannot wake a thread, the
consumer must read again every `POLL_S`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from time import monotonic
from typing import Any

from msgspec import Struct

from ...nodes.errors import SourceError
from ...nodes.given import refuse_unrun
from ...nodes.ordering.source_positions import ReadMark
from ...nodes.ownership.ownership import is_alone
from ...nodes.sources import PAUSES_S, open_reader
from .owned import check_read, source_ownership
from .slice_feed import FeedBatch, SliceFeed

#: The most events that are read ahead while their size is not known.
_FIRST = 4
#: The most bytes that are read ahead, by the size of an event that the consumer has measured.
_AHEAD_BYTES = 1 << 20
#: An iterator that takes no longer than this for an event, in seconds, is read in bulk.
_QUICK_S = 2e-6
#: The events of one bulk read.
_BULK = 2048
#: An iterator stays quick until it is slower than this many times `_QUICK_S`.
_PATIENCE = 4
#: The events that are read one by one where the consumer waits, so that it sees the first at once.
_FEW = 64
#: How often to read again after a read in vain while `bulk` is set, in seconds.
POLL_S = 0.002
#: How often the reader of a source with acknowledgements is called while nothing is read, in seconds.
_IDLE_S = 1.0
#: The time for the last acknowledgement of a source, in seconds.
LINGER_S = 5.0
_END: Any = object()
_UNLIMITED = 1 << 62  # events


class Marking(Struct):
    """Which marks of its reads a source needs, and whether it is told what is committed."""

    listens: bool  #: its reader is told what is committed
    positions: bool  #: each read is marked with the position behind it
    logged: bool  #: each read has an extent for the order log

    @staticmethod
    def of(subject: object) -> Marking:
        """Return what the attributes of a source ask for."""
        listens = listens_to_commits(subject)
        return Marking(listens, listens or bool(getattr(subject, "marked", False)), bool(getattr(subject, "logged", False)))

    def mark(self, reader: Any, size: int) -> ReadMark:
        """Return the mark of the last read, of `size` events."""
        return ReadMark(size, reader.position(), reader.extent() if self.logged else None)


def listens_to_commits(subject: object) -> bool:
    """Whether a source is told what is committed."""
    return bool(getattr(subject, "acknowledges", False))


class Feed:
    """A feed with a reader thread over whatever `open_reader` can open.

    With `key`, events come with their keys; keys must not fall, and `None` repeats the one before. No more than `limit`
    events are read: what is behind them may be wanted by whoever owns the iterator.
    """

    def __init__(
        self, subject: Any, *, key: Callable[[Any], Any] | None = None, name: str = "source", limit: int | None = None
    ) -> None:
        self._subject = subject
        self._owner = source_ownership()
        self._key = key
        self._name = name
        self._events: list[Any] = []
        self._keys: list[Any] = []
        self._last_key: Any = getattr(subject, "last_key", None)
        self._room = threading.Event()
        self._most = _FIRST
        self._left = _UNLIMITED if limit is None else limit  # how many events may still be read
        self._attention = False
        self.bulk = False  #: whether the reader thread cannot wake the consumer just now
        self._stopping = False
        self._done = False
        self._error: BaseException | None = None
        self._wake: Callable[[], None] = lambda: None
        self._blocked_s = 0.0
        self._began = monotonic()
        self._ended_at: float | None = None
        self._reader: Any = None
        self._fraction: float | None = None
        #: The marks of the whole reads that wait, and the positions to acknowledge, for sources that have them.
        self.marking = Marking.of(subject)
        self._reads: deque[ReadMark] = deque()
        self._committed: deque[object] = deque()
        self._closing = threading.Event()
        self.closed = threading.Event()
        self.count = 0
        self.size_hint: int | None = None

    def start(self, wake: Callable[[], None]) -> None:
        """Start reading in a thread of its own; `wake` is called by the first event after a read in vain."""
        self.attach(wake)
        threading.Thread(target=self.run, name=f"sluiceway-read-{self._name}", daemon=True).start()

    def attach(self, wake: Callable[[], None]) -> None:
        """Set what wakes the consumer, if the owner calls `run` itself."""
        self._wake = wake

    @property
    def position(self) -> object:
        """The position up to which the source is read; the number of events if it has no positions."""
        if self._reader is None or getattr(self._reader, "one_by_one", False):
            return self.count + len(self._events)
        return self._reader.position()

    def run(self) -> None:
        """Read until the end, the first error, or `stop`; runs user code."""
        self._began = monotonic()
        try:
            self._reader = open_reader(self._subject)
            try:
                if getattr(self._reader, "one_by_one", False):
                    self._read_events(self._reader.iterator)
                else:
                    self._read_batches(self._reader)
                self._acknowledge_rest(self._reader)
            finally:
                self._reader.close()
        except BaseException as error:  # also a sys.exit() of the source's: no thread may wait for ever
            # A reader that another thread closed at a stop may raise; its events are not needed any more.
            if not self._stopping:
                self._error = error
        self._end()
        self.closed.set()

    def _end(self) -> None:
        if not self._done:
            self._ended_at = monotonic()
            self._done = True
            self._wake()

    def _acknowledge_rest(self, reader: Any) -> None:
        """Stay after the end until everything is committed, and acknowledge it."""
        if not self.marking.listens:
            return
        self._end()
        while not self._closing.is_set():
            if not self._room.wait(_IDLE_S):
                self._idle()
            self._room.clear()
            self._acknowledge(reader)
        self._acknowledge(reader)

    def _acknowledge(self, reader: Any) -> None:
        """Acknowledge to the reader the highest position that is committed."""
        position: object = None
        while self._committed:
            position = self._committed.popleft()
        if position is not None:
            reader.acknowledge(position)

    def acknowledge(self, position: object) -> None:
        """Record that everything before a position is committed; the reading thread acknowledges it."""
        self._committed.append(position)
        self._room.set()

    def close(self) -> None:
        """End the reader; nothing more will be committed."""
        self._stopping = True
        self._closing.set()
        self._room.set()

    def _read_events(self, iterator: Iterator[Any]) -> None:
        put, key = self._events.append, self._key
        iterator = self._owner.each(iterator)
        quick = False
        while self._left > 0:
            count = min(max(1, min(self._most - len(self._events), _BULK)), self._left - 1)
            started = monotonic()
            self.bulk = quick  # set before `_attention` is read, for the consumer sets that before it reads this
            if self.bulk and not self._attention:
                self._events.extend(islice(iterator, count))
                self.bulk = False
            else:
                self.bulk = False
                if quick:  # the consumer is woken by the first of a few, and finds many when it is awake
                    count = min(count, _FEW)
                # One by one, for each must be seen as soon as it is there; one flag is checked per event.
                for event in islice(iterator, count):
                    if key is not None:
                        self._put_keys([event])
                    put(event)
                    event = None  # the event is not kept while the next one is waited for
                    if self._attention and not self._attend():
                        return
            self._left -= count + 1
            # A quick iterator may have waited for the interpreter lock in the meantime.
            quick = key is None and monotonic() - started < count * _QUICK_S * (_PATIENCE if quick else 1)
            if (event := next(iterator, _END)) is _END:
                return
            if key is not None:
                self._put_keys([event])
            put(event)
            event = None
            if self._attention and not self._attend():
                return
            if len(self._events) >= self._most and not self._wait_for_room():
                return
        self._wait_for_stop()

    def _wait_for_stop(self) -> None:
        """Wait until the run has as many events as it wanted: the source has not ended."""
        while not self._stopping:
            self._room.wait()
            self._room.clear()

    def _attend(self) -> bool:
        """Wake the consumer, which found nothing; return whether to go on reading."""
        self._attention = False
        self._wake()
        return not self._stopping

    def _read_batches(self, reader: Any) -> None:
        pause = PAUSES_S[0]
        if self.marking.positions:
            self._left = _UNLIMITED  # what was read too far is read again from its position
        progress, gives_own = getattr(reader, "progress", None), getattr(reader, "gives_own", False)
        while not self._stopping and self._left > 0:
            if self.marking.listens:
                self._acknowledge(reader)
            most = min(max(1, self._most - len(self._events)), self._left)
            batch = reader.read(most, _AHEAD_BYTES)
            if batch is None:
                self._fraction = 1.0
                return
            if progress is not None:  # asked in the thread that reads, and never once the reader is closed
                self._fraction = progress()
            if not check_read(batch):
                # The reader has nothing yet and cannot say when: ask again, ever more slowly.
                self._room.clear()
                self._room.wait(pause)
                pause = min(PAUSES_S[1], pause * 2)
                continue
            pause = PAUSES_S[0]
            if not gives_own:
                alone = is_alone(batch)
                batch = self._owner.all_of(batch, alone=alone)
            if self._key is not None:
                self._put_keys(batch)
            self._events.extend(batch)
            self._left -= len(batch)
            if self.marking.positions:
                self._reads.append(self.marking.mark(reader, len(batch)))
            del batch  # is not kept while the next one is waited for
            if self._attention:
                self._attend()
            if len(self._events) >= self._most and not self._wait_for_room():
                return
        self._wait_for_stop()

    def _put_keys(self, events: Sequence[Any]) -> None:
        assert self._key is not None
        for event in events:
            position = self.count + len(self._keys)
            self._last_key = check_key(self._key(event), self._last_key, self._name, position)
            self._keys.append(self._last_key)

    def _wait_for_room(self) -> bool:
        """Wait until the consumer has made room; return whether to go on."""
        started = monotonic()
        while len(self._events) >= self._most and not self._stopping:
            self._room.clear()
            # Checked again after the flag is cleared, so that a read between the two is not missed.
            if len(self._events) < self._most or self._stopping:
                break
            if not self.marking.listens:
                self._room.wait()
            elif self._room.wait(_IDLE_S):
                self._acknowledge(self._reader)
            else:
                self._idle()
        self._blocked_s += monotonic() - started
        return not self._stopping

    def _idle(self) -> None:
        """Call the reader's `idle`, for what it must do while nothing is read."""
        idle = getattr(self._reader, "idle", None)
        if callable(idle):
            idle()

    def read(self, most: int, event_bytes: float) -> FeedBatch | None:
        """Return what is there, up to `most` events of about `event_bytes` each; `None` if there is nothing yet."""
        self._most = max(_FIRST, min(2 * most, int(_AHEAD_BYTES / event_bytes))) if event_bytes else max(_FIRST, self._most)
        done = self._done
        waiting: Sequence[object] = self._reads if self.marking.positions else self._events
        if not waiting and not done:
            self._attention = True
            # Checked again after the flag is set, so that an event between the two is not missed.
            if not waiting and not self._done:
                self._room.set()
                return None
            done = self._done
        return self._pop(most, done)

    def _pop(self, most: int, done: bool) -> FeedBatch:
        count, marks = self._whole_reads(most) if self.marking.positions else (min(most, len(self._events)), [])
        # The reader thread only appends and only this thread removes, so both may work on one list.
        events = self._events[:count]
        del self._events[:count]
        keys = None
        if self._key is not None:
            keys = self._keys[:count]
            del self._keys[:count]
        self._room.set()
        self.count += count
        ended = done and not self._events
        return FeedBatch(events, keys, ended, self._error if ended else None, marks)

    def put_back(self, events: list[Any]) -> None:
        """Undo the reading of the last events, which are unchanged; only for feeds without marks and keys."""
        self._events[:0] = events
        self.count -= len(events)

    def _whole_reads(self, most: int) -> tuple[int, list[ReadMark]]:
        """Return the number of events of the next whole reads, about `most`, and their marks: one, unless each is logged."""
        count, marks = 0, []
        while self._reads and (not count or count + self._reads[0].size <= most):
            marks.append(self._reads.popleft())
            count += marks[-1].size
        if marks and not self.marking.logged:
            marks = [ReadMark(count, marks[-1].position)]
        return count, marks

    def stop(self) -> FeedBatch:
        """End the reading and return all that was read; user code that still waits is left alone."""
        self._stopping = True
        self._attention = True
        self._room.set()
        if self._reader is not None and not self.marking.listens and not getattr(self._reader, "one_by_one", False):
            self._reader.close()
        batch = self._pop(len(self._events), True)
        batch.ended, batch.error = True, self._error
        return batch

    @property
    def fraction(self) -> float | None:
        """How much of the source was read, 0..1, if its reader knows: as it said behind its last read."""
        return self._fraction

    @property
    def read_s(self) -> float:
        """Seconds in which the source was not held back."""
        until = monotonic() if self._ended_at is None else self._ended_at
        return max(0.0, until - self._began - self._blocked_s)


def check_key(key: Any, last: Any, source: str, position: int) -> Any:
    """Return the key of an event of a merged source: `None` repeats the last; raises `SourceError` for a lower one."""
    if key is None:
        return last
    refuse_unrun(key, "key=", "it gives what events are merged by")
    if last is not None and key < last:
        raise SourceError(
            f"cannot merge source {source!r} by key: the key of its event {position} is below the one before; sort"
            " the source by the key, or drop key=",
            node=source,
        )
    return key


def make_feed(
    subject: Any, *, key: Callable[[Any], Any] | None, name: str, limit: int | None = None
) -> Feed | SliceFeed:
    """Return the feed for a subject, of which at most `limit` events are read: without a thread if it cannot block."""
    if key is None and type(subject) in (list, tuple, range):
        return SliceFeed(subject)
    return Feed(subject, key=key, name=name, limit=limit)


def is_lent(subject: Any) -> bool:
    """Whether a source is a list of the caller's: none of its code runs between the events, all of a read are copied at once."""
    return type(subject) in (list, tuple)
