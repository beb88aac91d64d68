"""The order log: whatever the sources do the second time, what was numbered is numbered the same again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from sluiceway.nodes.ordering.order_log import OrderLog, Read, Run
from sluiceway.nodes.ordering.sequencer import Chunk, Sequencer
from sluiceway.nodes.ordering.source_positions import ReadMark, SourcePosition

Event = tuple[int, int]


@dataclass
class Reads:
    """A source whose events come in reads of any size; what was read before can be read again by its extent."""

    source: int
    events: int
    at: int = 0
    again: list[Read] = field(default_factory=list)

    def begin(self, place: SourcePosition, log: list[Read]) -> int:
        """Go on from a place; gives how many events of the first read are to be left out."""
        assert isinstance(place.position, int | None)
        self.at = place.position or 0
        assert self.at == place.start
        self.again = [read for read in log if read.source == self.source]
        return place.skip

    def read(self, chance: random.Random, skip: int) -> tuple[list[Event], ReadMark] | None:
        if self.again:
            logged = self.again.pop(0)
            first, size = logged.extent  # type: ignore[misc]
            assert first == self.at
        else:
            first, size = self.at, min(chance.randint(1, 9) + skip, self.events - self.at)
            if not size:
                return None
        self.at += size
        given = [(self.source, at) for at in range(first, first + size)][skip:]
        return given, ReadMark(len(given), self.at, (first, size))


@dataclass
class Kept:
    """What a store holds."""

    positions: tuple[SourcePosition, ...]
    n: int = 0
    turn: int = 0
    runs: list[Run] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)

    def log(self, sequencer: Sequencer) -> None:
        entries = sequencer.take_log()
        if entries is not None:
            self.runs += entries.runs
            self.reads += entries.reads

    def cut(self, sequencer: Sequencer) -> None:
        self.n, self.positions, self.turn = sequencer.next, sequencer.positions, sequencer.turn
        self.runs = [run for run in self.runs if run.number + run.count > self.n]
        starts = [place.start for place in self.positions]
        self.reads = [read for read in self.reads if read.start + read.count > starts[read.source]]


def life(chance: random.Random, kept: Kept, sources: int, events: int, order: str, known: list[Event]) -> bool:
    """One life of a run, from what is kept on; `known` are the released events by number. Gives whether it ended."""
    log = OrderLog(kept.n, kept.runs, kept.reads)
    sequencer = Sequencer(sources, order, None, log)  # type: ignore[arg-type]
    readers = [Reads(source, events) for source in range(sources)]
    sequencer.resume(kept.n, kept.positions, kept.turn)
    skips = [reader.begin(place, kept.reads) for reader, place in zip(readers, kept.positions, strict=True)]
    numbered: list[Event] = []
    number = kept.n
    death = chance.randint(5, 60)
    for _ in range(death):
        if sequencer.finished:
            break
        source = chance.randrange(sources)
        if not sequencer.has_ended(source) and chance.random() < 0.8:
            read = readers[source].read(chance, skips[source])
            skips[source] = 0
            if read is None:
                assert not sequencer.lacks(source)
                sequencer.record_end(source)
            else:
                given, mark = read
                sequencer.offer(source, Chunk(len(given), items=list(given), marks=[mark]))
        chunk = sequencer.number_next(chance.randint(1, 12))
        if chunk is not None:
            assert chunk.items is not None
            numbered += chunk.items
        if chance.random() < 0.3:  # released: durable first, and then seen by everyone
            kept.log(sequencer)
            for event in numbered:
                if number < len(known):
                    assert event == known[number]
                else:
                    known.append(event)
                number += 1
            numbered.clear()
            if chance.random() < 0.5 and number == sequencer.next:
                kept.cut(sequencer)
    return sequencer.finished and number == sequencer.next


@pytest.mark.parametrize("order", ["arrival", "round_robin"])
@pytest.mark.parametrize("seed", range(150))
def test_what_was_released_gets_the_same_numbers_again(order: str, seed: int) -> None:
    chance = random.Random(seed)
    sources, events = chance.randint(1, 4), chance.choice([0, 5, 60])
    kept, known = Kept(positions=(SourcePosition(),) * sources), []
    lives = 0
    while not life(chance, kept, sources, events, order, known):
        lives += 1
        assert lives < 500
    for source in range(sources):
        assert [at for owner, at in known if owner == source] == list(range(events))


def test_a_source_that_gives_less_than_was_numbered_is_found_out() -> None:
    log = OrderLog(4, [Run(2, 0, 5), Run(7, 1, 3)])
    sequencer = Sequencer(2, "arrival", None, log)
    sequencer.resume(4, (SourcePosition(), SourcePosition()), 0)
    sequencer.offer(0, Chunk(2, items=["a", "b"]))
    assert sequencer.lacks(0)
    sequencer.offer(0, Chunk(1, items=["c"]))
    assert not sequencer.lacks(0)
    assert sequencer.lacks(1)


def test_a_stop_in_the_middle_of_what_is_repeated_numbers_nothing_more() -> None:
    log = OrderLog(0, [Run(0, 0, 2), Run(2, 1, 1)])
    sequencer = Sequencer(2, "arrival", None, log)
    sequencer.offer(1, Chunk(1, items=["later"]))
    sequencer.offer(0, Chunk(1, items=["first"]))
    for source in (0, 1):
        sequencer.record_end(source)
    first = sequencer.number_next(9)
    assert first is not None
    assert first.items == ["first"]
    assert sequencer.number_next(9) is None
    assert sequencer.finished
