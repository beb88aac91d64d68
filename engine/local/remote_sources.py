"""Sources in processes of their own: what they send becomes the input of the core.

Decides nothing about order or amounts: it sends the core's pulls and records chunks, ends and failures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...nodes.errors import ProtocolError, WorkerDied
from ...nodes.ordering.sequencer import Chunk
from ...nodes.ordering.source_positions import ReadMark
from ..codec.codec import decode
from ..core.core import Core
from ..core.effects import Acknowledge, Pull, StopSource
from ..hub.feeds import Feeds
from ..plan.plan import Plan
from ..reporting import failures
from .transport import messages
from .transport.router import Router


class RemoteSources:
    """The source processes of one run. Used by the hub's thread."""

    def __init__(self, plan: Plan, core: Core, feeds: Feeds, router: Router) -> None:
        self._plan = plan
        self._core = core
        self._feeds = feeds
        self._router = router
        self._source_of: dict[str, int] = {}
        self._ready: set[str] = set()

    def start(self, spawn: Callable[[str, str], None]) -> None:
        """Start every remote source by `spawn(child, name of the file that describes it)`."""
        for at, source in enumerate(self._plan.sources):
            if source.remote:
                child = _child_of(at)
                self._source_of[child] = at
                spawn(child, f"source{at}")

    def is_source(self, child: str) -> bool:
        """Whether a child is a source process."""
        return child in self._source_of

    def record_ready(self, child: str) -> None:
        """Record that a source process is ready to be read."""
        self._ready.add(child)

    @property
    def are_open(self) -> bool:
        """Whether every remote source was ready."""
        return len(self._ready) == sum(source.remote for source in self._plan.sources)

    def stores(self, child: str) -> bool:
        """Whether a child is a source process that stores or acknowledges events, also when it is stopped."""
        source = self._source_of.get(child)
        return source is not None and self._feeds.listens(source)

    # -- effects of the core ------------------------------------------------------------------------------------

    def do(self, effect: Pull | StopSource | Acknowledge) -> None:
        """Send a source what the core asks of it."""
        if isinstance(effect, Pull):
            parts = messages.pack(messages.Kind.PULL, effect.count, effect.nbytes)
        elif isinstance(effect, StopSource):
            parts = messages.pack(messages.Kind.HALT)
        elif self._feeds.listens(effect.source):
            packed: Any = effect.position
            parts = messages.pack(messages.Kind.COMMITTED, frames=[packed])
        else:
            return
        self._router.send(_child_of(effect.source), parts)

    # -- what they send -----------------------------------------------------------------------------------------

    def record_chunk(self, peer: str, message: messages.Message) -> None:
        """Record events that a source has sent."""
        size, payload, keys, fraction, given = messages.unpack_fields(peer, message, messages.unpack_chunk)
        marks = [ReadMark(*mark) for mark in given]
        source = self._source(peer)
        if fraction is not None:
            self._feeds.fractions[source] = fraction
        if self._core.sequencer.merges:
            items = decode(payload, size)
            unpacked = decode(keys, size) if keys is not None else None
            self._core.record_chunk(source, Chunk(size, items=items, keys=unpacked, marks=marks))
        else:
            self._core.record_chunk(source, Chunk(size, payload, payload.nbytes, marks=marks))

    def record_end(self, peer: str, read_s: float, error: BaseException | None = None) -> None:
        """Record that a source has ended, or failed with `error`, and let its process end."""
        source = self._source(peer)
        self._feeds.record_end(source, read_s, error)
        if not self._feeds.listens(source):
            self._router.send(peer, messages.pack(messages.Kind.STOP))  # the others stay until the last cut is committed

    def record_failure(self, peer: str, message: messages.Message) -> None:
        """Record that a source raised in its process."""
        text, remote, position, count, read_s = message.fields
        why = failures.rebuild_exception(message.frames, text, remote)
        name = self._plan.sources[self._source(peer)].node.name
        self.record_end(peer, read_s, failures.source_error(name, text, position, count, why))

    def record_exit(self, child: str, how: str) -> None:
        """Record that a source process has exited; before the end of the source that is an error."""
        source = self._source_of[child]
        if self._core.sequencer.has_ended(source):
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
        self._core.record_source_end(source, error)

    def _source(self, peer: str) -> int:
        source = self._source_of.get(peer)
        if source is None:
            raise ProtocolError(f"cannot take a source's message from {peer}: it is a worker")
        return source


def _child_of(source: int) -> str:
    return f"source.{source}"
