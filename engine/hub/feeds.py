"""The intake: what the hub does for the sources of a run, those in the calling process and those in their own.

Decides nothing about order or amounts: it carries out the core's pulls, packs what the caller's feeds give, and
turns a source's end or failure into the core's input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...nodes.errors import ProtocolError, WorkerDied, describe
from ...nodes.ordering.sequencer import Chunk
from ...nodes.ordering.source_positions import Mark
from ..codec.codec import Encoder, Payload, decode
from ..codec.errors import CodecError
from ..core.core import Core
from ..core.effects import Pull
from ..local.transport import messages as wire
from ..local.transport.arena import Arena
from ..local.transport.router import Port
from ..plan.plan import Plan
from ..reporting import failures as inbox
from ..sources.feed import LINGER_S, Feed, listens_to_commits, make_feed
from ..sources.resumed import shorter
from ..sources.slice_feed import SliceFeed, Taken


class Intake:
    """The sources of one run. Used by the hub's thread."""

    def __init__(self, plan: Plan, core: Core, arena: Arena) -> None:
        self._plan = plan
        self._core = core
        self._arena = arena
        self._port: Port | None = None
        self._feeds: dict[int, Feed | SliceFeed] = {}
        self._encoders: dict[int, Encoder] = {}
        self._event_bytes: dict[int, float] = {}
        self._pulls: dict[int, tuple[int, int]] = {}
        self._remote: dict[str, int] = {}
        #: Seconds in which reading was not held back, and how much of each source was read (0..1), as far as told.
        self.read_s = 0.0
        self.fractions: dict[int, float] = {}

    # -- the beginning and the end ------------------------------------------------------------------------------

    def start(self, port: Port, wake: Callable[[], None], birth: Callable[[str, str], None]) -> None:
        """Start every source: a feed here, or a process by `birth(child, spec)`."""
        self._port = port
        for at, source in enumerate(self._plan.sources):
            if source.remote:
                child = f"source.{at}"
                self._remote[child] = at
                birth(child, f"source{at}")
                continue
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

    def acknowledge(self, source: int, position: Any) -> None:
        """Tell a source that everything before a position is committed."""
        if not listens_to_commits(self._plan.sources[source].node.subject):
            return
        feed = self._feeds.get(source)
        if isinstance(feed, Feed):
            feed.acknowledge(position)
        elif feed is None:
            self._send(source, wire.pack(wire.Kind.COMMITTED, frames=[position]))

    def is_source(self, child: str) -> bool:
        """Whether a child is a source process."""
        return child in self._remote

    # -- effects of the core ------------------------------------------------------------------------------------

    def pull(self, pull: Pull) -> bool:
        """Ask a source for events, up to the amounts of the pull; gives whether the core got its answer at once."""
        if pull.source not in self._feeds:
            self._send(pull.source, wire.pack(wire.Kind.PULL, pull.count, pull.nbytes))
            return False
        self._pulls[pull.source] = (pull.count, pull.nbytes)
        return self._take(pull.source)

    def take_waiting(self) -> None:
        """Try again the pulls that found nothing."""
        for source in list(self._pulls):
            self._take(source)

    @property
    def polls(self) -> bool:
        """Whether a feed was asked in vain that may not tell when it has something."""
        return any(self._feeds[source].bulk for source in self._pulls)

    def stop(self, source: int) -> bool:
        """Tell a source to give what it has read, and end; gives whether the core got that at once."""
        if source not in self._feeds:
            self._send(source, wire.pack(wire.Kind.STOP))
            return False
        self._pulls.pop(source, None)
        self._offer(source, self._feeds[source].stop())
        return True

    def _send(self, source: int, parts: list[Any]) -> None:
        assert self._port is not None, "a source process without a port"
        self._port.send(f"source.{source}", parts)

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
            self.read_s = max(self.read_s, feed.read_s)
            if error is not None:
                name = self._plan.sources[source].node.name
                error = inbox.source_error(name, describe(error), repr(feed.position), feed.count, error)
            self._ended(source, error)

    def _ended(self, source: int, error: BaseException | None) -> None:
        """Tell the core that a source has given all, or failed; also where it gave less than an earlier run had."""
        if error is None and not self._core.reading.stopped and self._core.sequencer.lacks(source):
            error = shorter(self._plan.sources[source].node.name)
        self._core.source_ended(source, error)

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
            if self._plan.processes:
                payload = self._arena.place(payload)
            self._core.chunk(source, Chunk(len(events), payload, payload.nbytes, marks=taken.marks_of(len(events))))
        return failed

    # -- source processes ---------------------------------------------------------------------------------------

    def chunk(self, peer: str, message: wire.Message) -> None:
        """Take in events of a source process."""
        size, payload, keys, fraction, given = wire.read(peer, message, wire.read_chunk)
        marks = [Mark(*mark) for mark in given]
        source = self._source_of(peer)
        if fraction is not None:
            self.fractions[source] = fraction
        if self._core.sequencer.merges:
            items = decode(payload, size)
            unpacked = decode(keys, size) if keys is not None else None
            self._core.chunk(source, Chunk(size, items=items, keys=unpacked, marks=marks))
        else:
            self._core.chunk(source, Chunk(size, payload, payload.nbytes, marks=marks))

    def ended(self, peer: str, read_s: float, error: BaseException | None = None) -> None:
        """Take in that a source process has given all, or failed; it may go."""
        source = self._source_of(peer)
        self.read_s = max(self.read_s, read_s)
        self._ended(source, error)
        if not listens_to_commits(self._plan.sources[source].node.subject):
            self._send(source, wire.pack(wire.Kind.STOP))  # the others stay until the last cut is committed

    def failed(self, peer: str, message: wire.Message) -> None:
        """Take in that a source raised in its process."""
        text, remote, position, count, read_s = message.fields
        why = inbox.cause(message.frames, text, remote)
        name = self._plan.sources[self._source_of(peer)].node.name
        self.ended(peer, read_s, inbox.source_error(name, text, position, count, why))

    def gone(self, child: str, how: str) -> None:
        """Take in that a source process is gone; before its end that is an error."""
        source = self._remote[child]
        if self._core.sequencer.ended(source):
            return
        name = self._plan.sources[source].node.name
        sequencer = self._core.sequencer
        read = sequencer.next + sum(sequencer.buffered(at) for at in range(len(self._plan.sources)))
        error = WorkerDied(
            f"the process of source {name!r} {how}; all {read} numbers read before are released,"
            " what it had read beyond is lost; make it read again from there",
            seq=None,
            node=name,
        )
        self._core.source_ended(source, error)

    def _source_of(self, peer: str) -> int:
        source = self._remote.get(peer)
        if source is None:
            raise ProtocolError(f"cannot take a source's message from {peer}: it is a worker")
        return source


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
