"""The sources that are read in the calling process, and what becomes of the end of any source.

Decides nothing about order or amounts: it carries out the core's pulls, encodes what the feeds return, and turns a
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
from ..sources.held_feed import HeldFeed
from ..sources.resumed import too_short
from ..sources.slice_feed import FeedBatch, SliceFeed


class Feeds:
    """The sources of one run. Used by the hub's thread.

    `keep` returns a payload in the memory from which workers read it.
    """

    def __init__(self, plan: Plan, core: Core, keep: Callable[[Payload], Payload]) -> None:
        self._plan = plan
        self._core = core
        self._keep = keep
        self._feeds: dict[int, Feed | SliceFeed | HeldFeed] = {}
        self._encoders: dict[int, Encoder] = {}
        self._event_bytes: dict[int, float] = {}
        self._pulls: dict[int, tuple[int, int]] = {}
        #: Seconds in which reading was not held back, and how much of each source was read (0..1), where known.
        self.read_s = 0.0
        self.fractions: dict[int, float] = {}

    # -- the beginning and the end ------------------------------------------------------------------------------

    def start(self, wake: Callable[[], None]) -> None:
        """Start to read every source that is not remote."""
        for at, source in enumerate(self._plan.sources):
            if not source.remote:
                key = self._plan.key if self._core.sequencer.merges else None
                limit = self._core.sequencer.remaining
                feed = make_feed(source.node.subject, key=key, name=source.node.name, limit=limit)
                self.add(at, feed)
                feed.start(wake)

    def add(self, source: int, feed: Feed | SliceFeed | HeldFeed) -> None:
        """Add the feed that a source is read from."""
        self._feeds[source] = feed
        self._encoders[source] = Encoder()

    def stop(self) -> None:
        """Stop the reading threads of this process; what they have read is dropped."""
        for feed in self._feeds.values():
            feed.stop()
            feed.close()
        for feed in self._feeds.values():
            if isinstance(feed, Feed) and feed.marking.listens:
                feed.closed.wait(LINGER_S)

    def listens(self, source: int) -> bool:
        """Whether a source, remote or not, is to be told what is committed."""
        return listens_to_commits(self._plan.sources[source].node.subject)

    def record_end(self, source: int, read_s: float, error: BaseException | None = None) -> None:
        """Record that a source, remote or not, has ended or failed with `error`.

        `read_s` are the seconds in which it was not held back. A source with fewer events than an earlier run has
        read from it has failed.
        """
        self.read_s = max(self.read_s, read_s)
        if error is None and not self._core.source_credit.stopped and self._core.sequencer.lacks(source):
            error = too_short(self._plan.sources[source].node.name)
        self._core.record_source_end(source, error)

    # -- effects of the core ------------------------------------------------------------------------------------

    def __contains__(self, source: int) -> bool:
        """Whether a source is read in this process."""
        return source in self._feeds

    def do(self, effect: Pull | StopSource | Acknowledge) -> bool:
        """Carry out an effect for a source of this process; return whether that has made an input of the core."""
        source = effect.source
        if isinstance(effect, Pull):
            self._pulls[source] = (effect.count, effect.nbytes)
            return self._pull(source)
        feed = self._feeds[source]
        if isinstance(effect, StopSource):
            self._pulls.pop(source, None)
            self._pass_on(source, feed.stop())
            return True
        if isinstance(feed, Feed) and self.listens(source):
            feed.acknowledge(effect.position)
        return False

    def retry_pulls(self) -> None:
        """Repeat the pulls that found nothing so far."""
        for source in list(self._pulls):
            self._pull(source)

    @property
    def must_poll(self) -> bool:
        """Whether a pending pull must be polled because its feed cannot signal."""
        return any(self._feeds[source].bulk for source in self._pulls)

    # -- the caller's feeds -------------------------------------------------------------------------------------

    def _pull(self, source: int) -> bool:
        count, nbytes = self._pulls[source]
        size = self._event_bytes.get(source, 0.0)
        if size:
            count = max(1, min(count, int(nbytes / size)))
        taken = self._feeds[source].read(count, size)
        if taken is None:
            return False
        del self._pulls[source]
        self._pass_on(source, taken)
        return True

    def _pass_on(self, source: int, taken: FeedBatch) -> None:
        """Pass on to the core what a feed returned: encoded, unless it is to be merged."""
        feed = self._feeds[source]
        error = taken.error
        if taken.events:
            record = self._record_objects if self._core.sequencer.merges else self._record_encoded
            error = record(source, taken) or error
        if feed.fraction is not None:
            self.fractions[source] = feed.fraction
        if taken.ended or error is not None:
            if error is not None:
                name = self._plan.sources[source].node.name
                error = failures.source_error(name, describe(error), repr(feed.position), feed.count, error)
            self.record_end(source, feed.read_s, error)

    def _record_objects(self, source: int, taken: FeedBatch) -> BaseException | None:
        """Record events that are to be merged as objects; they are encoded once, to see that they can be."""
        failed: CodecError | None = None
        events, keys = taken.events, taken.keys
        try:
            self._encoders[source].encode(events)
        except CodecError as error:
            failed, count = error, error.position or 0
            events, keys = events[:count], keys and keys[:count]
        self._core.record_chunk(source, Chunk(len(events), items=list(events), keys=keys, marks=taken.marks_of(len(events))))
        return failed

    def _record_encoded(self, source: int, taken: FeedBatch) -> BaseException | None:
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
            self._core.record_chunk(source, Chunk(len(events), payload, payload.nbytes, marks=taken.marks_of(len(events))))
        return failed


class EventPacking:
    """Encodes and decodes events for the core."""

    def __init__(self) -> None:
        self._encoder = Encoder()

    def pack(self, items: list[Any]) -> tuple[Any, int]:
        payload = self._encoder.encode(items)
        return payload, payload.nbytes

    def head(self, payload: Any, count: int) -> tuple[Any, int]:
        assert isinstance(payload, Payload)
        return self.pack(decode(payload)[:count])
