"""Finds calls that are past their time limit, and the reason why nothing moves.

Decides what is past a time limit and what a stall warning says; the station kills and asks for stacks, the supervisor
logs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Sequence
from pathlib import Path

from msgspec import Struct

from ...nodes.dispatch.blame import LastSeen, Phase
from ...nodes.dispatch.worker_name import WorkerName
from ...nodes.ordering.stall import StallWatch
from ...nodes.program.program import Step
from ..core.core import Core
from .transport.status_page import StatusReading


class Overrun(Struct, frozen=True):
    """A worker that was killed for a time limit: on one known event, or (`event` false) on a list of a map_batches."""

    worker: str
    seen: LastSeen
    limit_s: float
    event: bool


def is_limited(step: Step) -> bool:
    """Whether the calls of a step must be watched for a time limit from outside."""
    return step.options.timeout_s is not None and not step.is_async


def steps_of(core: Core, worker: str) -> tuple[Step, ...]:
    """Return the steps that a worker runs."""
    return core.wiring.pools[WorkerName.parse(worker).pool].program.steps


def overrun(worker: str, status: StatusReading, steps: Sequence[Step], now: float) -> Overrun | None:
    """Return the overrun of a worker whose current call is past its time limit, else `None`.

    Awaited calls are cancelled by the worker itself.
    """
    seen = status.seen
    if seen.phase not in (Phase.EVENT, Phase.BATCH):
        return None
    step = steps[seen.step]
    event = seen.phase is Phase.EVENT
    if step.options.timeout_s is None or step.is_async or not (event or step.kind.traits.takes_lists):
        return None
    if now - status.since_s <= step.options.timeout_s:
        return None
    return Overrun(worker, seen, step.options.timeout_s, event)


def has_limits(core: Core) -> bool:
    """Whether any call must be watched for a time limit from outside."""
    return any(is_limited(step) for pool in core.wiring.pools for step in pool.program.steps)


class Stalls:
    """Notices that nothing moves, and says why. `ask` asks a worker for its stack; `record_stack` gets it."""

    def __init__(self, after_s: float, ask: Callable[[str], None], now: float) -> None:
        self._watch = StallWatch(after_s, now)
        self._ask = ask
        self._asked: tuple[str, int, float] | None = None

    def check(self, core: Core, alive: Container[str], now: float) -> str | None:
        """Return a warning if one is due; if it is about a worker, that is first asked for its stack."""
        if self._asked is not None and self._asked[0] in alive:
            return None
        self._asked = None
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
        if holder is None or holder not in alive:
            return f"nothing has moved for {stalled_s:.0f} s: number {number} is assigned to no worker, one is being started"
        self._asked = (holder, number, stalled_s)
        self._ask(holder)
        return None

    def record_stack(self, core: Core, worker: str, where: str, seen: LastSeen, stack: str) -> str | None:
        """Return the warning about a worker that was asked for its stack, unless it has moved; `where` it runs."""
        asked, self._asked = self._asked, None
        if asked is None or asked[0] != worker or core.frontier > asked[1]:
            return None
        node = steps_of(core, worker)[seen.step].node
        text = (
            f"nothing has moved for {asked[2]:.0f} s: number {asked[1]} is with worker {worker} ({where}), which is in"
            f" node {node!r} on {_numbers_of(seen)}"
        )
        return text + ("; its stack:\n" + stack.rstrip() if stack else "; it gave no stack")


def without_engine(stack: str) -> str:
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
