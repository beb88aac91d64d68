"""The nursery: starts, watches and ends every child process of one run, for the run's hub thread.

It asks a zygote for them and returns what happened as events. It does not know what a child does, nor whether a dead
one is replaced.
"""

from __future__ import annotations

import os
import selectors
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Self

from ....nodes.errors import SluicewayError
from . import warm
from .child_events import ChildExited, ChildRegistry, ChildStarted, Event, SpawnFailed, ZygoteDied
from .starters import ZygoteStarter

__all__ = ["ChildExited", "ChildStarted", "Event", "Nursery", "SpawnFailed", "ZygoteDied"]

_KILL: int = getattr(signal, "SIGKILL", signal.SIGTERM)
_KILL_LIMIT_S = 2.0


class Nursery:
    """Owns the child processes of one run. All calls come from one thread; only `shutdown` and `close` block.

    `entry` ("module:function") is called as `entry(child, argument)` in each child; `preload` names modules that are
    imported once, before the first child. `start_limit_s` is how long the zygote's imports may take, `seed` that of the
    hashes of all children. The thread that calls `start` must live as long as the children.
    """

    def __init__(
        self,
        *,
        entry: str,
        preload: Sequence[str] = (),
        executable: str | None = None,
        start_limit_s: float = 30.0,
        seed: str | None = None,
    ) -> None:
        self._entry = entry
        self._preload = tuple(preload)
        self._executable = executable if executable is not None else sys.executable
        self._start_limit_s = start_limit_s
        self._seed = seed  #: a zygote that replaces a dead one gets it too
        self._owner = 0
        self._surroundings: warm.Surroundings | None = None
        self._registry = ChildRegistry()
        self._starter: ZygoteStarter | None = None

    @property
    def alive(self) -> Mapping[str, int]:
        """The pids of the children that have started and not ended, by name, as of the last `events`."""
        return MappingProxyType(self._registry.alive)

    @property
    def requested(self) -> frozenset[str]:
        """The names of the children that are requested and have not started, as of the last `events`."""
        return frozenset(self._registry.requested)

    def start(self) -> None:
        """Start the zygote; children may be requested at once. A failure of its imports is reported as `ZygoteDied`.

        May be called again after `ZygoteDied` or `shutdown`. Raises `SluicewayError` when the interpreter cannot be
        started, `RuntimeError` when the nursery runs already.
        """
        if self._starter is not None:
            raise RuntimeError("cannot start the nursery: it runs already; shut it down first")
        self._owner = os.getpid()
        if not self._executable:
            raise SluicewayError(
                "cannot start child processes: sys.executable is empty, as in an embedded interpreter; set it to the path of"
                " this Python, or run with runner='inline'"
            )
        self._surroundings = warm.surroundings(self._entry, self._executable, self._seed)
        self._starter = warm.find(self._surroundings)
        if self._starter is not None:
            self._starter.serve(self._registry, self._preload)
            return
        try:
            self._starter = ZygoteStarter(
                self._registry, self._entry, self._preload, self._executable, self._start_limit_s, self._seed
            )
        except OSError as error:
            raise SluicewayError(
                f"cannot start child processes with the interpreter {self._executable!r}: {error}; "
                f"sys.executable must name this Python"
            ) from error

    def fileno(self) -> int:
        """Return the descriptor that is readable when there are events; a new one after each `start`."""
        return self._started().fileno()

    def spawn(self, child: str, argument: bytes) -> None:
        """Request a child; `ChildStarted` or `SpawnFailed` follows. A name can be used again after its `ChildExited`.

        Raises `ValueError` when a child of this name is requested or alive.
        """
        if child in self._registry.names:
            raise ValueError(f"cannot start child {child!r}: it is there already; wait for its exit first")
        starter = self._started()
        self._registry.requested[child] = None
        starter.spawn(child, argument)

    def kill(self, child: str, number: int = _KILL) -> None:
        """Send a signal to the child and all of its process group; no effect if it has exited."""
        self._started().kill(child, number)

    def events(self) -> list[Event]:
        """Return what happened since the last call, in order; nothing if the nursery is not started.

        Until a child has started, call it about once a second even if nothing is readable: this is what enforces
        `start_limit_s`.
        """
        if self._starter is None:
            return []
        events = self._starter.events()
        if any(isinstance(event, ZygoteDied) for event in events):
            self._starter = None
        return events

    def shutdown(self, grace_s: float = 1.0) -> dict[str, str]:
        """End every child and the zygote: SIGTERM, after `grace_s` seconds SIGKILL. Blocks at most `grace_s` + 4 s.

        Returns how each child ended: "ended" (by itself), "terminated" or "killed".
        """
        took = dict.fromkeys(self._registry.names, "killed")
        if self._starter is None or os.getpid() != self._owner:  # a fork of the caller does not own the children
            return {}
        try:
            if grace_s > 0:
                self._end_all(signal.SIGTERM, grace_s, took)
            self._end_all(_KILL, _KILL_LIMIT_S, took)
        finally:
            starter, self._starter = self._starter, None
            registry, self._registry = self._registry, ChildRegistry()
            if starter is not None:
                warm.park(None if registry.names else self._surroundings, starter)
        return took

    def close(self) -> None:
        """Kill every child and end the zygote; no effect if that has been done."""
        self.shutdown(0.0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self) -> ZygoteStarter:
        if self._starter is None:
            raise RuntimeError("the nursery is not started, or its zygote has died; call start() first")
        return self._starter

    def _end_all(self, number: int, limit_s: float, took: dict[str, str]) -> None:
        """Signal every child and wait until all have ended or the time is over; `took` receives how each one ended."""
        for child in self._registry.names:
            self.kill(child, number)
        deadline = time.monotonic() + limit_s
        while self._registry.names and (left := deadline - time.monotonic()) > 0:
            with selectors.DefaultSelector() as selector:
                selector.register(self.fileno(), selectors.EVENT_READ)
                selector.select(left)
            for event in self.events():
                if isinstance(event, ChildExited):
                    took[event.child] = {-signal.SIGTERM: "terminated", -_KILL: "killed"}.get(event.code, "ended")
