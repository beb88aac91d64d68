"""Groups become durable in their order, whichever thread has written them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import sluiceway.engine.hub.keeping_link as links
from sluiceway.engine.core.effects import Keep


class FakeKeeper:
    """Is quick when it is told to be; what it is given otherwise waits until it is told to go on."""

    def __init__(self, store: Any, fail: Any) -> None:
        self.quick = False
        self.waiting: list[Callable[[], None]] = []

    def keep_now(self, group: Any) -> bool:
        return self.quick

    def keep(self, group: Any, done: Callable[[], None]) -> None:
        self.waiting.append(done)


def test_a_quick_group_waits_for_those_before_it(monkeypatch: Any) -> None:
    durable: list[int] = []
    commands: list[Callable[[], None]] = []
    core: Any = SimpleNamespace(wiring=SimpleNamespace(pools=[SimpleNamespace(durable="a")]), record_durable=durable.append)
    monkeypatch.setattr(links, "Keeper", FakeKeeper)
    link = links.KeepingLink(None, core, commands.append, lambda error: None)  # type: ignore[arg-type]
    keeper: Any = link._keeper
    assert not link.do(Keep(1, (), None, ()))
    keeper.quick = True
    assert not link.do(Keep(2, (), None, ())), "the first is with the thread"
    keeper.waiting.pop(0)()
    assert not link.do(Keep(3, (), None, ())), "the thread has said so, and the hub has not heard it"
    keeper.waiting.pop(0)()
    keeper.waiting.pop(0)()
    for command in commands:
        command()
    assert link.do(Keep(4, (), None, ()))
    assert durable == [1, 2, 3, 4]
