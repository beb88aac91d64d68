"""Feeds: events of one source, read ahead a little, taken when somebody asks: "whatever is there, up to n".

Decides how far a source is read ahead. A reader thread runs user code; the taker never waits for it and is woken
when something has come that it had asked for in vain. While a quick iterator is read in bulk, by C code that wakes
nobody, the taker must look again every `POLL_S`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import monotonic
from typing import Any

from ...nodes.errors import SourceError
from ...nodes.ordering.source_positions import ReadMark
from ...nodes.sources import PAUSES_S, open_reader
from .slice_feed import SliceFeed, Taken

#: How many events may wait before their size is known.
_FIRST = 4
#: How many bytes may wait, by the size that the taker has measured.
_AHEAD_BYTES = 1 << 20
#: An iterator that takes no longer for an event than this (in seconds) is read in bulk, so many events at a time.
_QUICK_S = 2e-6
_BULK = 2048
_PATIENCE = 4
#: So many of them are read one by one to see them at once where the taker waits.
_FEW = 64
#: How often to look again after a take in vain while `bulk` is set, in seconds.
POLL_S = 0.002
#: A source that wants to hear what is committed is looked after so often while nobody reads, in seconds.
_IDLE_S = 1.0
#: A source has so many seconds for its last acknowledgement.
LINGER_S = 5.0
_END: Any = object()


@dataclass(slots=True)
class Marking:
    """Whether the places of a source count, who wants to hear of them, and how its reads are marked."""

    listens: bool  #: it is told what is committed
    places: bool
    logged: bool  #: each read has an extent for the order log

    @staticmethod
    def of(subject: object) -> Marking:
        """Look at what a source says of itself."""
        listens = listens_to_commits(subject)
        return Marking(listens, listens or bool(getattr(subject, "marked", False)), bool(getattr(subject, "logged", False)))

    def mark(self, reader: Any, size: int) -> ReadMark:
        """Mark what the last read gave."""
        return ReadMark(size, reader.position(), reader.extent() if self.logged else None)


def listens_to_commits(subject: object) -> bool:
    """Whether a source is to be told what is committed."""
    return bool(getattr(subject, "acknowledges", False))


class Feed:
    """A feed with a reader thread over whatever `open_reader` can open.

    With `key`, events come with their keys; keys must not fall, and `None` repeats the one before.
    """

    def __init__(self, subject: Any, *, key: Callable[[Any], Any] | None = None, name: str = "source") -> None:
        self._subject = subject
        self._key = key
        self._name = name
        self._events: list[Any] = []
        self._keys: list[Any] = []
        self._last_key: Any = getattr(subject, "last_key", None)
        self._room = threading.Event()
        self._most = _FIRST
        self._attention = False
        self.bulk = False  #: whether the reader cannot wake anyone just now
        self._stopping = False
        self._done = False
        self._error: BaseException | None = None
        self._wake: Callable[[], None] = lambda: None
        self._blocked_s = 0.0
        self._began = monotonic()
        self._ended_at: float | None = None
        self._reader: Any = None
        #: Of a source whose places count: its whole reads that wait; and what it is to be told, where it listens.
        self.marking = Marking.of(subject)
        self._reads: deque[ReadMark] = deque()
        self._committed: deque[object] = deque()
        self._closing = threading.Event()
        self.closed = threading.Event()
        self.count = 0
        self.size_hint: int | None = None

    def start(self, wake: Callable[[], None]) -> None:
        """Start reading in a thread of its own; `wake` is called when what was missing has come."""
        self.attach(wake)
        threading.Thread(target=self.run, name=f"sluiceway-read-{self._name}", daemon=True).start()

    def attach(self, wake: Callable[[], None]) -> None:
        """Say who is to be woken, where `run` is called by the owner itself."""
        self._wake = wake

    @property
    def position(self) -> object:
        """How far the source is read, in its own terms; the number of events where it cannot tell."""
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
                self._linger(self._reader)
            finally:
                self._reader.close()
        except BaseException as error:  # also a sys.exit() of the source's: nobody may wait for it in vain
            # A reader that is closed under its own feet at a stop may complain; nobody waits for its events.
            if not self._stopping:
                self._error = error
        self._end()
        self.closed.set()

    def _end(self) -> None:
        if not self._done:
            self._ended_at = monotonic()
            self._done = True
            self._wake()

    def _linger(self, reader: Any) -> None:
        """Stay after the end until everything is committed, and pass on what is."""
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
        """Tell the reader what is committed, the last of several words."""
        position: object = None
        while self._committed:
            position = self._committed.popleft()
        if position is not None:
            reader.acknowledge(position)

    def acknowledge(self, position: object) -> None:
        """Say that everything before a position is committed; the reading thread passes it on."""
        self._committed.append(position)
        self._room.set()

    def close(self) -> None:
        """Let the reader go, when nothing more will be committed."""
        self._stopping = True
        self._closing.set()
        self._room.set()

    def _read_events(self, iterator: Iterator[Any]) -> None:
        put, key = self._events.append, self._key
        quick = False
        while True:
            count = max(1, min(self._most - len(self._events), _BULK))
            started = monotonic()
            self.bulk = quick  # before the look at the flag, which the taker puts up before it looks at this one
            if self.bulk and not self._attention:
                self._events.extend(islice(iterator, count))
                self.bulk = False
            else:
                self.bulk = False
                if quick:  # the taker is woken by the first of a few, and finds many when it is awake
                    count = min(count, _FEW)
                # One by one, for each must be seen as soon as it is there; the checks are kept to a flag per event.
                for event in islice(iterator, count):
                    if key is not None:
                        self._put_keys([event])
                    put(event)
                    if self._attention and not self._attend():
                        return
            # One that was quick may have waited for the interpreter in the meantime.
            quick = key is None and monotonic() - started < count * _QUICK_S * (_PATIENCE if quick else 1)
            if (event := next(iterator, _END)) is _END:
                return
            if key is not None:
                self._put_keys([event])
            put(event)
            if self._attention and not self._attend():
                return
            if len(self._events) >= self._most and not self._wait_for_room():
                return

    def _attend(self) -> bool:
        """Wake the taker, who found nothing; gives whether to go on reading."""
        self._attention = False
        self._wake()
        return not self._stopping

    def _read_batches(self, reader: Any) -> None:
        pause = PAUSES_S[0]
        while not self._stopping:
            if self.marking.listens:
                self._acknowledge(reader)
            most = max(1, self._most - len(self._events))
            batch = reader.read(most, _AHEAD_BYTES)
            if batch is None:
                return
            if not batch:
                # The reader has nothing yet and cannot say when: ask again, ever more slowly.
                self._room.clear()
                self._room.wait(pause)
                pause = min(PAUSES_S[1], pause * 2)
                continue
            pause = PAUSES_S[0]
            if self._key is not None:
                self._put_keys(batch)
            self._events.extend(batch)
            if self.marking.places:
                self._reads.append(self.marking.mark(reader, len(batch)))
            if self._attention:
                self._attend()
            if len(self._events) >= self._most and not self._wait_for_room():
                return

    def _put_keys(self, events: Sequence[Any]) -> None:
        assert self._key is not None
        for event in events:
            position = self.count + len(self._keys)
            self._last_key = check_key(self._key(event), self._last_key, self._name, position)
            self._keys.append(self._last_key)

    def _wait_for_room(self) -> bool:
        """Wait until the taker has made room; gives whether to go on."""
        started = monotonic()
        while len(self._events) >= self._most and not self._stopping:
            self._room.clear()
            # Looked at again after the flag is down, so that a taker between the two is not missed.
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
        """Let the reader do what it must while nobody reads."""
        idle = getattr(self._reader, "idle", None)
        if callable(idle):
            idle()

    def take(self, most: int, event_bytes: float) -> Taken | None:
        """Give what is there, up to `most` events of about `event_bytes` each; `None` when there is nothing yet."""
        self._most = max(_FIRST, min(2 * most, int(_AHEAD_BYTES / event_bytes))) if event_bytes else max(_FIRST, self._most)
        done = self._done
        waiting: Sequence[object] = self._reads if self.marking.places else self._events
        if not waiting and not done:
            self._attention = True
            # Looked at again after the flag is up, so that an event between the two is not missed.
            if not waiting and not self._done:
                self._room.set()
                return None
            done = self._done
        return self._drain(most, done)

    def _drain(self, most: int, done: bool) -> Taken:
        count, marks = self._whole_reads(most) if self.marking.places else (min(most, len(self._events)), [])
        # The reader only appends and only this thread removes, so both may work on one list.
        events = self._events[:count]
        del self._events[:count]
        keys = None
        if self._key is not None:
            keys = self._keys[:count]
            del self._keys[:count]
        self._room.set()
        self.count += count
        ended = done and not self._events
        return Taken(events, keys, ended, self._error if ended else None, marks)

    def put_back(self, events: list[Any]) -> None:
        """Take back the last events that were given; nobody has touched them, and no place or key counts."""
        self._events[:0] = events
        self.count -= len(events)

    def _whole_reads(self, most: int) -> tuple[int, list[ReadMark]]:
        """Give how many events the next whole reads have, about `most`, and their marks: one for all but for the log."""
        count, marks = 0, []
        while self._reads and (not count or count + self._reads[0].size <= most):
            marks.append(self._reads.popleft())
            count += marks[-1].size
        if marks and not self.marking.logged:
            marks = [ReadMark(count, marks[-1].position)]
        return count, marks

    def stop(self) -> Taken:
        """End the reading and give all that was read; what user code still waits for is left to it."""
        self._stopping = True
        self._attention = True
        self._room.set()
        if self._reader is not None and not self.marking.listens and not getattr(self._reader, "one_by_one", False):
            self._reader.close()
        taken = self._drain(len(self._events), True)
        taken.ended, taken.error = True, self._error
        return taken

    @property
    def fraction(self) -> float | None:
        """How much of the source was read, 0..1, where it can tell."""
        progress = getattr(self._reader, "progress", None)
        return progress() if progress is not None else None

    @property
    def read_s(self) -> float:
        """Seconds in which the source was not held back."""
        until = monotonic() if self._ended_at is None else self._ended_at
        return max(0.0, until - self._began - self._blocked_s)


def check_key(key: Any, last: Any, source: str, position: int) -> Any:
    """Give the key that counts for an event of a merged source: `None` repeats the last; raises `SourceError` for less."""
    if key is None:
        return last
    if last is not None and key < last:
        raise SourceError(
            f"cannot merge source {source!r} by key: the key of its event {position} is below the one before; sort"
            " the source by the key, or drop key=",
            node=source,
        )
    return key


def make_feed(subject: Any, *, key: Callable[[Any], Any] | None, name: str) -> Feed | SliceFeed:
    """Give the feed for a subject: without a thread where it cannot block."""
    if key is None and type(subject) in (list, tuple, range):
        return SliceFeed(subject)
    return Feed(subject, key=key, name=name)


def is_lent(subject: Any) -> bool:
    """Whether the events of a source stay in a container of the caller's, who does not expect them to be changed."""
    if callable(subject) or hasattr(subject, "reader") or type(subject) is range:
        return False
    return iter(subject) is not subject
