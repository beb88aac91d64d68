"""Sources of made-up events, and how one life reads them: through the very readers of a run that is resumed.

Decides what a source may do otherwise when it is read again: the exact ones cut their reads elsewhere, the logged ones
interleave their partitions anew, so that only what was logged comes again as it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from lives_scenario import OF_PARTITION, OF_SOURCE, SourceScript
from sluiceway.engine.sources.feed import Marking, check_key
from sluiceway.engine.sources.resumed import ResumedSource
from sluiceway.nodes.ordering.sequencer import Chunk
from sluiceway.nodes.ordering.source_positions import ReadMark, SourcePosition
from sluiceway.nodes.sources import open_reader

if TYPE_CHECKING:
    from lives import Life
    from lives_ends import World

_BYTES = 1 << 20


class Source:
    """A source that lasts through all lives; what it was told to be committed it has let go of."""

    def __init__(self, world: World, at: int) -> None:
        self.world, self.at = world, at
        self.script: SourceScript = world.scenario.sources[at]
        self.parts = self.script.tokens(at)
        self.acknowledges = self.script.acknowledges
        self.replay = self.script.kind
        self.gone = [0] * len(self.parts)

    def reader(self, position: object | None, /) -> Reader:
        """Open it at the places of its partitions."""
        return Reader(self, [0] * len(self.parts) if position is None else list(position))  # type: ignore[call-overload]

    def covered(self, position: Any) -> set[int]:
        """Return the events that lie before a position."""
        return {token for tokens, upto in zip(self.parts, position, strict=True) for token in tokens[:upto]}


class Reader:
    """Reads a source; its position is how far it is in each partition."""

    def __init__(self, source: Source, at: list[int]) -> None:
        self._source, self._at = source, at
        self._extent: tuple[int, ...] = ()
        if any(upto < gone for upto, gone in zip(at, source.gone, strict=True)):
            source.world.broken(f"source {source.at} is to be read from {at}, and was told to let go of {source.gone}")

    def read(self, limit: int, max_bytes: int, /) -> Sequence[int] | None:
        """Return some events, those of several partitions in any order."""
        rng, script = self._source.world.rng, self._source.script
        if all(upto == len(tokens) for upto, tokens in zip(self._at, self._source.parts, strict=True)):
            return None
        if rng.random() < script.silent:
            return []
        events = []
        for _ in range(rng.randint(1, max(1, min(limit, script.largest)))):
            heads = [(self._key(part), part) for part, upto in enumerate(self._at) if upto < len(self._source.parts[part])]
            if not heads:
                break
            part = rng.choice([part for key, part in heads if key == min(heads)[0]])
            events.append(self._source.parts[part][self._at[part]])
            self._at[part] += 1
        self._extent = tuple(events)
        return events

    def _key(self, part: int) -> int:
        """Return what decides which partition goes on: the key where there is one, else nothing."""
        return self._source.world.scenario.keys.get(self._source.parts[part][self._at[part]]) or 0

    def replay(self, extent: tuple[int, ...]) -> Sequence[int]:
        """Read again what an earlier life has read."""
        for token in extent:
            part, index = divmod(token - self._source.at * OF_SOURCE, OF_PARTITION)
            if index != self._at[part]:
                self._source.world.broken(f"event {token} is to be read again where partition {part} is at {self._at[part]}")
            self._at[part] += 1
        self._extent = extent
        return list(extent)

    def extent(self) -> tuple[int, ...]:
        """Return what the last read gave."""
        return self._extent

    def position(self) -> tuple[int, ...]:
        """Return the place behind the last read."""
        return tuple(self._at)

    def acknowledge(self, position: tuple[int, ...]) -> None:
        """Let go of what is committed."""
        self._source.gone = list(position)

    def close(self) -> None:
        """Do nothing."""


class Intake:
    """One source in one life: read ahead a little, given when it is asked for, as a feed and the hub do."""

    def __init__(self, life: Life, at: int, place: SourcePosition | None, reads: Sequence[Any], fails_after: int | None) -> None:
        self._life, self._at = life, at
        self._script = life.scenario.sources[at]
        subject: Any = life.world.sources[at] if self._script.kind != "plain" else self._script.tokens(at)[0]
        if place is not None:
            subject = ResumedSource(subject, f"source {at}", place, reads)
        self._marking = Marking.of(subject)
        self._last_key: Any = getattr(subject, "last_key", None)
        self._reader: Any = open_reader(subject)
        self._waiting: deque[tuple[list[int], ReadMark | None]] = deque()
        self._pulls: deque[int] = deque()
        self._fails_after = fails_after
        self._count = 0
        self._exhausted = False
        self._error: str | None = None
        self._ended = False
        self._free_at = 0.0

    @property
    def _rng(self) -> Random:
        return self._life.rng

    def pull(self, count: int) -> None:
        """Answer later with about as much as was asked for."""
        self._pulls.append(count)
        self._later(self._reply)

    def _later(self, what: Any) -> None:
        pause = self._script.delay_s * self._rng.random() + (1.0 if self._rng.random() < self._script.silent / 4 else 0.0)
        self._free_at = max(self._free_at, self._life.now + pause)
        self._life.at(self._free_at, what)

    def _reply(self) -> None:
        if self._ended or not self._pulls:
            return
        count = self._pulls[0]
        for _ in range(self._rng.choice((1, 1, 3))):
            self._read(count)
        if not self._waiting and not self._exhausted:
            self._later(self._reply)
            return
        self._pulls.popleft()
        given = self._give(count)
        if self._exhausted and not self._waiting and (not given or self._rng.random() < 0.7):
            self._end()

    def _read(self, count: int) -> None:
        if self._exhausted:
            return
        if self._fails_after is not None and self._count >= self._fails_after:
            self._exhausted, self._error = True, "broken"
            return
        limit = self._rng.randint(1, max(1, count))
        events = self._read_one(limit) if hasattr(self._reader, "iterator") else self._reader.read(limit, _BYTES)
        if events is None:
            self._exhausted = True
        elif events:
            self._count += len(events)
            mark = self._marking.mark(self._reader, len(events)) if self._marking.positions else None
            self._waiting.append((list(events), mark))

    def _read_one(self, limit: int) -> list[int] | None:
        """Read an iterable of a run without checkpoints."""
        events = [event for _, event in zip(range(limit), self._reader.iterator, strict=False)]
        return events or None

    def _give(self, most: int) -> bool:
        """Return the next whole reads, at least one; gives whether there was one."""
        events: list[int] = []
        marks = []
        while self._waiting and (not events or len(events) + len(self._waiting[0][0]) <= most):
            more, mark = self._waiting.popleft()
            events += more
            marks += [] if mark is None else [mark]
        if not events:
            return False
        if marks and not self._marking.logged:
            marks = [ReadMark(len(events), marks[-1].position)]
        core = self._life.core
        if core.sequencer.merges:
            core.record_chunk(self._at, Chunk(len(events), items=events, keys=self._keys(events), marks=marks))
        else:
            core.record_chunk(self._at, Chunk(len(events), events, len(events) * self._script.event_bytes, marks=marks))
        return True

    def _keys(self, events: list[int]) -> list[Any] | None:
        if not self._life.scenario.keys:
            return None
        keys = []
        for event in events:
            self._last_key = check_key(self._life.scenario.keys[event], self._last_key, f"source {self._at}", event)
            self._life.laws.same(f"the key of event {event}", self._last_key, self._life.scenario.key_of(event))
            keys.append(self._last_key)
        return keys

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        core = self._life.core
        if self._error is None and not core.source_credit.stopped and core.sequencer.lacks(self._at):
            self._life.laws.broken(f"source {self._at} has ended, and more of it was numbered before")
        core.record_source_end(self._at, self._error)

    def stop(self) -> bool:
        """Return what was read ahead, and end; at once where the source is the caller's own, which is then said."""
        if self._life.scenario.wiring.remote[self._at]:
            self._later(self._stop)
            return False
        self._stop()
        return True

    def _stop(self) -> None:
        if not self._ended:
            self._read(self._rng.choice((1, 9)))
            self._give(1 << 30)
            self._end()

    def acknowledge(self, position: Any) -> None:
        """Pass on what is committed, where the source wants to hear of it."""
        if self._marking.listens:
            self._reader.acknowledge(position)
