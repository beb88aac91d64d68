"""The sources that are read in the calling process, and what becomes of the end of any source.

Decides nothing about order or amounts: it carries out the core's pulls, packs what the feeds return, and turns a
source's end or failure into the core's input. How a remote source is reached is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...nodes.errors import describe
from ...nodes.ordering.sequencer import Chunk
from ..codec.codec import Encoder, Payload, decode
from ..codec.errors import CodecError
from ..core.core import Core
from ..core.effects import Acknowledge, Pull, StopSource
from ..plan.plan import Plan
from ..reporting import failures
from ..sources.feed import LINGER_S, Feed, listens_to_commits, make_feed
from ..sources.resumed import shorter
from ..sources.slice_feed import SliceFeed, Taken


class Intake:
    """The sources of one run. Used by the hub's thread.

    `keep` returns a payload in the place from which workers get it.
    """

    def __init__(self, plan: Plan, core: Core, keep: Callable[[Payload], Payload]) -> None:
        self._plan = plan
        self._core = core
        self._keep = keep
        self._feeds: dict[int, Feed | SliceFeed] = {}
        self._encoders: dict[int, Encoder] = {}
        self._event_bytes: dict[int, float] = {}
        self._pulls: dict[int, tuple[int, int]] = {}
        #: Seconds in which reading was not held back, and how much of each source was read (0..1), as far as told.
        self.read_s = 0.0
        self.fractions: dict[int, float] = {}

    # -- the beginning and the end ------------------------------------------------------------------------------

    def start(self, wake: Callable[[], None]) -> None:
        """Start to read every source that is not remote."""
        for at, source in enumerate(self._plan.sources):
            if not source.remote:
                key = self._plan.key if self._core.sequencer.merges else None
                self.add(at, make_feed(source.node.subject, key=key, name=source.node.name))
                self._feeds[at].start(wake)

    def add(self, source: int, feed: Feed | SliceFeed) -> None:
        """Take a feed of the caller's for a source."""
        self._feeds[source] = feed
        self._encoders[source] = Encoder()

    def stop_feeds(self) -> None:
        """End the reading in the caller's threads; what was read is of no use any more."""
        for feed in self._feeds.values():
            feed.stop()
            feed.close()
        for feed in self._feeds.values():
            if isinstance(feed, Feed) and feed.marking.listens:
                feed.closed.wait(LINGER_S)

    def listens(self, source: int) -> bool:
        """Whether any source wants to hear what is committed."""
        return listens_to_commits(self._plan.sources[source].node.subject)

    def record_end(self, source: int, read_s: float, error: BaseException | None = None) -> None:
        """Record that any source has ended, or failed with `error`; `read_s` seconds it was not held back.

        A source that ended before what an earlier run has read of it has failed.
        """
        self.read_s = max(self.read_s, read_s)
        if error is None and not self._core.reading.stopped and self._core.sequencer.lacks(source):
            error = shorter(self._plan.sources[source].node.name)
        self._core.source_ended(source, error)

    # -- effects of the core ------------------------------------------------------------------------------------

    def __contains__(self, source: int) -> bool:
        """Whether a source is read in this process."""
        return source in self._feeds

    def do(self, effect: Pull | StopSource | Acknowledge) -> bool:
        """Carry out an effect for a source of this process; return whether the core was told something by it."""
        source = effect.source
        if isinstance(effect, Pull):
            self._pulls[source] = (effect.count, effect.nbytes)
            return self._take(source)
        feed = self._feeds[source]
        if isinstance(effect, StopSource):
            self._pulls.pop(source, None)
            self._offer(source, feed.stop())
            return True
        if isinstance(feed, Feed) and self.listens(source):
            feed.acknowledge(effect.position)
        return False

    def take_waiting(self) -> None:
        """Try again the pulls that found nothing."""
        for source in list(self._pulls):
            self._take(source)

    @property
    def polls(self) -> bool:
        """Whether a feed was asked in vain that may not tell when it has something."""
        return any(self._feeds[source].bulk for source in self._pulls)

    # -- the caller's feeds -------------------------------------------------------------------------------------

    def _take(self, source: int) -> bool:
        count, nbytes = self._pulls[source]
        size = self._event_bytes.get(source, 0.0)
        if size:
            count = max(1, min(count, int(nbytes / size)))
        taken = self._feeds[source].take(count, size)
        if taken is None:
            return False
        del self._pulls[source]
        self._offer(source, taken)
        return True

    def _offer(self, source: int, taken: Taken) -> None:
        """Give the core what a feed gave, packed unless it is to be merged."""
        feed = self._feeds[source]
        error = taken.error
        if taken.events:
            offer = self._offer_objects if self._core.sequencer.merges else self._offer_packed
            error = offer(source, taken) or error
        if feed.fraction is not None:
            self.fractions[source] = feed.fraction
        if taken.ended or error is not None:
            if error is not None:
                name = self._plan.sources[source].node.name
                error = failures.source_error(name, describe(error), repr(feed.position), feed.count, error)
            self.record_end(source, feed.read_s, error)

    def _offer_objects(self, source: int, taken: Taken) -> BaseException | None:
        """Give events to be merged as they are; they are packed here once to see that they can be."""
        failed: CodecError | None = None
        events, keys = taken.events, taken.keys
        try:
            self._encoders[source].encode(events)
        except CodecError as error:
            failed, most = error, error.position or 0
            events, keys = events[:most], keys and keys[:most]
        self._core.chunk(source, Chunk(len(events), items=list(events), keys=keys, marks=taken.marks_of(len(events))))
        return failed

    def _offer_packed(self, source: int, taken: Taken) -> BaseException | None:
        failed: CodecError | None = None
        events = taken.events
        try:
            payload = self._encoders[source].encode(events)
        except CodecError as error:
            failed = error
            events = events[: error.position or 0]
            payload = self._encoders[source].encode(events)
        if events:
            self._event_bytes[source] = payload.nbytes / len(events)
            payload = self._keep(payload)
            self._core.chunk(source, Chunk(len(events), payload, payload.nbytes, marks=taken.marks_of(len(events))))
        return failed


class EventPacking:
    """The core's way to the codec."""

    def __init__(self) -> None:
        self._encoder = Encoder()

    def pack(self, items: list[Any]) -> tuple[Any, int]:
        payload = self._encoder.encode(items)
        return payload, payload.nbytes

    def head(self, payload: Any, count: int) -> tuple[Any, int]:
        assert isinstance(payload, Payload)
        return self.pack(decode(payload)[:count])
