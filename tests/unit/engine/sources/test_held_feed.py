"""A feed that can be had back: nothing of it is lost, and it is not ended, until it is released."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sluiceway.engine.sources.feed import Feed, make_feed
from sluiceway.engine.sources.held_feed import HeldFeed
from sluiceway.engine.sources.slice_feed import SliceFeed


def feed_of(make: Any) -> tuple[Feed | SliceFeed, threading.Event]:
    feed, came = make_feed(make(range(10)), key=None, name="numbers"), threading.Event()
    feed.start(came.set)
    return feed, came


def read(feed: Any, came: threading.Event, count: int) -> list[Any]:
    events: list[Any] = []
    while len(events) < count:
        taken = feed.read(count - len(events), 0.0)
        if taken is None:
            came.wait(0.01)
            came.clear()
            continue
        events += taken.events
        if taken.ended:
            break
    return events


@pytest.mark.parametrize("make", [iter, list])
def test_what_was_read_comes_back_without_what_stood_before(make: Any) -> None:
    feed, came = feed_of(make)
    assert read(feed, came, 2) == [0, 1]
    held = HeldFeed([-2, -1], feed)
    assert read(held, came, 5) == [-2, -1, 2, 3, 4]
    assert held.take_back() == [2, 3, 4]
    assert held.take_back() == []
    assert held.read(5, 0.0) is None
    held.stop()
    held.close()
    assert read(feed, came, 100) == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("make", [iter, list])
def test_a_stop_while_it_is_held_does_not_stop_the_feed_behind(make: Any) -> None:
    feed, came = feed_of(make)
    held = HeldFeed([-1], feed)
    assert read(held, came, 3) == [-1, 0, 1]
    rest = held.stop()
    assert rest.ended
    held.close()
    back = held.take_back()
    assert back == [0, 1, *rest.events]
    assert back + read(feed, came, 100) == list(range(10))


@pytest.mark.parametrize("make", [iter, list])
def test_once_released_it_is_the_feed_behind(make: Any) -> None:
    feed, came = feed_of(make)
    held = HeldFeed([], feed)
    assert read(held, came, 3) == [0, 1, 2]
    held.release()
    assert held.take_back() == []
    held = HeldFeed([], feed)
    held.release()
    assert held.stop().ended
    held.close()
