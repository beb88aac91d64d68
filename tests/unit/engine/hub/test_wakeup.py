"""How other threads interrupt the hub's wait."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest
from sluiceway.engine.hub.wakeup import Wakeup


@pytest.fixture
def wakeup() -> Iterator[Wakeup]:
    made = Wakeup()
    yield made
    made.close()


def is_readable(wakeup: Wakeup) -> bool:
    return bool(select.select([wakeup.descriptor], [], [], 0)[0])


def test_a_notification_after_prepare_ends_the_wait(wakeup: Wakeup) -> None:
    wakeup.prepare()
    assert not is_readable(wakeup)
    wakeup.notify()
    assert is_readable(wakeup)
    wakeup.clear(readable=True)
    assert not is_readable(wakeup)


def test_a_flood_of_notifications_is_one(wakeup: Wakeup, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    monkeypatch.setattr("sluiceway.engine.hub.wakeup.os.write", lambda _, data: writes.append(data))
    wakeup.prepare()
    for _ in range(100):
        wakeup.notify()
    assert writes == [b"!"]


def test_whoever_is_awake_is_not_notified(wakeup: Wakeup) -> None:
    wakeup.prepare()
    wakeup.clear(readable=False)
    wakeup.notify()
    assert not is_readable(wakeup)


def test_a_closed_wakeup_is_not_written_to() -> None:
    wakeup = Wakeup()
    wakeup.prepare()
    wakeup.close()
    wakeup.notify()
