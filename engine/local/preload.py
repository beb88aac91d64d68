"""Which modules the zygote of a run imports once, so that no child has to, nor its successor.

Decides that these are modules of sluiceway and of Python itself alone: others may start threads or open connections
when they are imported, so only the workers that use them import them.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from ...nodes.handlers import PerWorker
from ..plan.plan import Plan

_OWN = __name__.partition(".")[0]
#: Modules that do something visible or audible when imported.
_NEVER = frozenset({"__main__", "antigravity", "idlelib", "this", "tkinter", "turtle", "turtledemo"})


def modules_of(plan: Plan, *, paused: bool) -> list[str]:
    """Return the names of the modules that the processes of a plan need; a paused run starts no sources."""
    modules = []
    if not paused and any(source.remote for source in plan.sources):
        modules.append(f"{_OWN}.engine.local.children.source_process")
    if any(pool.program.needs_loop for pool in plan.wiring.pools):
        modules.append(f"{_OWN}.engine.local.children.async_worker")
    homes = {_home(subject) for pool in plan.pools for subject in pool.handlers}
    return [*modules, *sorted(home for home in homes if _is_harmless(home))]


def _home(subject: Any) -> str:
    """Return the name of the module that a handler comes from, an empty text if it has none."""
    while isinstance(subject, (PerWorker, partial)):
        subject = subject.cls if isinstance(subject, PerWorker) else subject.func
    home = getattr(subject, "__module__", None)
    return home if isinstance(home, str) else ""


def _is_harmless(home: str) -> bool:
    top = home.partition(".")[0]
    return home in sys.modules and top not in _NEVER and (top == _OWN or top in sys.stdlib_module_names)
