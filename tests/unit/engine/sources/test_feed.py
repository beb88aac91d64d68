"""Feeds: an event is there for the reader as soon as the source has given it, however quick the source was before."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from sluiceway.engine.sources.feed import POLL_S, Feed

SMALL = 28.0


class FeedReader:
    """Takes from a feed as the hub does: asks, waits to be woken, and looks again while the feed cannot wake it."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.woken = threading.Event()
        self.events: list[int] = []
        self.ended = False
        feed.start(self.woken.set)

    def until(self, count: int) -> None:
        """Take until there are so many events; fails after half a minute."""
        deadline = time.monotonic() + 30
        while len(self.events) < count and not self.ended:
            self.woken.clear()
            taken = self.feed.read(4096, SMALL)
            if taken is None:
                assert time.monotonic() < deadline, f"{len(self.events)} of {count} events have come"
                self.woken.wait(POLL_S if self.feed.bulk else 30)
                continue
            self.events += taken.events
            self.ended = taken.ended


@pytest.mark.parametrize("quick", [0, 1, 3, 100, 5000, 40_001])
def test_every_event_is_seen_before_the_next_one_is_given(quick: int) -> None:
    """The source goes on only when what it gave was seen: it would wait for ever for a reader who waits for it."""
    seen = threading.Semaphore(0)

    def source() -> Iterator[int]:
        yield from range(quick)
        for n in range(quick, quick + 20):
            yield n
            assert seen.acquire(timeout=60)

    reader = FeedReader(Feed(source()))
    reader.until(quick)
    for n in range(quick, quick + 20):
        reader.until(n + 1)
        seen.release()
    reader.until(quick + 21)
    assert reader.events == list(range(quick + 20))
    assert reader.ended


def test_a_source_that_fails_in_a_flood_gives_all_before() -> None:
    def source() -> Iterator[int]:
        yield from range(30_000)
        raise OSError("gone")

    reader = FeedReader(Feed(source()))
    reader.until(30_001)
    assert reader.events == list(range(30_000))
    assert reader.feed._error is not None
    assert str(reader.feed._error) == "gone"


def test_a_flood_that_stops_for_good_ends_at_a_stop() -> None:
    hold = threading.Event()

    def source() -> Iterator[int]:
        yield from range(20_000)
        hold.wait(60)
        yield 20_000

    reader = FeedReader(Feed(source()))
    reader.until(20_000)
    last = reader.feed.stop()
    hold.set()
    assert (last.events, last.ended) == ([], True)
