"""The thread that keeps answers: one transaction for all that came in during the last one.

Decides the order: answers become durable as they were given, what is to be recalled or deleted has its place among them.
Nothing waits for it but what is told by `done`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from ...nodes.ordering.kept_answers import KeptAnswer
from .kept_store import SYNC_S, KeptGroup, KeptStore

#: A group to keep, and a function to call then.
_Keep: TypeAlias = "tuple[KeptGroup, Callable[[], None]]"
#: The most groups in one transaction.
_MOST_GROUPS = 4096


class _Other(Struct, frozen=True):
    """Something to be done in its place between two transactions."""

    work: Callable[[], None]


class Keeper:
    """Writes and reads the kept answers of one run. `fail` is called, in its thread, with the error that ended it."""

    def __init__(self, store: KeptStore, fail: Callable[[BaseException], None]) -> None:
        self._store = store
        self._fail = fail
        self._queue: queue.SimpleQueue[_Keep | _Other | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sluiceway-keeper", daemon=True)

    @property
    def is_filling(self) -> bool:
        """Whether a checkpoint should make room."""
        return self._store.is_filling

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def keep(self, group: KeptGroup, done: Callable[[], None]) -> None:
        """Keep a group; `done` is called when it, and all before it, is durable."""
        self._queue.put((group, done))

    def keep_now(self, group: KeptGroup) -> bool:
        """Keep a group in the calling thread, if that is quick; return whether it is durable.

        Only for a caller that knows of every group given before that it is durable.
        """
        if not self._store.is_quick(group):
            return False
        waited = self._store.waits_for_sync
        self._store.write([group], now=True)
        if not waited:
            self._queue.put(_Other(_nothing))  # so that the thread syncs it in time
        return True

    def recall(self, node: str, lo: int, hi: int, done: Callable[[list[KeptAnswer]], None]) -> None:
        """Read answers of a node from number `lo` on, at most up to `hi`; `done` is called with the first of them."""
        self._queue.put(_Other(lambda: done(self._store.read(node, lo, hi))))

    def trim(self, n: int) -> None:
        """Delete the answers below `n`."""
        self._queue.put(_Other(lambda: self._store.trim(n)))

    def close(self) -> None:
        """Keep all that was given, and end the thread."""
        if self._thread.ident is not None:
            self._queue.put(None)
            self._thread.join()

    # -- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            given = self._next()
            while given is not None:
                if isinstance(given, _Other):
                    given.work()
                    given = self._next()
                else:
                    given = self._keep_all(given)
            if self._store.waits_for_sync:
                self._store.sync()
        except BaseException as error:
            self._fail(error)

    def _keep_all(self, first: _Keep) -> _Keep | _Other | None:
        """Keep what was given and all that came since; return what comes next."""
        groups = [first]
        following: _Keep | _Other | None = None
        waits = False
        while len(groups) < _MOST_GROUPS:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                waits = True
                break
            if not isinstance(following, tuple):
                break
            groups.append(following)
            following = None
            waits = len(groups) == _MOST_GROUPS
        self._store.write([group for group, _ in groups])
        for _, done in groups:
            done()
        return self._next() if waits else following

    def _next(self) -> _Keep | _Other | None:
        """Return what is to be done next; sync what was written where nothing comes for a while."""
        if self._store.waits_for_sync:
            try:
                return self._queue.get(timeout=SYNC_S)
            except queue.Empty:
                self._store.sync()
        return self._queue.get()


def _nothing() -> None:
    return
