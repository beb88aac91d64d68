"""A run in miniature that dies at a chosen step: reads, logs, writes, commits, stores, acknowledges, as a run does.

It drives a source's readers and a sink by hand, so that a connector is seen at every point at which a process can die.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from sluiceway.nodes.sinks import Batch


class Crash(Exception):
    """The process dies here."""


class MiniRun:
    """What is durable of a run, and the run itself, from one death to the next."""

    def __init__(self, source: Any, make_sink: Callable[[], Any], work: Callable[[Any], Any]) -> None:
        self._source, self._make_sink, self._work = source, make_sink, work
        self._saved: bytes | None = None
        self._log: list[bytes] = []
        self._steps_left = 0
        self.reader: Any = None
        self.sink: Any = None

    def live(self, steps: int, limit: int, commit_each: int) -> bool:
        """Run from the last checkpoint for so many steps, then die; gives whether it ended before."""
        self._steps_left = steps
        try:
            self._run(limit, commit_each)
        except Crash:
            return False
        return True

    def _step(self) -> None:
        self._steps_left -= 1
        if self._steps_left < 0:
            raise Crash

    def _run(self, limit: int, commit_each: int) -> None:
        saved = None if self._saved is None else pickle.loads(self._saved)
        self.sink = self._make_sink()
        if saved is None:
            self.sink.open()
            held, next_ = -1, 0
            self._save(-1, None, self.sink.commit(-1))
        else:
            held, next_ = self.sink.recover(saved["token"]), saved["n"] + 1
        self._step()
        self.reader = self._source.reader(None if saved is None else saved["position"])
        for logged in list(self._log):
            next_ = self._write(self.reader.replay(pickle.loads(logged)), next_, held)
            self._step()
        reads = 0
        while (events := self.reader.read(limit, 1 << 20)) is not None:
            if not events:
                continue
            self._step()
            self._log.append(pickle.dumps(self.reader.extent()))
            self._step()
            next_ = self._write(events, next_, held)
            self._step()
            reads += 1
            if reads % commit_each == 0:
                self._checkpoint(next_ - 1)
        self._checkpoint(next_ - 1)
        self.sink.close()
        self.reader.close()

    def _write(self, events: Any, next_: int, held: int) -> int:
        rows = [(self._work(event), (next_ + at, 0)) for at, event in enumerate(events)]
        rows = [row for row in rows if row[1][0] > held]
        self.sink.write(Batch([event for event, _ in rows], [number for _, number in rows]))
        return next_ + len(events)

    def _checkpoint(self, n: int) -> None:
        position, token = self.reader.position(), self.sink.commit(n)
        self._step()
        self._save(n, position, token)
        self._step()
        self.reader.acknowledge(position)
        self._step()

    def _save(self, n: int, position: Any, token: Any) -> None:
        self._saved = pickle.dumps({"n": n, "position": position, "token": token})
        self._log.clear()
