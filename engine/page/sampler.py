"""Looks at a run about once a second, in a thread of its own, and keeps what it saw.

Decides how often: at least four times within the limit of a stall. Requests read the last look and never wait for the run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Protocol

import psutil
from msgspec import Struct

from ..plan.plan import Plan
from ..reporting.live import LiveRun
from .health import Health, HealthWatch
from .history import History, Point, Rates

_LOG = logging.getLogger("sluiceway")
#: The pauses between two looks, in seconds.
_LONGEST_S = 1.0
_SHORTEST_S = 0.05


class Observed(Protocol):
    """A run that can be looked at, from any thread."""

    @property
    def name(self) -> str:
        """The name of the graph."""

    @property
    def plan(self) -> Plan:
        """The plan that is run."""

    def live(self) -> LiveRun:
        """Return what the run is doing now."""


class Snapshot(Struct, frozen=True):
    """One look at a run, and what follows from it and the looks before."""

    live: LiveRun
    health: Health
    rates: Rates
    points: tuple[Point, ...]
    memory: Mapping[int, int]  #: resident bytes of the workers of this machine, by pid
    last: bool = False  #: whether no other follows: the run is over


class Sampler:
    """Takes the samples of one run from its construction until `close`."""

    def __init__(self, run: Observed, stall_s: float) -> None:
        self._run = run
        self._health = HealthWatch(stall_s, monotonic())
        self._history = History()
        self._pause_s = max(_SHORTEST_S, min(_LONGEST_S, stall_s / 4))
        self._closed = threading.Event()
        self._listeners: set[Callable[[], object]] = set()
        self.latest = self._take()
        self._thread = threading.Thread(target=self._sample, name="sluiceway-page-sampler", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and take the last sample in this one: that of the ended run."""
        self._closed.set()
        self._thread.join()
        self.latest = self._take(last=True)
        self._notify()

    @contextmanager
    def listening(self, notify: Callable[[], object]) -> Iterator[None]:
        """Have `notify` called, in another thread, after each snapshot."""
        self._listeners.add(notify)
        try:
            yield
        finally:
            self._listeners.discard(notify)

    def _notify(self) -> None:
        for notify in tuple(self._listeners):
            with suppress(RuntimeError):  # the loop of who listened is closed
                notify()

    def _sample(self) -> None:
        while not self._closed.wait(self._pause_s):
            try:
                self.latest = self._take()
                self._notify()
            except Exception:  # the run goes on; the page shows that it has seen nothing since
                _LOG.warning("the page of graph %r could not be brought up to date", self._run.name, exc_info=True)

    def _take(self, *, last: bool = False) -> Snapshot:
        live, now = self._run.live(), monotonic()
        health, rates = self._health.record(live, now), self._history.record(live, now)
        return Snapshot(live, health, rates, self._history.points, _memory(live), last)


def _memory(live: LiveRun) -> dict[int, int]:
    found = {}
    for worker in live.workers:
        if worker.pid:
            with suppress(psutil.Error):  # it has just exited
                found[worker.pid] = psutil.Process(worker.pid).memory_info().rss
    return found
