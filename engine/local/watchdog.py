"""What the hub looks at from time to time: calls past their time limit, and a head of the line that does not move.

Decides whom to kill for a time limit and what a stall warning says; killing and logging is the hub's.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...nodes.ordering.blame import LastSeen, Phase
from ...nodes.ordering.stall import StallWatch
from ...nodes.ordering.worker_name import WorkerName
from ...nodes.program.kinds import NodeKind
from ...nodes.program.program import Step
from ..core.core import Core
from .transport.status_page import StatusPage, StatusReading

#: How long a worker may take to write its stack down, in seconds.
STACK_S = 0.5


@dataclass(frozen=True, slots=True)
class Overrun:
    """A worker that is past a time limit: on one known event, or (`event` false) on a list of a map_batches."""

    worker: str
    seen: LastSeen
    limit_s: float
    event: bool


def steps_of(core: Core, worker: str) -> tuple[Step, ...]:
    """Give the steps that a worker runs."""
    return core.wiring.pools[WorkerName.parse(worker).pool].program.steps


def overruns(core: Core, pages: Mapping[str, StatusPage], killed: Iterable[str], now: float) -> list[Overrun]:
    """Give the workers whose current call has a time limit and is past it. Awaited calls are cancelled in the worker."""
    found = []
    gone = set(killed)
    for worker, page in pages.items():
        if worker in gone:
            continue
        sight = page.read()
        if sight.seen.phase not in (Phase.EVENT, Phase.BATCH):
            continue
        step = steps_of(core, worker)[sight.seen.step]
        event = sight.seen.phase is Phase.EVENT
        if step.options.timeout_s is None or step.is_async or (not event and step.kind is not NodeKind.MAP_BATCHES):
            continue
        if now - sight.since_s > step.options.timeout_s:
            found.append(Overrun(worker, sight.seen, step.options.timeout_s, event))
    return found


def has_limits(core: Core) -> bool:
    """Whether any call must be watched for a time limit from outside."""
    return any(
        step.options.timeout_s is not None and not step.is_async for pool in core.wiring.pools for step in pool.program.steps
    )


class Stalls:
    """Finds out why the head of the line does not move, and words the warning."""

    def __init__(self, after_s: float, folder: Path, now: float) -> None:
        self._watch = StallWatch(after_s, now)
        self._folder = folder
        self._asked: tuple[str, int, float, float] | None = None

    def look(self, core: Core, pages: Mapping[str, StatusPage], pids: Mapping[str, int], now: float) -> str | None:
        """Give a warning when one is due. A worker's stack is asked for first, and told one look later."""
        if self._asked is not None:
            worker, number, stood, at = self._asked
            if now - at < STACK_S:
                return None
            self._asked = None
            return self._told(core, worker, number, stood, pages.get(worker), pids.get(worker))
        mark = (core.frontier, core.consumed)
        stood_s = self._watch.look(mark, core.in_flight > 0, now)
        if stood_s is None:
            return None
        if core.frontier > core.consumed:
            return (
                f"nothing has moved for {stood_s:.0f} s: number {core.consumed} is released and waits for a sink or"
                " the consumer in the calling process"
            )
        number = core.frontier
        holder = core.holder_of(number)
        if holder is None or holder not in pids:
            return f"nothing has moved for {stood_s:.0f} s: number {number} is in no worker's hands, one is being started"
        _ask_stack(pids[holder])
        self._asked = (holder, number, stood_s, now)
        return None

    def _told(
        self, core: Core, worker: str, number: int, stood: float, page: StatusPage | None, pid: int | None
    ) -> str | None:
        if page is None or core.frontier > number:
            return None
        sight: StatusReading = page.read()
        node = steps_of(core, worker)[sight.seen.step].node
        path = self._folder / f"{worker}.stack"
        stack = ""
        with contextlib.suppress(OSError):  # no stack where the worker has had no chance to write one
            stack = _without_engine(path.read_text())
            os.truncate(path, 0)
        text = (
            f"nothing has moved for {stood:.0f} s: number {number} is with worker {worker} (process {pid}), which is in"
            f" node {node!r} on {_place(sight.seen)}"
        )
        return text + ("; its stack:\n" + stack.rstrip() if stack else "; it gave no stack")


def _without_engine(stack: str) -> str:
    """Drop the frames below the handler's: they are the same in every worker."""
    package = Path(__file__).parents[2]
    # Not the whole package: handlers of its ready-made graphs are shown, and what else lies in a checkout.
    ours = [f'"{package / folder}{os.sep}' for folder in ("engine", "nodes")] + ['File "<string>"']
    kept = [line for line in stack.splitlines() if not any(frame in line for frame in ours)]
    return "\n".join(kept)


def _place(seen: LastSeen) -> str:
    """Say which number a worker is on, as far as it is known."""
    if seen.phase is Phase.BATCH:
        return f"a batch from number {seen.seq} on"
    return f"number {seen.seq}"


def _ask_stack(pid: int) -> None:
    number: Any = getattr(signal, "SIGUSR1", None)
    if number is not None:
        with contextlib.suppress(ProcessLookupError):  # it has just died; its exit is on the way
            os.kill(pid, number)
