"""What a program has done to its interpreter is refused by name."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import sluiceway as sw
from sluiceway.engine.interpreter.surroundings import refuse_surroundings


def test_green_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `gevent.monkey` and `eventlet.patcher` say it themselves."""
    gevent, eventlet = ModuleType("gevent.monkey"), ModuleType("eventlet.patcher")
    patched: set[str] = set()
    gevent.is_module_patched = patched.__contains__  # type: ignore[attr-defined]
    eventlet.is_monkey_patched = patched.__contains__  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gevent.monkey", gevent)
    refuse_surroundings()
    patched.add("threading")
    with pytest.raises(sw.GraphError, match="gevent has replaced those of this program"):
        list(sw.imap(abs, [1], workers=1))
    with pytest.raises(sw.GraphError, match="gevent"):
        list(sw.imap(abs, [1]))
    assert list(sw.imap(abs, [1], runner="inline")) == [1]
    monkeypatch.delitem(sys.modules, "gevent.monkey")
    monkeypatch.setitem(sys.modules, "eventlet.patcher", eventlet)
    refuse_surroundings()
    patched.add("thread")
    with pytest.raises(sw.GraphError, match="eventlet"):
        refuse_surroundings()
