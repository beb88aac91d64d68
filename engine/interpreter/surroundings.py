"""What a program has done to its interpreter that a run in processes cannot live with.

Decides what is refused, by name, before anything starts.
"""

from __future__ import annotations

import sys
from typing import Any

from ...nodes.errors import GraphError

#: The least recursion limit of the calling process.
MIN_RECURSION = 100


def refuse_surroundings() -> None:
    """Raise `GraphError` where threads are replaced by green ones, or the recursion limit is too low."""
    for library in _green_libraries():
        raise GraphError(
            f"a run in processes needs the threads of the system, but {library} has replaced those of this program; run"
            " it with runner='inline', or in a program of its own that is not patched"
        )
    limit = sys.getrecursionlimit()
    if limit < MIN_RECURSION:
        raise GraphError(
            f"a run needs a recursion limit of {MIN_RECURSION} at least, but this program has set {limit}; set it higher by"
            " sys.setrecursionlimit"
        )


def _green_libraries() -> list[str]:
    """Return the libraries that have replaced threads or selectors here."""
    gevent: Any = sys.modules.get("gevent.monkey")
    eventlet: Any = sys.modules.get("eventlet.patcher")
    found = []
    if gevent is not None and any(map(gevent.is_module_patched, ("threading", "select", "selectors"))):
        found.append("gevent")
    if eventlet is not None and (eventlet.is_monkey_patched("thread") or eventlet.is_monkey_patched("select")):
        found.append("eventlet")
    return found
