"""What the calling thread has handled last before processes take over: workers handle it too, and both are compared.

Decides what is kept of it, and how a difference is told. Knows neither threads nor processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from ...nodes.events import DeadLetter
from ...nodes.program.column import Column, join
from ...nodes.program.program import Answer, Tally
from ..codec.codec import copies
from ..codec.equality import are_same
from ..delivery.delivery import Refuted
from ..sources.held_feed import HeldFeed

#: The most events of a turn of which a sample is kept.
MAX_SAMPLE = 128


class Sample:
    """The events of one turn as they were before it, and what became of them."""

    def __init__(self, start: int, events: Sequence[Any]) -> None:
        """Keep copies; raises `CodecError` for events that cannot be sent to a worker."""
        self.start = start
        self.events = copies(list(events))
        self.answers: list[_Kept] = []

    @property
    def stop(self) -> int:
        """The first number above the sample."""
        return self.start + len(self.events)

    def trim(self, stop: int) -> None:
        """Drop the events from number `stop` on: they are handled elsewhere."""
        del self.events[max(0, stop - self.start) :]

    def record(self, answer: Answer) -> None:
        """Record what the calling thread has made of numbers of the sample; raises `CodecError` as a worker would fail."""
        if self.start <= answer.start < self.stop:
            self.answers.append(_Kept(answer))


class _Kept:
    """An answer of the calling thread, as it was before anybody got it."""

    def __init__(self, answer: Answer) -> None:
        self.start, self.stop = answer.start, answer.start + answer.size
        self.columns = [column.with_events(copies(column.events)) for column in answer.exits]
        self.failures = [
            (failed.seq, failed.index, failed.node, failed.error)
            for failed in answer.failures
            if failed.on_error == "dead_letter"
        ]
        self.tallies: list[Tally] = answer.tallies
        self.skipped = sum(failed.on_error == "skip" for failed in answer.failures)


class Proof:
    """Compares what workers make of a sample with what the calling thread has made of it.

    Until that is complete, whatever the processes read is held, so that the calling thread can go on with it.
    """

    def __init__(self, sample: Sample, feed: HeldFeed) -> None:
        self.sample = sample
        self.feed = feed
        self.stop = sample.stop
        self.taken_back: list[Any] = []  #: what the processes had read behind the sample, once it is refuted

    def check(self, lo: int, hi: int, columns: Sequence[Column], letters: Sequence[DeadLetter]) -> None:
        """Compare the numbers `lo .. hi - 1`; raises `Refuted` at the first that differs."""
        mine = self._mine(lo, hi)
        if mine is None:
            self.refute("its results cannot be sent to one")
        found = {number for column, own in zip(columns, mine, strict=True) for number in _differing(column, own)}
        told = {(letter.seq, letter.index, letter.node, letter.error) for letter in letters}
        own = {failed for kept in self.sample.answers for failed in kept.failures if lo <= failed[0] < hi}
        found |= {seq for seq, *_ in told ^ own}
        if found:
            self.refute(f"what number {min(found)} gives in a worker is not what it gave here")

    def complete(self) -> None:
        """Record that all of the sample is the same: the processes keep what they read."""
        self.feed.release()
        self.sample.answers.clear()

    def refute(self, why: str) -> NoReturn:
        """Take back what the processes have read, and raise `Refuted`."""
        self.taken_back = self.feed.take_back()
        raise Refuted(why)

    def _mine(self, lo: int, hi: int) -> list[Column] | None:
        """Return what the calling thread has made of some numbers, or `None` if not all of that could be kept."""
        answers = sorted(self.sample.answers, key=lambda kept: kept.start)
        if not answers or answers[0].start > lo or sum(kept.stop - kept.start for kept in answers) < hi - answers[0].start:
            return None
        return [join(list(parts)).slice(lo, hi) for parts in zip(*(kept.columns for kept in answers), strict=True)]


def _differing(column: Column, own: Column) -> list[int]:
    """Return the number at which two columns differ first, if they do."""
    for (number, one), (other_number, other) in zip(
        zip(column.numbers(), column.events, strict=True), zip(own.numbers(), own.events, strict=True), strict=False
    ):
        if number != other_number or not are_same(one, other):
            return [min(number[0], other_number[0])]
    if len(column.events) == len(own.events):
        return []
    longer = max(column, own, key=lambda it: len(it.events))
    return [longer.number_of(min(len(column.events), len(own.events)))[0]]
