"""Tasks and workers as the dispatcher of a pool knows them; plain data, changed by the dispatcher alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..program.program import Orders
from .intervals import Intervals


@dataclass(slots=True, eq=False)
class Task:
    """The numbers `start .. stop - 1` for one worker; `open` are those it has not answered."""

    id: int
    start: int
    stop: int
    worker: str
    orders: Orders
    since: float
    open: Intervals


@dataclass(slots=True, eq=False)
class WorkerLoad:
    """A worker as its dispatcher sees it."""

    name: str
    tasks: dict[int, Task] = field(default_factory=dict)
    load: int = 0  #: numbers it works on, without those that wait for a retry
    parked: int = 0
    answered: int = 0
    leaving: bool = False
    isolated: bool = False  #: whether it has a suspect, and nothing else until that is answered
