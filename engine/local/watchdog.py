"""Finds calls that are past their time limit, and the reason why nothing moves.

Decides which workers are to be killed for a time limit and what a stall warning says; the supervisor kills and logs.
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

#: How long a worker may take to write its stack to a file, in seconds.
STACK_S = 0.5


@dataclass(frozen=True, slots=True)
class Overrun:
    """A worker that is past a time limit: on one known event, or (`event` false) on a list of a map_batches."""

    worker: str
    seen: LastSeen
    limit_s: float
    event: bool


def steps_of(core: Core, worker: str) -> tuple[Step, ...]:
    """Return the steps that a worker runs."""
    return core.wiring.pools[WorkerName.parse(worker).pool].program.steps


def overruns(core: Core, pages: Mapping[str, StatusPage], killed: Iterable[str], now: float) -> list[Overrun]:
    """Return the workers whose current call is past its time limit. Awaited calls are cancelled by the worker itself."""
    found = []
    dying = set(killed)
    for worker, page in pages.items():
        if worker in dying:
            continue
        status = page.read()
        if status.seen.phase not in (Phase.EVENT, Phase.BATCH):
            continue
        step = steps_of(core, worker)[status.seen.step]
        event = status.seen.phase is Phase.EVENT
        if step.options.timeout_s is None or step.is_async or (not event and step.kind is not NodeKind.MAP_BATCHES):
            continue
        if now - status.since_s > step.options.timeout_s:
            found.append(Overrun(worker, status.seen, step.options.timeout_s, event))
    return found


def has_limits(core: Core) -> bool:
    """Whether any call must be watched for a time limit from outside."""
    return any(
        step.options.timeout_s is not None and not step.is_async for pool in core.wiring.pools for step in pool.program.steps
    )


class Stalls:
    """Notices that nothing moves, and says why."""

    def __init__(self, after_s: float, folder: Path, now: float) -> None:
        self._watch = StallWatch(after_s, now)
        self._folder = folder
        self._asked: tuple[str, int, float, float] | None = None

    def check(self, core: Core, pages: Mapping[str, StatusPage], pids: Mapping[str, int], now: float) -> str | None:
        """Return a warning if one is due. The stack of the worker concerned is asked for first and shown one check later."""
        if self._asked is not None:
            worker, number, asked_s, at = self._asked
            if now - at < STACK_S:
                return None
            self._asked = None
            return self._warning(core, worker, number, asked_s, pages.get(worker), pids.get(worker))
        mark = (core.frontier, core.consumed)
        stalled_s = self._watch.check(mark, core.in_flight > 0, now)
        if stalled_s is None:
            return None
        if core.frontier > core.consumed:
            return (
                f"nothing has moved for {stalled_s:.0f} s: number {core.consumed} is released and waits for a sink or"
                " the consumer in the calling process"
            )
        number = core.frontier
        holder = core.holder_of(number)
        if holder is None or holder not in pids:
            return f"nothing has moved for {stalled_s:.0f} s: number {number} is assigned to no worker, one is being started"
        _ask_stack(pids[holder])
        self._asked = (holder, number, stalled_s, now)
        return None

    def _warning(
        self, core: Core, worker: str, number: int, stalled_s: float, page: StatusPage | None, pid: int | None
    ) -> str | None:
        if page is None or core.frontier > number:
            return None
        status: StatusReading = page.read()
        node = steps_of(core, worker)[status.seen.step].node
        path = self._folder / f"{worker}.stack"
        stack = ""
        with contextlib.suppress(OSError):  # there is none if the worker had no chance to write it
            stack = _without_engine(path.read_text())
            os.truncate(path, 0)
        text = (
            f"nothing has moved for {stalled_s:.0f} s: number {number} is with worker {worker} (process {pid}), which is in"
            f" node {node!r} on {_numbers_of(status.seen)}"
        )
        return text + ("; its stack:\n" + stack.rstrip() if stack else "; it gave no stack")


def _without_engine(stack: str) -> str:
    """Return the stack without the frames below the handler's: they are the same in every worker."""
    package = Path(__file__).parents[2]
    # Not the whole package: handlers of its ready-made graphs are shown, and what else lies in a checkout.
    ours = [f'"{package / folder}{os.sep}' for folder in ("engine", "nodes")] + ['File "<string>"']
    kept = [line for line in stack.splitlines() if not any(frame in line for frame in ours)]
    return "\n".join(kept)


def _numbers_of(seen: LastSeen) -> str:
    """Return which number a worker is on, as far as it is known."""
    if seen.phase is Phase.BATCH:
        return f"a batch from number {seen.seq} on"
    return f"number {seen.seq}"


def _ask_stack(pid: int) -> None:
    number: Any = getattr(signal, "SIGUSR1", None)
    if number is not None:
        with contextlib.suppress(ProcessLookupError):  # it has just died; its exit is about to be seen
            os.kill(pid, number)
